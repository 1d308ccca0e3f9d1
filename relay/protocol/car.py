"""The CAR v1 slice inside `blocks` of `#commit` and `#sync` (protocol.md section 5).

Owns the container: header, sections, and that every block hashes to the CID it is filed under. Knows nothing about what
the blocks are; whether the root is there, belongs to the event, or a record is too big is judged in `relay.verify`.

Rulings. A section's CID is CIDv1 of SHA-256 with codec dag-cbor or raw, 36 bytes. Raw blocks are blobs and have no
place in a slice, but a stray block is to be tolerated (checklist 100) and cannot be taken for a record, commit or node,
which are looked up by all 36 bytes. Any other kind of CID makes the slice invalid: its block could not be verified, and
every block must be (checklist 101). The root must be dag-cbor, since it is a commit. Further roots mean nothing here.
"""

from hashlib import sha256
from typing import NamedTuple

from relay.protocol import cbor
from relay.protocol.cid import CID_BYTES, DAG_CBOR_PREFIX, RAW_PREFIX, is_dag_cbor_cid
from relay.protocol.errors import BlockHashMismatch, CarError, CborError

# varint 58, then {"roots": [tag 42 of 00 and a dag-cbor CID, whose digest follows], "version": 1}: nearly every header.
_ONE_ROOT_START = b"\x3a\xa2\x65roots\x81\xd8\x2a\x58\x25\x00" + DAG_CBOR_PREFIX
_ONE_ROOT_END = b"\x67version\x01"
_ONE_ROOT_BYTES = 59
_ROOT_AT = len(_ONE_ROOT_START) - len(DAG_CBOR_PREFIX)
_ROOT_END = _ROOT_AT + CID_BYTES
_VARINT_BYTES_MAX = 9  # 63 bits, as in all of multiformats


class CarSlice(NamedTuple):
    """A verified slice: `root` is the first root, 36 bytes; `blocks` maps 36-byte CIDs to bytes that hash to them."""

    root: bytes
    blocks: dict[bytes, bytes]


def parse_car(data: bytes) -> CarSlice:
    """Split and verify a slice. Any order of blocks, duplicates and strays are fine; no blocks at all too.

    Raises `CarError`, of it `BlockHashMismatch` when only a hash is wrong.
    """
    root, at = _parse_header(data)
    size = len(data)
    blocks: dict[bytes, bytes] = {}
    while at < size:
        length = data[at]
        if length < 0x80:
            at += 1
        elif at + 1 < size and 0 < data[at + 1] < 0x80:  # two bytes, as nearly all nodes and records have
            length += (data[at + 1] << 7) - 0x80
            at += 2
        else:
            length, at = _parse_varint(data, at)
        end = at + length
        block_at = at + CID_BYTES
        if end > size or block_at > end:
            raise CarError("a section is cut short" if end > size else "a section is shorter than a CID")
        cid = data[at:block_at]
        block = data[block_at:end]
        if cid[4:] != sha256(block).digest() or cid[:4] != DAG_CBOR_PREFIX:
            _judge_uncommon(cid, block)
        blocks[cid] = block
        at = end
    return CarSlice(root, blocks)


def _judge_uncommon(cid: bytes, block: bytes) -> None:
    if not cid.startswith((DAG_CBOR_PREFIX, RAW_PREFIX)):
        raise CarError("a block under a CID that is not CIDv1 of SHA-256 over dag-cbor or raw")
    if cid[4:] != sha256(block).digest():
        raise BlockHashMismatch("a block does not hash to its CID")


def _parse_header(data: bytes) -> tuple[bytes, int]:
    """The first root and the offset of the first section."""
    if data.startswith(_ONE_ROOT_START) and data[_ROOT_END:_ONE_ROOT_BYTES] == _ONE_ROOT_END:
        return data[_ROOT_AT:_ROOT_END], _ONE_ROOT_BYTES
    length, at = _parse_varint(data, 0)
    if length > len(data) - at:
        raise CarError("the header is cut short")
    try:
        header = cbor.decode(data[at : at + length])
    except CborError as error:
        raise CarError(f"the header is not DAG-CBOR: {error}") from error
    if type(header) is not dict:
        raise CarError("the header is not a map")
    version, roots = header.get("version"), header.get("roots")
    if type(version) is not int or version != 1:
        raise CarError("not version 1")
    if type(roots) is not list or not roots or any(type(root) is not cbor.Link for root in roots):
        raise CarError("roots is not an array of at least one CID")
    if not is_dag_cbor_cid(roots[0]):
        raise CarError("the root is not a dag-cbor CID")
    return bytes(roots[0]), at + length


def _parse_varint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number in its shortest form, and the offset behind it."""
    value = 0
    for index, byte in enumerate(data[at : at + _VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if byte == 0 and index:
                raise CarError("a varint is not in its shortest form")
            return value, at + index + 1
    raise CarError("a varint is cut short or too long")
