"""What a client may say: frames counted whatever the reads, and the parts of one message."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from relay.net.flood import FRAMES_BURST, FRAMES_PER_SECOND, PARTS_MAX, FloodCount
from tests.net.frames import BINARY, CONTINUATION, PING, PONG, TEXT, frame

MASK = b"mask"
EMPTY = frame(TEXT, mask=MASK)

_SIZES = st.sampled_from([0, 1, 125, 126, 65_535, 65_536])
_FRAMES = st.builds(
    lambda opcode, size: frame(opcode, bytes(size), mask=MASK), st.sampled_from([TEXT, BINARY, PONG, PING]), _SIZES
)


@given(st.lists(_FRAMES, max_size=6), st.lists(st.integers(0, 400_000), max_size=12))
def test_a_frame_is_found_in_whatever_pieces_it_comes(frames: list[bytes], cuts: list[int]) -> None:
    """After them and their reads exactly the rest of the burst is left."""
    wire = b"".join(frames)
    borders = [0, *sorted({cut % (len(wire) + 1) for cut in cuts}), len(wire)]
    count = FloodCount(0.0)
    for at, end in pairwise(borders):
        assert not count.is_flooding(wire[at:end], 0.0)
    left = FRAMES_BURST
    heads = [sum(map(len, frames[:number])) for number in range(len(frames))]
    # A frame counts with the read that ends its opcode and length.
    ends = [head + 2 + {126: 2, 127: 8}.get(wire[head + 1] & 0x7F, 0) for head in heads]
    for at, end in pairwise(borders):
        left -= max(1, sum(at < known <= end for known in ends))
    assert not count.is_flooding(EMPTY * left, 0.0)
    assert count.is_flooding(EMPTY, 0.0)


def test_a_hundred_frames_a_second_are_no_flood() -> None:
    count = FloodCount(0.0)
    for second in range(600):
        assert not count.is_flooding(EMPTY * FRAMES_PER_SECOND, float(second))


def test_twice_as_many_are_a_flood_once_the_burst_is_used_up() -> None:
    count = FloodCount(0.0)
    seconds = next(second for second in range(600) if count.is_flooding(EMPTY * 2 * FRAMES_PER_SECOND, float(second)))
    assert seconds == FRAMES_BURST // FRAMES_PER_SECOND - 1


def test_crumbs_count_as_frames() -> None:
    count = FloodCount(0.0)
    wire = frame(BINARY, bytes(FRAMES_BURST), mask=MASK)
    assert [count.is_flooding(wire[at : at + 1], 0.0) for at in range(FRAMES_BURST + 1)].index(True) == FRAMES_BURST


def test_fragments_are_a_flood_however_slowly_they_come() -> None:
    count = FloodCount(0.0)
    assert not count.is_flooding(frame(BINARY, fin=False, mask=MASK), 0.0)
    fragment = frame(CONTINUATION, fin=False, mask=MASK)
    seconds = next(second for second in range(10_000) if count.is_flooding(fragment, float(second)))
    assert seconds == PARTS_MAX - 1


def test_a_client_that_says_a_little_for_ever_never_floods() -> None:
    """Messages in fragments with pings in between, in reads that cut every frame: each message begins anew."""
    count = FloodCount(0.0)
    message = (
        frame(BINARY, b"begin", fin=False, mask=MASK)
        + frame(PING, b"ping", mask=MASK)
        + frame(CONTINUATION, b"end", mask=MASK)
        + frame(PONG, b"pong", mask=MASK)
    )
    for second in range(2 * PARTS_MAX):
        for at in range(0, len(message), 4):
            assert not count.is_flooding(message[at : at + 4], float(second))
