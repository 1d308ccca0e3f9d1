"""Whether a client, which has nothing to say, floods us: its frames counted, and the parts of its unfinished message.

The protocol library bounds the bytes of a message only: fragments without any are kept and cost work all the same. Owns
the count and the bounds; every rule of the protocol is still the library's, and what follows is the caller's. Pure.
"""

from typing import NamedTuple

from relay.net.limiter import TokenBucket

# A client answers a ping every 30 seconds. A read counts as a frame at least, so that crumbs of one count as well.
FRAMES_PER_SECOND = 100
FRAMES_BURST = 1_000
PARTS_MAX = 1_000  # of one message: its fragments, cut again at the borders of reads

_CONTINUATION, _CONTROL = 0x0, 0x8
_LENGTH_BYTES = {126: 2, 127: 8}
_MASK_BYTES = 4


class _Frame(NamedTuple):
    opcode: int
    size: int  # with its header


def _read_frame(data: bytes, at: int) -> _Frame | None:
    """The frame that begins there; None while its length is not there yet."""
    if len(data) - at < 2:
        return None
    length = data[at + 1] & 0x7F
    length_bytes = _LENGTH_BYTES.get(length, 0)
    if length_bytes:
        if len(data) - at < 2 + length_bytes:
            return None
        length = int.from_bytes(data[at + 2 : at + 2 + length_bytes])
    return _Frame(data[at] & 0x0F, 2 + length_bytes + _MASK_BYTES + length)


class FloodCount:
    """What one client sends, counted."""

    __slots__ = ("_bucket", "_is_data", "_parts", "_rest", "_skip_bytes")

    def __init__(self, now: float) -> None:
        self._bucket = TokenBucket(FRAMES_PER_SECOND, FRAMES_BURST, now)
        self._rest = b""  # the beginning of a header
        self._skip_bytes = 0  # of a frame that is not whole yet
        self._is_data = False  # that frame
        self._parts = 0

    def is_flooding(self, data: bytes | bytearray, now: float) -> bool:
        """Count what one read brought; whether that, with all before it, is too much."""
        frames = self._count(bytes(data))
        return not self._bucket.take(now, max(1, frames)) or self._parts > PARTS_MAX

    def _count(self, data: bytes) -> int:
        if self._skip_bytes and self._is_data:
            self._parts += 1
        data = self._rest + data
        at, frames = self._skip_bytes, 0
        while (frame := _read_frame(data, at)) is not None:
            frames += 1
            self._is_data = not frame.opcode & _CONTROL
            if self._is_data:
                self._parts = self._parts + 1 if frame.opcode == _CONTINUATION else 1
            at += frame.size
        self._rest = data[at:]
        self._skip_bytes = max(0, at - len(data))
        return frames
