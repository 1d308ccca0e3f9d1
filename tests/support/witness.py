"""A consumer that believes nothing: it verifies a relay's stream by models that share no code with the relay.

Frames are read by cbor2 and written again by `relay.world.dagcbor`, trees are built from whole key sets by
`relay.world.tree`, signatures are verified by OpenSSL, documents come from the directory as they are. What a real
consumer fetches with getRepo when it meets an account, or after a break, is asked of `repo_at`.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from relay.world.dagcbor import Link, cid_of, encode
from relay.world.tree import build, seal
from tests.world.slices import read_block, read_car, read_frame

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_CURVES: dict[bytes, tuple[ec.EllipticCurve, int]] = {
    b"\xe7\x01": (ec.SECP256K1(), 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141),
    b"\x80\x24": (ec.SECP256R1(), 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551),
}

Records = dict[bytes, bytes]


class Untrue(Exception):  # noqa: N818 -- a finding, not an error of the tests
    """The stream says something that is not so."""


class Seen:
    """What the stream has told of one account. `records` is None until its repo was fetched."""

    def __init__(self) -> None:
        self.active = True
        self.rev = ""
        self.data = b""
        self.records: Records | None = None


class Witness:
    """Takes messages in order and raises `Untrue` at the first that is not true.

    `document(did)` is the directory's present answer; `repo_at(data)` the records of the repo whose tree has that root.
    """

    def __init__(
        self, document: Callable[[str], Mapping[str, Any]], repo_at: Callable[[bytes], Mapping[bytes, bytes]]
    ) -> None:
        self._document = document
        self._repo_at = repo_at
        self._keys: dict[str, tuple[ec.EllipticCurvePublicKey, int]] = {}
        self._accounts: dict[str, Seen] = {}
        self.last_seq = 0
        self.counts: Counter[str] = Counter()

    def take(self, message: bytes) -> None:
        """The next message."""
        header, payload = read_frame(message)
        _expect(message == encode(header) + encode(payload), "not in its canonical form")
        kind, seq = header["t"], payload["seq"]
        _expect(not self.last_seq or seq == self.last_seq + 1, f"seq {seq} after {self.last_seq}")
        self.last_seq = seq
        self.counts[kind] += 1
        try:
            self._take(kind, payload)
        except Untrue as fault:
            raise Untrue(f"seq {seq}, {kind} of {payload.get('repo') or payload.get('did')}: {fault}") from None

    def _take(self, kind: str, payload: Mapping[str, Any]) -> None:
        match kind:
            case "#commit":
                self._commit(payload)
            case "#sync":
                self._sync(payload)
            case "#account":
                self._seen(payload["did"]).active = payload["active"]
                self.counts[payload.get("status", "active")] += 1
            case "#identity":
                self._keys.pop(payload["did"], None)
            case _:
                raise Untrue("a type that no relay sends")

    def _commit(self, payload: Mapping[str, Any]) -> None:
        did = payload["repo"]
        account = self._seen(did)
        blocks, data = self._signed(did, payload)
        before, since = payload.get("prevData"), payload["since"]
        _expect(payload["rev"] > account.rev, "its rev does not rise")
        if account.records is None or (before is not None and before != account.data):
            self.counts["fetched"] += 1
            account.records = dict(self._repo_at(before)) if before is not None else {}
            _expect(before is None or _root(account.records) == before, "prevData is not the tree before it")
        else:
            self.counts["since_differs"] += since != account.rev
        _expect(before is not None or not account.records, "it names no prevData and is not the first")
        for op in payload["ops"]:
            _apply(account.records, op, blocks)
        _expect(_root(account.records) == data, "its ops do not lead to its tree")
        account.rev, account.data = payload["rev"], data

    def _sync(self, payload: Mapping[str, Any]) -> None:
        account = self._seen(payload["did"])
        _, data = self._signed(payload["did"], payload)
        _expect(payload["rev"] >= account.rev, "its rev falls")
        if data != account.data:
            account.records = None
        account.rev, account.data = payload["rev"], data

    def _signed(self, did: str, payload: Mapping[str, Any]) -> tuple[Mapping[Link, bytes], bytes]:
        """The blocks of the slice by CID, and the root of the tree that its commit signs."""
        _expect(self._seen(did).active, "content while it is inactive")
        root, pairs = read_car(payload["blocks"])
        for cid, block in pairs:
            _expect(cid == cid_of(block), "a block does not hash to its CID")
        blocks = dict(pairs)
        _expect(payload.get("commit", root) == root, "the commit is not the root")
        block = blocks[root]
        fields = dict(read_block(block))
        _expect(encode(fields) == block, "the commit is not in its canonical form")
        _expect((fields["did"], fields["rev"], fields["version"]) == (did, payload["rev"], 3), "another's commit")
        sig = fields.pop("sig")
        digest = hashlib.sha256(encode(fields)).digest()
        if not self._verifies(did, digest, sig):
            self._keys.pop(did, None)
            _expect(self._verifies(did, digest, sig), "its signature does not verify")
        return blocks, fields["data"]

    def _verifies(self, did: str, digest: bytes, sig: bytes) -> bool:
        if did not in self._keys:
            self._keys[did] = _key_of(self._document(did))
        key, order = self._keys[did]
        r, s = int.from_bytes(sig[:32], "big"), int.from_bytes(sig[32:], "big")
        _expect(len(sig) == 64 and s <= order // 2, "a signature of a form that is not allowed")
        try:
            key.verify(encode_dss_signature(r, s), digest, ec.ECDSA(Prehashed(SHA256())))
        except InvalidSignature:
            return False
        return True

    def _seen(self, did: str) -> Seen:
        return self._accounts.setdefault(did, Seen())


def _apply(records: Records, op: Mapping[str, Any], blocks: Mapping[Link, bytes]) -> None:
    key, cid, prev = op["path"].encode(), op["cid"], op.get("prev")
    _expect(records.get(key) == prev, f"{op['action']} of {op['path']} from what was not there")
    _expect((op["action"] == "create") == (prev is None) and (op["action"] == "delete") == (cid is None), "a wrong op")
    if cid is None:
        del records[key]
        return
    _expect(cid in blocks, "a record is missing")
    records[key] = cid


def _root(records: Records) -> Link:
    tree = build(records.items())
    seal(tree)
    return tree.cid


def _key_of(document: Mapping[str, Any]) -> tuple[ec.EllipticCurvePublicKey, int]:
    """The signing key of a document as the simulated directory words it."""
    (method,) = (each for each in document["verificationMethod"] if each["id"].endswith("#atproto"))
    number = 0
    for digit in method["publicKeyMultibase"].removeprefix("z"):
        number = number * 58 + _BASE58.index(digit)
    raw = number.to_bytes(35, "big")
    curve, order = _CURVES[raw[:2]]
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, raw[2:]), order


def _expect(holds: bool, fault: str) -> None:
    if not holds:
        raise Untrue(fault)
