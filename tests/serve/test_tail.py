"""Pieces and the hot window as data, and the seam between log and memory under concurrent appends."""

import random
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol.frame import MessageFrame, iter_messages, message_header, parse_frame
from relay.serve.pieces import PIECE_BYTES_MAX, HotWindow, Piece, RecentReads, cut
from relay.store.policy import PURGED
from relay.store.read import LogSlice, Reader
from tests.support.fake_consumer import FakeConsumer, connect
from tests.support.log_writer import did_of
from tests.support.serving import Serving, serve

sizes = st.lists(st.sampled_from([0, 1, 125, 126, 5_000, 40_000, 65_535, 65_536, 200_000]), min_size=1, max_size=20)


def messages(first_seq: int, lengths: list[int]) -> bytes:
    """Stored messages whose bodies begin with their seq."""
    bodies = [str(seq).encode().ljust(length, b".") for seq, length in enumerate(lengths, first_seq)]
    return b"".join(message_header(len(body)) + body for body in bodies)


@given(sizes)
def test_cutting_keeps_every_byte_in_order_and_every_piece_small(lengths: list[int]) -> None:
    """Pieces are whole messages with the right seqs; only a piece of one message is larger than the bound."""
    data = messages(7, lengths)
    pieces = cut(LogSlice(7, 6 + len(lengths), len(lengths), data, 123))
    assert b"".join(piece.data for piece in pieces) == data
    assert [piece.first_seq for piece in pieces[1:]] == [piece.last_seq + 1 for piece in pieces[:-1]]
    assert (pieces[0].first_seq, pieces[-1].last_seq) == (7, 6 + len(lengths))
    for piece in pieces:
        held = list(iter_messages(piece.data))
        assert len(held) == piece.last_seq - piece.first_seq + 1
        assert held[0].startswith(str(piece.first_seq).encode())
        assert len(piece.data) <= PIECE_BYTES_MAX or len(held) == 1


@given(sizes, st.integers(0, 30))
def test_the_rest_of_a_piece_is_what_lies_above_a_position(lengths: list[int], position: int) -> None:
    data = messages(10, lengths)
    last = 9 + len(lengths)
    piece = Piece(10, last, 0, data)
    position = min(position, last - 1)
    rest = list(iter_messages(piece.after(position)))
    assert rest == list(iter_messages(data))[max(0, position - 9) :]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(0, 3)), max_size=40), st.integers(1, 200))
def test_a_hot_window_is_bounded_and_continues_every_position_it_covers(
    parts: list[tuple[int, int, int]], bytes_max: int
) -> None:
    """Whatever was added, with raises between: the piece after any position is the first one that ends above it."""
    hot = HotWindow(100, bytes_max)
    added: list[Piece] = []
    for count, size, gap in parts:
        first = hot.tip_seq + 1 + gap
        piece = Piece(first, first + count - 1, 0, b"x" * size)
        added.append(piece)
        hot.add([piece])
        kept = [each for each in added if each.last_seq > hot.after_seq]
        assert sum(len(each.data) for each in kept) <= bytes_max or len(kept) == 1
        for position in range(hot.after_seq, hot.tip_seq + 3):
            assert hot.next_piece(position) == next((each for each in kept if each.last_seq > position), None)


def test_a_window_that_goes_backwards_is_our_own_fault() -> None:
    hot = HotWindow(100, 1000)
    with pytest.raises(AssertionError):
        hot.add([Piece(100, 100, 0, b"x")])


@pytest.mark.parametrize("seed", range(3))
async def test_no_gap_and_no_duplicate_at_the_seam_under_concurrent_appends(tmp_path: Path, seed: int) -> None:
    """Checklist 37, 42: consumers that come at any moment with any cursor get exactly the stored frames above it."""
    rng = random.Random(seed)
    async with serve(tmp_path, hot_bytes=20_000, read_bytes=4_000, per_address=100) as serving:
        serving.log.append(20, pad_bytes=500)
        total = 20 + 60 * 10
        last = serving.log.tip + 60 * 10

        async def consume(cursor: int) -> None:
            async with connect(serving.port, f"?cursor={cursor}") as consumer:
                frames = await consumer.frames(last - cursor)
            assert frames == [serving.log.frames[seq] for seq in range(cursor + 1, last + 1)]

        async with trio.open_nursery() as nursery:
            for _ in range(60):
                serving.log.append(10, pad_bytes=rng.randrange(800))
                nursery.start_soon(
                    consume, rng.randrange(serving.log.tip - len(serving.log.frames), serving.log.tip + 1)
                )
                for _ in range(rng.randrange(3)):
                    await trio.lowlevel.checkpoint()
                if rng.random() < 0.3:
                    await trio.sleep(0.003)
        assert len(serving.log.frames) == total


async def test_one_event_followed_by_silence_arrives(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    """Again and again after silences of any length, each within a tenth of a second."""
    async with serve(tmp_path) as serving, serving.connect() as one, serving.connect() as other:
        for silence in (0.0, 0.01, 0.3, 5.0, 20.0, 0.049, 0.051):
            await trio.sleep(silence)
            serving.log.append()
            with trio.fail_after(0.1):
                assert await one.seqs(1) == await other.seqs(1) == [serving.log.tip]


async def test_replays_do_not_delay_the_tip(tmp_path: Path) -> None:
    """Checklist 44: with twenty full replays under way a live consumer gets each event long before they are done."""
    async with serve(tmp_path, hot_bytes=1 << 16, per_address=100) as serving:
        for _ in range(40):
            serving.log.append(100, pad_bytes=2_000)
        held = len(serving.log.frames)
        replayed: list[int] = []

        async def replay(task_status: trio.TaskStatus[None]) -> None:
            async with connect(serving.port, "?cursor=0") as consumer:
                await consumer.frames(1)
                task_status.started()
                for _ in range(held - 1):
                    await consumer.frames(1)
            replayed.append(held)

        async with connect(serving.port) as live, trio.open_nursery() as nursery:
            for _ in range(20):
                await nursery.start(replay)
            for _ in range(5):
                serving.log.append()
                assert await live.seqs(1) == [serving.log.tip]
            assert len(replayed) < 20


async def test_replays_take_turns_and_share_reads(tmp_path: Path) -> None:
    """However many are behind, a pass of the scheduler does one read; those at one place need one read for all."""
    reads: list[int] = []

    class CountedReader(Reader):
        def read(self, after_seq: int, bytes_max: int) -> LogSlice | None:
            reads.append(after_seq)
            return super().read(after_seq, bytes_max)

    most = done = 0
    async with serve(tmp_path) as serving, trio.open_nursery() as nursery:
        serving.log.append(400, pad_bytes=1000)
        start = serving.log.tip - 400
        tail = serving.worker.tail

        async def replay(place: int) -> None:
            nonlocal done
            reader, position = CountedReader(serving.store._log), start + place
            while position < serving.log.tip:
                async with tail.turn:
                    position = tail.read_behind(reader, position, 50_000)[-1].last_seq
            done += 1

        for number in range(20):
            nursery.start_soon(replay, number % 5)
        while done < 20:
            before = len(reads)
            await trio.lowlevel.checkpoint()
            most = max(most, len(reads) - before)
    assert most in {1, 2}  # two lie between two of our turns
    assert len(reads) <= 20, "400 kB in reads of 50 kB, with a few more until all are at one position"


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 8)), max_size=30), st.integers(1, 400))
def test_recent_reads_are_bounded_and_continue_a_position_exactly(reads: list[tuple[int, int]], bytes_max: int) -> None:
    recent = RecentReads(bytes_max)
    for first, count in reads:
        recent.add([Piece(seq, seq + 1, 0, b"x" * 10) for seq in range(first, first + 2 * count, 2)])
        held = [piece for pieces in recent._reads for piece in pieces]
        assert sum(len(piece.data) for piece in held) <= max(bytes_max, 10 * count)
        for position in range(-1, 80):
            found = recent.after(position)
            assert not found or found[0].first_seq - 1 <= position < found[0].last_seq
            assert bool(found) == any(each[0].first_seq - 1 <= position < each[-1].last_seq for each in recent._reads)


async def test_a_worker_that_slept_through_the_window_goes_on(tmp_path: Path) -> None:
    """The tail itself was overtaken by retention: its consumer is told so, the next one starts at the tip."""
    async with serve(tmp_path) as serving, connect(serving.port) as consumer:
        serving.log.append()
        await consumer.frames(1)
        hours_ms = 80 * 3_600_000
        for _ in range(3):
            serving.log.append(after_ms=hours_ms)  # without a checkpoint: nothing of the worker runs meanwhile
        assert serving.store.retain() == 3
        _, closed = await consumer.rest()
        assert closed.reason == "ConsumerTooSlow"
        await _follows(serving)


async def _follows(serving: Serving) -> None:
    consumer: FakeConsumer
    async with connect(serving.port) as consumer:
        serving.log.append()
        assert await consumer.seqs(1) == [serving.log.tip]


async def test_what_a_worker_holds_in_memory_is_purged_too(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A consumer that comes with a cursor after the purge gets what the log holds by then, operator or not."""
    async with serve(tmp_path) as serving:
        store = serving.store
        (seq,) = serving.log.append(1, pad_bytes=100)
        async with serving.connect(f"?cursor={seq - 1}") as consumer:
            assert await consumer.frames(1) == [serving.log.frames[seq]]
        for name in store.seal():
            assert store.purge_segment(name, (did_of(0),))
        store.set_policy(PURGED, b"1")
        await trio.sleep(3)
        async with serving.connect(f"?cursor={seq - 1}") as consumer:
            (purged,) = await consumer.frames(1)

    frame = parse_frame(purged)
    assert isinstance(frame, MessageFrame)
    assert (frame.payload["seq"], frame.payload["status"], "pad" in frame.payload) == (seq, "takendown", False)
