"""What an append does to the state, as it is stored beside its chunk, and how the state takes it in.

The state is a materialised view of the log: `apply_effects` is used both by the append itself and by whoever heals one
that was cut off between its two commits, so the two cannot differ. An entry is 16 bytes of head, read by readers and by
the audit without touching the rest, then the body. A batch of several chunks has its body with the first of them.
"""

import struct
from typing import NamedTuple

import msgspec

from relay.store.accounts import put_accounts
from relay.store.env import Env, Txn
from relay.store.errors import Corrupt, Unpacking
from relay.store.hosts import HostChange, add_account_counts, apply_change
from relay.store.identities import put_identity
from relay.store.policy import put_takedown

_HEAD = struct.Struct("<QQ")


class Head(NamedTuple):
    """`time_ms` of the chunk, never below the one before; `last_seq` of the chunk."""

    time_ms: int
    last_seq: int


class Effects(msgspec.Struct, frozen=True, array_like=True):
    """Packed rows by DID, changes of hosts, for a raise of the sequence the tip before it, and entries of takedowns."""

    accounts: list[tuple[str, bytes]] = []
    hosts: list[HostChange] = []
    identities: list[tuple[str, bytes]] = []
    raised_from: int | None = None
    takedowns: list[tuple[str, bytes | None]] = []


NO_EFFECTS = Effects()

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Effects).decode


def pack_entry(head: Head, effects: Effects) -> bytes:
    """One value of the `effects` sub-db."""
    return _HEAD.pack(*head) + (b"" if effects is NO_EFFECTS else _encode(effects))


def read_head(entry: bytes | memoryview) -> Head:
    """Raises `Corrupt`."""
    if len(entry) < _HEAD.size:
        raise Corrupt(f"effects of {len(entry)} bytes")
    return Head._make(_HEAD.unpack_from(entry))


def unpack_entry(entry: bytes) -> tuple[Head, Effects]:
    """Raises `Corrupt`."""
    head = read_head(entry)
    if len(entry) == _HEAD.size:
        return head, NO_EFFECTS
    with Unpacking("effects"):
        return head, _decode(memoryview(entry)[_HEAD.size :])


def apply_effects(env: Env, txn: "Txn[bytes]", effects: Effects) -> None:
    """Take rows, counts, cursors and identities into the state, in the caller's txn."""
    changed = put_accounts(env, txn, effects.accounts)
    for change in effects.hosts:
        apply_change(env, txn, change)
    add_account_counts(env, txn, changed.counted, changed.throttled)
    for did, row in effects.identities:
        put_identity(env, txn, did, row)
    for did, entry in effects.takedowns:
        put_takedown(env, txn, did, entry)
