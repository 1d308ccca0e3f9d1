"""The commit object of repo format 3 (protocol.md section 9): its fields, and the bytes that its signature covers.

Owns reading a commit block. Whether it belongs to the event is judged in `relay.verify.commit`, the signature in
`relay.verify.signature`: a `sig` of any length is read here, so that one of the wrong length is called what it is.

The signature covers the canonical map without `sig`, unknown keys included (checklist 128, 134). Nearly every commit
has just the six keys; there those bytes are the block's own with one key cut out and the map's count lowered, which one
regular expression finds. Everything else takes the strict decoder and is encoded anew.
"""

import re
from hashlib import sha256
from typing import NamedTuple

from relay.protocol import cbor, syntax
from relay.protocol.cbor import Link
from relay.protocol.cid import DAG_CBOR_PREFIX, is_dag_cbor_cid
from relay.protocol.errors import CborError, CommitError

_LINK = rb"\xd8\x2a\x58\x25\x00(" + re.escape(DAG_CBOR_PREFIX) + rb".{32})"
# A map of six; did: text of up to 255 bytes (its length is compared afterwards); rev: text of 13; sig: 64 bytes.
# The DID's characters exclude "@", which the head of sig contains, so it is clear where the DID ends.
_match_common = re.compile(
    rb"\xa6(cdid(?:[\x60-\x77]|\x78[\x18-\xff])(did:[a-zA-Z0-9._:%-]+)crevm([2-7a-j][2-7a-z]{12}))csigX@(.{64})"
    rb"(ddata" + _LINK + rb"dprev(?:\xf6|" + _LINK + rb")gversion\x03)",
    re.DOTALL,
).fullmatch


class SignedCommit(NamedTuple):
    """A commit as read, nothing judged but its form. `data` and `prev` are CIDs of 36 bytes."""

    did: str
    rev: str
    data: bytes
    prev: bytes | None
    sig: bytes
    signing_bytes: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of the signed bytes: what the signature is verified against."""
        return sha256(self.signing_bytes).digest()


def parse_commit(block: bytes) -> SignedCommit:
    """Read a commit block. Raises `CommitError` (checklist 122-124, 134, 135)."""
    found = _match_common(block)
    if found is not None:
        before, did, rev, sig, after, data, prev = found.groups()
        did_text = did.decode("ascii")
        # The byte before the DID is its length: in the head itself (0x60 + n) up to 23, in a byte of its own above.
        length = before[5] if before[4] == 0x78 else before[4] - 0x60
        if length == len(did) and syntax.is_did(did_text):
            return SignedCommit(did_text, rev.decode("ascii"), data, prev, sig, b"\xa5" + before + after)
    return _parse_any(block)


def _parse_any(block: bytes) -> SignedCommit:
    try:
        fields = cbor.decode(block)
    except CborError as error:
        raise CommitError(f"not canonical DAG-CBOR: {error}") from error
    if type(fields) is not dict or not fields.keys() >= {"did", "version", "data", "rev", "prev", "sig"}:
        raise CommitError("not a map with did, version, data, rev, prev and sig")
    did, rev, data, prev, version = (fields[key] for key in ("did", "rev", "data", "prev", "version"))
    sig = fields.pop("sig")
    if type(version) is not int or version != 3:
        raise CommitError("not of version 3")
    if type(did) is not str or not syntax.is_did(did):
        raise CommitError("did is not a DID")
    if type(rev) is not str or not syntax.is_tid(rev):
        raise CommitError("rev is not a TID")
    if not _is_repo_link(data) or not (prev is None or _is_repo_link(prev)):
        raise CommitError("data or prev is not a link to a repo object")
    if type(sig) is not bytes:
        raise CommitError("sig is not a byte string")
    return SignedCommit(did, rev, data, prev, sig, cbor.encode(fields))


def _is_repo_link(value: object) -> bool:
    return isinstance(value, Link) and is_dag_cbor_cid(value)
