"""A CAR v1 writer for slices (protocol.md section 5). Reads nothing."""

from collections.abc import Iterable

from relay.world.dagcbor import Link, encode


def car_slice(root: Link, blocks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Header with one root, then the `(cid, block)` pairs in the given order."""
    header = encode({"roots": [root], "version": 1})
    sections = [varint(len(header)), header]
    for cid, block in blocks:
        sections += (varint(len(cid) + len(block)), cid, block)
    return b"".join(sections)


def varint(number: int) -> bytes:
    """Unsigned LEB128 in its minimal form."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
