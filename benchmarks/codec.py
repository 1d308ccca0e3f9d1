"""How long it takes to read and write one frame: bytes to event, event to template, slice to verified blocks.

Without `--frames`, on 200 made-up commits of one op, ten blocks and about 5.5 kB, the size of the network's. With the
figures of this file's first run (a bare signature check at 30 us), frame, event and template together took half of
one, and so did the slice.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.yardstick import Timed, arguments, bare_verify, copying, hashing, measure, report
from relay.protocol import cbor
from relay.protocol.car import parse_car
from relay.protocol.cid import cid_of
from relay.protocol.events import parse_event
from relay.protocol.frame import MessageFrame, parse_frame, template
from relay.world.corpus import read_frames

SEQ = 17_900_000_000_000  # as wide as the seqs of a real log


def made_up_commits(count: int = 200, **more: Any) -> list[bytes]:
    """Frames of the usual shape, each different; their slices are CARs but their blocks mean nothing."""
    rng = Random("codec")
    frames = []
    for number in range(count):
        blocks = [rng.randbytes(rng.randrange(300, 650)) for _ in range(10)]
        links = [cbor.Link(cid_of(block)) for block in blocks]
        header = cbor.encode({"roots": [links[-1]], "version": 1})
        sections = [_varint(36 + len(block)) + link + block for link, block in zip(links, blocks, strict=True)]
        payload = {
            "ops": [
                {"cid": links[0], "path": f"app.bsky.feed.like/3kxyz{number:09o}".translate(_TID), "action": "create"}
            ],
            "rev": f"3kxyz{number:08o}".translate(_TID),
            "seq": 10_000_000_000 + number,
            "repo": "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
            "time": "2026-11-22T08:51:38.428Z",
            "blobs": [],
            "since": "3kxyz2abcdd2a",
            "blocks": bytes([len(header)]) + header + b"".join(sections),
            "commit": links[-1],
            "rebase": False,
            "tooBig": False,
            "prevData": links[1],
        }
        frames.append(cbor.encode({"t": "#commit", "op": 1}) + cbor.encode(payload | more))
    return frames


_TID = str.maketrans("01", "zy")  # to characters that a TID may have


def _varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80, value >> 7])


def recorded_commits(path: Path, ops: int | None) -> list[bytes]:
    """The `#commit` frames of a recording, of `ops` ops if given."""
    commits = []
    for message in read_frames(path):
        frame = parse_frame(message)
        if isinstance(frame, MessageFrame) and frame.type == "#commit" and ops in (None, len(frame.payload["ops"])):
            commits.append(message)
    return commits


def each(function: Callable[..., object], *columns: Sequence[Any]) -> Callable[[], None]:
    """An operation that calls `function` once for every row of `columns`."""

    def run() -> None:
        for row in zip(*columns, strict=True):
            function(*row)

    return run


def whole(message: bytes) -> None:
    """What ingest does with a frame here: read it, check its schema, make its template."""
    frame = parse_frame(message)
    assert isinstance(frame, MessageFrame)
    parse_event(frame, allow_localhost=True)
    template(frame.type, frame.payload)


def timed(messages: Sequence[bytes]) -> list[Timed]:
    frames = [frame for frame in map(parse_frame, messages) if isinstance(frame, MessageFrame)]
    slices = [frame.payload["blocks"] for frame in frames]
    blocks = [block for one in slices for block in parse_car(one).blocks.values()]
    templates = [template(frame.type, frame.payload) for frame in frames]
    seqs = [SEQ] * len(frames)
    ambiguous = made_up_commits(like_a_cid=cid_of(b""))
    count = len(messages)
    verify = "bare_verify"
    return [
        bare_verify(),
        hashing(blocks, count),
        copying(messages),
        Timed("frame_event_template", each(whole, messages), count, verify),
        Timed("parse_frame", each(parse_frame, messages), count, verify),
        Timed("parse_event", each(lambda frame: parse_event(frame, allow_localhost=True), frames), count, verify),
        Timed("template", each(lambda frame: template(frame.type, frame.payload), frames), count, verify),
        Timed("with_seq", each(lambda made, seq: made.with_seq(seq), templates, seqs), count, "memcpy"),
        Timed("parse_car", each(parse_car, slices), count, verify),
        Timed("parse_car_over_hashing", each(parse_car, slices), count, "sha256"),
        Timed("frame_event_template_ambiguous", each(whole, ambiguous), len(ambiguous), verify),
    ]


def main() -> None:
    parser = arguments("reading and writing one frame")
    parser.add_argument("--frames", type=Path, help="a recording of frames to use in place of made-up ones")
    parser.add_argument("--ops", type=int, help="of the recording only commits of this many ops")
    given = parser.parse_args()
    messages = recorded_commits(given.frames, given.ops) if given.frames else made_up_commits()
    if not given.json:
        sizes = sorted(map(len, messages))
        print(f"{len(messages)} commits, median {sizes[len(sizes) // 2]} bytes; microseconds per commit")
    report("codec", measure(timed(messages)), given)


if __name__ == "__main__":
    main()
