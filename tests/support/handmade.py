"""Frames and CAR slices written by hand, for tests of whoever reads them.

Everything is encoded by cbor2 alone, never by the code under test. CIDs are given as `link(...)` where tag 42 is meant.
"""

from hashlib import sha256
from typing import Any

import cbor2

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
REV = "3kxyz2abcde2a"
SINCE = "3kxyz2abcdd2a"
TIME = "2026-11-22T08:51:38.428Z"


def canonical(value: Any) -> bytes:
    """DAG-CBOR of a value whose links are `link(...)`."""
    return cbor2.dumps(value, canonical=True)


def cid(block: bytes) -> bytes:
    """The dag-cbor CID of a block."""
    return b"\x01\x71\x12\x20" + sha256(block).digest()


def link(cid_bytes: bytes) -> Any:
    """Tag 42 around a binary CID."""
    return cbor2.CBORTag(42, b"\x00" + cid_bytes)


def varint(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def section(name: bytes, block: bytes) -> bytes:
    """One block of a CAR under the CID `name`."""
    return varint(len(name) + len(block)) + name + block


def car(root: bytes, *blocks: bytes) -> bytes:
    """A CAR of one root and the given blocks, each under its true CID."""
    header = canonical({"roots": [link(root)], "version": 1})
    return varint(len(header)) + header + b"".join(section(cid(block), block) for block in blocks)


BLOCK = canonical({"made": "by hand"})
SLICE = car(cid(BLOCK), BLOCK)


def create(path: str = "app.bsky.feed.post/3kxyz2abcde2b") -> dict[str, Any]:
    """An op that creates a record."""
    return {"cid": link(cid(b"record")), "path": path, "action": "create"}


def commit_payload(**changes: Any) -> dict[str, Any]:
    """A `#commit` with every field as the lexicon has it, and `changes` to it."""
    fields = {
        "ops": [create()],
        "rev": REV,
        "seq": 1234,
        "repo": DID,
        "time": TIME,
        "blobs": [],
        "since": SINCE,
        "blocks": SLICE,
        "commit": link(cid(BLOCK)),
        "rebase": False,
        "tooBig": False,
        "prevData": link(cid(b"data before")),
    }
    return fields | changes


def sync_payload(**changes: Any) -> dict[str, Any]:
    return {"did": DID, "rev": REV, "seq": 1234, "time": TIME, "blocks": SLICE} | changes


def identity_payload(**changes: Any) -> dict[str, Any]:
    return {"did": DID, "seq": 1234, "time": TIME, "handle": "alice.example.com"} | changes


def account_payload(**changes: Any) -> dict[str, Any]:
    return {"did": DID, "seq": 1234, "time": TIME, "active": False, "status": "deactivated"} | changes


def info_payload(**changes: Any) -> dict[str, Any]:
    return {"name": "OutdatedCursor", "message": "the window starts later"} | changes


PAYLOADS = {
    "#commit": commit_payload,
    "#sync": sync_payload,
    "#identity": identity_payload,
    "#account": account_payload,
    "#info": info_payload,
}


def message(kind: str, payload: Any, **header: Any) -> bytes:
    """A whole frame; `header` adds keys to the header."""
    return canonical({"t": kind, "op": 1} | header) + canonical(payload)


def message_without(kind: str, key: str) -> bytes:
    """A whole frame of `kind` that lacks one key of its payload."""
    payload = PAYLOADS[kind]()
    del payload[key]
    return message(kind, payload)
