"""Frames: one WebSocket message of `subscribeRepos`, read and written (protocol.md sections 2.3 and 3).

Owns the stream's path, a frame's two items, the template that `append` puts our seq into, and the server's WebSocket
header under which frames are stored. What the payload of a message must hold is the matter of `relay.protocol.events`.

`parse_frame` raises `FramingError` for whatever ends a connection: not exactly two items of strict DAG-CBOR, not two
maps, no usable `op` or `t`. The same strictness holds for keys and types that we do not know, because they are passed
on, and what we emit is canonical.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from relay.protocol import cbor, limits
from relay.protocol.errors import CborError, FramingError
from relay.protocol.syntax import format_datetime, is_handle

STREAM_PATH = "/xrpc/com.atproto.sync.subscribeRepos"
MESSAGE_TYPES = ("#commit", "#sync", "#identity", "#account", "#info")
_OP_MESSAGE = 1
_OP_ERROR = -1

_HEADERS = {kind: cbor.encode({"t": kind, "op": _OP_MESSAGE}) for kind in MESSAGE_TYPES}
_KINDS = {header: kind for kind, header in _HEADERS.items()}
_ERROR_HEADER = cbor.encode({"op": _OP_ERROR})
# a2 61 't' 6N, N bytes of type, 62 'o' 'p' 01: the fourth byte tells how long the whole header is.
_HEADER_BYTES_AROUND_TYPE = 8 - 0x60

_SEQ_BYTES_MAX = 9
# Deprecated fields that the lexicon still requires: producers send these values, consumers ignore them (checklist 62).
_NORMALISED: dict[str, dict[str, Any]] = {"#commit": {"rebase": False, "tooBig": False, "blobs": []}}


class MessageFrame(NamedTuple):
    """A message of a type we know. `payload` holds CIDs as `cbor.Link`; any unknown keys are still in it."""

    type: str
    payload: dict[str, Any]


class ErrorFrame(NamedTuple):
    """The upstream ends the stream and says why. `error` is empty if the payload does not name one as it should."""

    error: str
    message: str | None


class UnknownFrame(NamedTuple):
    """A frame to be ignored: an `op` we do not know, or `op` 1 with a type we do not know (checklist 20, 21)."""

    op: int
    type: str | None


class FrameTemplate(NamedTuple):
    """A frame without its seq: everything before the number, and everything after it."""

    head: bytes
    tail: bytes

    @property
    def frame_bytes_max(self) -> int:
        """The most bytes that the frame can have, whatever its seq."""
        return len(self.head) + _SEQ_BYTES_MAX + len(self.tail)

    def with_seq(self, seq: int) -> bytes:
        """The whole frame, header and payload, numbered `seq` (1..2**53-1)."""
        return b"%b%b%b" % (self.head, _uint(seq), self.tail)


def parse_frame(message: bytes) -> MessageFrame | ErrorFrame | UnknownFrame:
    """Read one binary message. Raises `FramingError`; the connection it came from is not to be trusted further."""
    if len(message) > limits.MESSAGE_BYTES_MAX:
        raise FramingError("larger than a message may be")
    try:
        start = message[3] + _HEADER_BYTES_AROUND_TYPE
        kind = _KINDS.get(message[:start])
        if kind is None:
            start = cbor.item_end(message)
        payload = cbor.decode(message[start:], wide="seq")
        if type(payload) is not dict:
            raise FramingError("the payload is not a map")
        if kind is not None:
            return MessageFrame(kind, payload)
        return _by_header(cbor.decode(message[:start]), payload)
    except IndexError as error:
        raise FramingError("too short for a frame") from error
    except CborError as error:
        raise FramingError(f"not DAG-CBOR: {error}") from error


def _by_header(header: Any, payload: dict[str, Any]) -> MessageFrame | ErrorFrame | UnknownFrame:
    """For a header that is none of the usual ones: errors, unknown types, and known types with unknown keys."""
    if type(header) is not dict:
        raise FramingError("the header is not a map")
    op, kind = header.get("op"), header.get("t")
    if type(op) is not int:
        raise FramingError("the header has no integer `op`")
    if op == _OP_ERROR:
        error, text = payload.get("error"), payload.get("message")
        return ErrorFrame(error if type(error) is str else "", text if type(text) is str else None)
    if op != _OP_MESSAGE:
        return UnknownFrame(op, kind if type(kind) is str else None)
    if type(kind) is not str:
        raise FramingError("the header of a message has no text `t`")
    return MessageFrame(kind, payload) if kind in _HEADERS else UnknownFrame(op, kind)


def template(
    kind: str, payload: Mapping[str, Any], *, overrides: Mapping[str, Any] | None = None, without: Iterable[str] = ()
) -> FrameTemplate:
    """What we emit for a payload as `parse_frame` gave it: the same, canonical, with our seq to come.

    Unknown keys survive. Deprecated fields are normalised, `$type` goes, and so does a `handle` of invalid syntax
    (design section 5). Then `overrides` are set and the keys in `without` left out.
    """
    fields = {**payload, **_NORMALISED.get(kind, {}), **(overrides or {})}
    if kind == "#identity" and not (type(handle := fields.get("handle")) is str and is_handle(handle)):
        fields.pop("handle", None)
    for key in ("$type", *without):
        fields.pop(key, None)
    head, tail = cbor.encode_around(fields, "seq")
    return FrameTemplate(_HEADERS[kind] + head, tail)


def account_frame(did: str, time_ms: int, active: bool, status: str | None) -> FrameTemplate:
    """An `#account` of our own making; `status` None leaves the key out (protocol.md 3.4)."""
    payload = {"did": did, "time": format_datetime(time_ms), "active": active}
    return template("#account", payload if status is None else {**payload, "status": status})


def info_frame(name: str, message: str | None = None) -> bytes:
    """An `#info`, which has no seq and is never stored (checklist 40)."""
    return _HEADERS["#info"] + cbor.encode({"name": name} if message is None else {"name": name, "message": message})


def error_frame(error: str, message: str | None = None) -> bytes:
    """The last frame before a close. `error` is a bare name such as `FutureCursor` (checklist 10)."""
    return _ERROR_HEADER + cbor.encode({"error": error} if message is None else {"error": error, "message": message})


def message_header(length: int) -> bytes:
    """The header of an unmasked, final, binary WebSocket message of `length` bytes: 2, 4 or 10 bytes (RFC 6455)."""
    if length <= 125:
        return bytes((0x82, length))
    if length <= 0xFFFF:
        return b"\x82\x7e" + length.to_bytes(2, "big")
    return b"\x82\x7f" + length.to_bytes(8, "big")


def message_bounds(data: bytes, offset: int) -> tuple[int, int]:
    """Where the frame of the stored message at `offset` starts and ends.

    For our own data, written with `message_header` back to back: anything else is an `AssertionError`.
    """
    start = offset + 2
    length = data[offset + 1] if start <= len(data) else 0
    if length > 125:
        width = 2 if length == 126 else 8
        length = int.from_bytes(data[start : start + width], "big")
        start += width
    end = start + length
    if end > len(data) or data[offset] != 0x82:
        raise AssertionError(f"no whole binary message at byte {offset} of {len(data)}")
    return start, end


def iter_messages(data: bytes) -> Iterator[bytes]:
    """The frames of stored messages, without their WebSocket headers."""
    offset = 0
    while offset < len(data):
        start, offset = message_bounds(data, offset)
        yield data[start:offset]


def skip_messages(data: bytes, offset: int, count: int) -> int:
    """The offset behind `count` stored messages, counted from the one at `offset`."""
    for _ in range(count):
        _, offset = message_bounds(data, offset)
    return offset


def fit_messages(data: bytes, offset: int, bytes_max: int) -> tuple[int, int]:
    """`(end, count)` of the whole stored messages from `offset` on that lie in the next `bytes_max` bytes.

    The same walk as `message_bounds` in one loop: a replay goes over every message of the log, and calls cost more than
    what they do. An `AssertionError` for anything but our own data.
    """
    size = len(data)
    limit = min(size, offset + bytes_max)
    end, count = offset, 0
    while end + 2 <= limit:
        length = data[end + 1]
        following = end + 2 + length
        if length == 126:
            following = end + 4 + int.from_bytes(data[end + 2 : end + 4], "big")
        elif length == 127:
            following = end + 10 + int.from_bytes(data[end + 2 : end + 10], "big")
        if data[end] != 0x82 or following > size:
            raise AssertionError(f"no whole binary message at byte {end} of {size}")
        if following > limit:
            break
        end, count = following, count + 1
    return end, count


def _uint(value: int) -> bytes:
    """A non-negative integer in its shortest form (major type 0)."""
    assert 0 <= value <= limits.SEQ_MAX, value
    if value > 0xFFFF_FFFF:  # the usual case: a log starts at ten times the unix milliseconds
        return b"\x1b" + value.to_bytes(8, "big")
    return cbor.encode(value)
