"""Canonical DAG-CBOR by the shortest road, and the CID of a block (protocol.md sections 6 and 7).

Encodes only; owns no schema. Written apart from `relay.protocol.cbor` on purpose: a fault in one shows in the other.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence

CID_PREFIX = b"\x01\x71\x12\x20"
"""CIDv1, dag-cbor, SHA-256 of 32 bytes."""

_SIMPLE = {False: b"\xf4", True: b"\xf5", None: b"\xf6"}
_WIDTHS = ((24, 1), (25, 2), (26, 4), (27, 8))


class Link(bytes):
    """A CID as a value: its 36 binary bytes, written as tag 42."""

    __slots__ = ()


Value = Mapping[str, "Value"] | Sequence["Value"] | str | bytes | int | None


def encode(value: Value) -> bytes:
    """`value` as one canonical item. Raises TypeError for what the atproto data model lacks, floats among them."""
    parts: list[bytes] = []
    _write(value, parts)
    return b"".join(parts)


def cid_of(block: bytes) -> Link:
    """The CID of a dag-cbor block, 36 bytes."""
    return Link(CID_PREFIX + hashlib.sha256(block).digest())


def cid_text(cid: bytes) -> str:
    """A CID in its text form: `b` and lower-case base32 without padding, 59 characters."""
    return "b" + base64.b32encode(cid).decode().lower().rstrip("=")


def head(major: int, number: int) -> bytes:
    """The head of an item: major type and its number in the shortest form."""
    if number < 24:
        return bytes((major << 5 | number,))
    for code, width in _WIDTHS:
        if number < 1 << (8 * width):
            return bytes((major << 5 | code,)) + number.to_bytes(width, "big")
    raise OverflowError(f"{number} does not fit 64 bits")


def link(cid: bytes) -> bytes:
    """A CID-link item: tag 42 around the CID with a zero byte before it."""
    return b"\xd8\x2a\x58\x25\x00" + cid


def _write(value: Value, parts: list[bytes]) -> None:
    match value:
        case None | bool():
            parts.append(_SIMPLE[value])
        case int():
            parts.append(head(0, value) if value >= 0 else head(1, -1 - value))
        case Link():
            parts.append(link(value))
        case bytes():
            parts += (head(2, len(value)), value)
        case str():
            text = value.encode()
            parts += (head(3, len(text)), text)
        case Mapping():
            parts.append(head(5, len(value)))
            for key, item in _in_order(value):
                parts += (head(3, len(key)), key)
                _write(item, parts)
        case Sequence():
            parts.append(head(4, len(value)))
            for item in value:
                _write(item, parts)
        case _:
            raise TypeError(f"{type(value).__name__} is not in the data model")


def _in_order(value: Mapping[str, Value]) -> list[tuple[bytes, Value]]:
    """Keys by encoded length first, then bytewise."""
    return sorted(((key.encode(), item) for key, item in value.items()), key=lambda pair: (len(pair[0]), pair[0]))
