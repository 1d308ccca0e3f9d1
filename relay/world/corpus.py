"""Frames in bulk: generated ones of the network's shape, and `.frames` files on disk.

The file format is that of recorded traffic: 4-byte big-endian length and the WebSocket message, repeated.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from relay.world.accounts import Document
from relay.world.network import Network, Shape

START_MS = 1_750_000_000_000
"""The time of the first generated frame: fixed, so that one seed gives one corpus, and never in the future."""

_EVENTS_PER_SECOND = 400


def frames_of_network_shape(
    seed: int,
    count: int,
    *,
    accounts: int = 100,
    pds: str = "http://localhost:2583",
) -> tuple[list[bytes], Mapping[str, Document]]:
    """`count` `#commit` frames of one host, seq 1 upwards, and the DID documents that verify them.

    The first commit of each account has a `prevData` although a relay has no state for it yet (design section 4).
    """
    network = Network(seed, [pds], accounts, START_MS, Shape(lifecycle=0))
    frames = []
    for seq in range(1, count + 1):
        now_ms = START_MS + seq * 1000 // _EVENTS_PER_SECOND
        (emission,) = network.step(now_ms)
        frames.append(emission.message.frame(seq, now_ms))
    return frames, network.directory.documents()


def read_frames(path: Path) -> Iterator[bytes]:
    """The messages of a `.frames` file in order. Raises EOFError when the file ends inside one."""
    with path.open("rb") as file:
        while prefix := file.read(4):
            frame = file.read(int.from_bytes(prefix, "big"))
            if len(prefix) < 4 or len(frame) < int.from_bytes(prefix, "big"):
                raise EOFError(f"{path} ends inside a frame")
            yield frame
