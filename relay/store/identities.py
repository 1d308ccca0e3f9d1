"""Identity rows: what a DID resolved to, shared by all workers and kept over restarts.

The newest document wins: a row is not replaced by one that was fetched earlier, so two workers that refresh the same
DID cannot undo each other.
"""

import struct

from relay.protocol.multikey import Curve, PublicKey
from relay.store.env import Env, Txn
from relay.store.errors import Unpacking
from relay.store.layout import IDENTITIES, did_key
from relay.verify.facts import Identity

_HEAD = struct.Struct("<BQ")  # flags, fetched_ms; then 33 bytes of key when there is one, then the host
_STALE = 0x01
_TOMBSTONE = 0x02
_HAS_HOST = 0x04
_CURVE_FLAG: dict[Curve, int] = {"k256": 0x10, "p256": 0x20}
_CURVES = 0x30
_CURVE_BY_FLAG: dict[int, Curve] = {flag: curve for curve, flag in _CURVE_FLAG.items()}
_POINT_BYTES = 33


def pack_identity(identity: Identity) -> bytes:
    """The row of an identity, without its DID."""
    flags = _STALE * identity.stale | _TOMBSTONE * identity.tombstone | _HAS_HOST * (identity.host is not None)
    point = b""
    if identity.key is not None:
        flags |= _CURVE_FLAG[identity.key.curve]
        point = identity.key.point
        assert len(point) == _POINT_BYTES, "a key is a compressed point"
    return _HEAD.pack(flags, identity.fetched_ms) + point + (identity.host or "").encode()


def unpack_identity(did: str, row: bytes) -> Identity:
    """The other way. Raises `Corrupt`."""
    with Unpacking("identity row"):
        flags, fetched_ms = _HEAD.unpack_from(row)
        curve = _CURVE_BY_FLAG.get(flags & _CURVES)
        host_at = _HEAD.size + (_POINT_BYTES if curve is not None else 0)
        return Identity(
            did=did,
            key=PublicKey(curve, row[_HEAD.size : host_at]) if curve is not None else None,
            host=row[host_at:].decode() if flags & _HAS_HOST else None,
            fetched_ms=fetched_ms,
            stale=bool(flags & _STALE),
            tombstone=bool(flags & _TOMBSTONE),
        )


def read_identity(env: Env, txn: "Txn[bytes]", did: str) -> Identity | None:
    """The row of a DID."""
    key = did_key(did)
    row = txn.get(key, db=env.db[IDENTITIES]) if key is not None else None
    return unpack_identity(did, row) if row is not None else None


def put_identity(env: Env, txn: "Txn[bytes]", did: str, row: bytes) -> None:
    """Write a packed row unless the stored one was fetched later. Raises `Corrupt`."""
    key = did.encode()
    old = txn.get(key, db=env.db[IDENTITIES])
    if old is None or _fetched_ms(row) >= _fetched_ms(old):
        txn.put(key, row, db=env.db[IDENTITIES])


def _fetched_ms(row: bytes) -> int:
    with Unpacking("identity row"):
        return int(_HEAD.unpack_from(row)[1])
