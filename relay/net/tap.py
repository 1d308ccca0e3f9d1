"""Whole binary WebSocket frames, cut off the bytes of a client connection before the protocol library sees them.

The library costs 34 µs a message in bursts, as much as a signature (design section 4), and nearly every message of a
firehose is one whole, unmasked, final binary frame, which needs none of its rules. Owns that cut and nothing else of
the protocol: control frames, fragments, text, and everything that breaks a rule go to the library byte for byte at
frame borders, and it stays the one that judges them. Pure: `relay.net.tap_stream` moves the bytes.
"""

from typing import NamedTuple

PASS_BYTES = 65_536  # one part of a passed-on frame
PARTS_MAX = 10_000  # of one passed-on message, each kept by the library: the largest has them at 500 bytes a read

_BINARY_WHOLE = 0x82  # FIN and opcode 2, no reserved bit
_CONTINUATION, _TEXT, _BINARY, _CLOSE = 0x0, 0x1, 0x2, 0x8
_OPCODES = frozenset({_CONTINUATION, _TEXT, _BINARY, _CLOSE, 0x9, 0xA})
_CONTROL = 0x8  # bit of the opcodes 8..15
_CONTROL_BYTES_MAX = 125


class _Header(NamedTuple):
    """One frame header. `broken`: no length can make it right, the library will refuse it (RFC 6455 section 5.2)."""

    opcode: int
    is_final: bool
    header_bytes: int
    payload_bytes: int
    broken: bool


def _read_header(buffer: bytearray) -> _Header | None:
    """The header at the front of `buffer`; None while it is incomplete."""
    if len(buffer) < 2:
        return None
    first, second = buffer[0], buffer[1]
    opcode, is_final, length, header_bytes = first & 0x0F, bool(first & 0x80), second & 0x7F, 2
    broken = bool(first & 0x70 or second & 0x80) or opcode not in _OPCODES  # reserved bits, mask
    if opcode & _CONTROL:
        broken = broken or not is_final or length > _CONTROL_BYTES_MAX
    if length > 125 and not broken:
        header_bytes, shortest = (4, 126) if length == 126 else (10, 65_536)
        if len(buffer) < header_bytes:
            return None
        length = int.from_bytes(buffer[2:header_bytes])
        broken = length < shortest or length >= 2**63
    return _Header(opcode, is_final, header_bytes, length, broken)


class FrameTap:
    """`feed` bytes, `cut` messages off the front, `pass_on` what is not for us to cut.

    Attributes:
        message_passed: the last `pass_on` ended with the last byte of a data message: that message must be taken from
            the library before anything else moves, or a later frame overtakes it.
        ended: nothing is cut any more and the rest is the library's: a Close, a broken rule, or an oversize length.
        oversize: it ended because a message would exceed the bound, by its headers (fragments added up), or came in
            more than `PARTS_MAX` parts, since empty ones add up to nothing.
    """

    def __init__(self, message_bytes_max: int) -> None:
        self._message_bytes_max = message_bytes_max
        self._buffer = bytearray()
        self._passing_bytes = 0  # of the frame at the front, still to be passed on
        self._ends_message = False  # that frame is the last of a data message
        self._inside = False  # a fragmented message has begun and not ended
        self._inside_bytes = 0
        self._parts = 0  # passed on of that message, or of the frame at the front, control frames between included
        self.message_passed = False
        self.ended = False
        self.oversize = False

    def feed(self, data: bytes | bytearray) -> None:
        """Add bytes. Fed only when nothing is left to cut or pass on, it holds at most one message."""
        self._buffer += data

    def cut(self) -> list[bytes]:
        """All whole, unmasked, final binary messages at the front, in order; none inside a passed-on message."""
        if self._passing_bytes or self._inside or self.ended:
            return []
        messages: list[bytes] = []
        buffer, length_max = self._buffer, self._message_bytes_max
        size, at = len(buffer), 0
        with memoryview(buffer) as view:
            while size - at >= 2 and buffer[at] == _BINARY_WHOLE:
                length = buffer[at + 1]
                if length < 126:
                    start = at + 2
                elif length == 126 and size - at >= 4:
                    start = at + 4
                    length = buffer[at + 2] << 8 | buffer[at + 3]
                    if length < 126:
                        break
                elif length == 127 and size - at >= 10:
                    start = at + 10
                    length = int.from_bytes(view[at + 2 : start])
                    if length < 65_536:
                        break
                else:
                    break
                end = start + length
                if end > size or length > length_max:
                    break
                messages.append(bytes(view[start:end]))
                at = end
        if at:
            del buffer[:at]
        return messages

    def pass_on(self) -> bytes:
        """The next bytes for the library, after `cut` has cut: at most `PASS_BYTES`, never beyond a frame's border.

        Empty when more bytes must be fed first, and when `ended` (`take` then gives the rest).
        """
        self.message_passed = False
        if not self._passing_bytes and (self.ended or not self._begin_passing()):
            return b""
        if self._parts == PARTS_MAX:
            self.ended = self.oversize = True
            return b""
        part = self.take(min(self._passing_bytes, PASS_BYTES))
        self._parts += bool(part)
        self._passing_bytes -= len(part)
        self.message_passed = self._ends_message and not self._passing_bytes
        return part

    def take(self, bytes_max: int) -> bytes:
        """Up to `bytes_max` bytes off the front, whatever they are."""
        part = bytes(self._buffer[:bytes_max])
        del self._buffer[:bytes_max]
        return part

    def _begin_passing(self) -> bool:
        """Judge the frame at the front. False: incomplete, for `cut`, or the end."""
        header = _read_header(self._buffer)
        if header is None:
            return False
        is_control = bool(header.opcode & _CONTROL)
        out_of_order = not is_control and self._inside != (header.opcode == _CONTINUATION)
        if header.broken or out_of_order or header.opcode == _CLOSE:
            self.ended = True
            return False
        if not self._inside:
            self._parts = 0
        if is_control:
            self._ends_message = False
        else:
            message_bytes = self._inside_bytes + header.payload_bytes
            if message_bytes > self._message_bytes_max:
                self.ended = self.oversize = True
                return False
            if header.opcode == _BINARY and header.is_final:
                return False  # one for `cut`, once the rest of it is here
            self._inside = not header.is_final
            self._inside_bytes = 0 if header.is_final else message_bytes
            self._ends_message = header.is_final
        self._passing_bytes = header.header_bytes + header.payload_bytes
        return True
