"""Account rows, and what follows from them: how many accounts each host has, and the queue of throttled ones.

A row is 107 bytes but for a status string outside the vocabulary. `put_accounts` keeps row, host count and throttled
queue in step inside the caller's txn; nothing else writes these three.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

from relay.store.env import Env, Txn
from relay.store.errors import UNREADABLE, Corrupt
from relay.store.layout import ACCOUNTS, DID_KEY_BYTES_MAX, THROTTLED, did_key, did_of, u64, u64_of
from relay.verify.account import DELETED
from relay.verify.facts import AccountState

# version, host id, upstream status, local status, rev, data, commit, upstream seq, epoch, flags. Host and status lie
# together, so that one comparison of bytes shows whether counts and queue are concerned at all.
_ROW = struct.Struct("<QIBB13s32s32sQII")
_STANDING = slice(8, 14)
_ROW_BYTES = _ROW.size

# The position of a name is what is stored: only ever add at the end.
_UPSTREAM = ("", "takendown", "suspended", "deleted", "deactivated", "desynchronized", "throttled")
LOCAL_STATUSES = ("takendown", "suspended", "throttled")
_LOCAL = ("", *LOCAL_STATUSES)
_UPSTREAM_CODE = {name: code for code, name in enumerate(_UPSTREAM)}
_LOCAL_CODE = {name: code for code, name in enumerate(_LOCAL)}
_ACTIVE = 0x80
_OTHER = 0x7F  # the text follows the row
_DELETED = _UPSTREAM_CODE[DELETED]  # without `_ACTIVE`: as `is_deleted` of `relay.verify.account` has it
_THROTTLED = _LOCAL_CODE["throttled"]
_NO_REV = b"\0" * 13
_NO_DIGEST = b"\0" * 32
_THROTTLED_KEY = struct.Struct(">IQ")

PAGE_ROWS_MAX = 10_000


def pack_account(state: AccountState, version: int) -> bytes:
    """The row of an account at `version`. Asserts the shapes that verification guarantees."""
    assert len(state.rev) in (0, 13), "a rev is a TID"
    assert len(state.data) in (0, 32), "data is a SHA-256"
    assert len(state.commit) in (0, 32), "commit is a SHA-256"
    upstream = _UPSTREAM_CODE.get(state.upstream_status, _OTHER)
    row = _ROW.pack(
        version,
        state.host_id,
        upstream | _ACTIVE if state.upstream_active else upstream,
        _LOCAL_CODE[state.local_status],
        state.rev.encode(),
        state.data,
        state.commit,
        state.upstream_seq,
        state.epoch,
        state.flags,
    )
    return row + state.upstream_status.encode() if upstream == _OTHER else row


def unpack_account(row: bytes) -> AccountState:
    """The other way. Raises `Corrupt`."""
    try:
        version, host_id, upstream, local, rev, data, commit, seq, epoch, flags = _ROW.unpack_from(row)
        code = upstream & _OTHER
        return AccountState(
            version,
            host_id,
            upstream >= _ACTIVE,
            row[_ROW_BYTES:].decode() if code == _OTHER else _UPSTREAM[code],
            _LOCAL[local],
            "" if rev == _NO_REV else rev.decode(),
            b"" if data == _NO_DIGEST else data,
            b"" if commit == _NO_DIGEST else commit,
            seq,
            epoch,
            flags,
        )
    except UNREADABLE as error:
        raise Corrupt(f"account row: {error}") from error


def version_of(row: bytes | None) -> int:
    """The version inside a packed row, 0 for none."""
    return int.from_bytes(row[:8], "little") if row is not None else 0


class Standing(NamedTuple):
    """What a row means for its host: whether it counts there, and whether it waits for release."""

    host_id: int
    counted: bool
    throttled: bool


def standing(row: bytes | None) -> Standing:
    """Of a packed row. A deleted account no longer counts for its host; every other one does. Raises `Corrupt`.

    One that its host calls active and deleted at once is not deleted: no contradiction makes room in a quota.
    """
    if row is None:
        return Standing(0, counted=False, throttled=False)
    host_id = int.from_bytes(row[8:12], "little")
    try:
        return Standing(host_id, row[12] != _DELETED, row[13] == _THROTTLED)
    except UNREADABLE as error:
        raise Corrupt(f"account row: {error}") from error


def read_account(env: Env, txn: "Txn[bytes]", did: str) -> AccountState | None:
    """The row of a DID, None when there is none."""
    key = did_key(did)
    row = txn.get(key, db=env.db[ACCOUNTS]) if key is not None else None
    return unpack_account(row) if row is not None else None


class Changed(NamedTuple):
    """By how much the number of accounts of each host changed, and of those among them that wait for release."""

    counted: dict[int, int]
    throttled: dict[int, int]


def put_accounts(env: Env, txn: "Txn[bytes]", rows: Iterable[tuple[str, bytes]]) -> Changed:
    """Write packed rows by DID."""
    changed = Changed({}, {})
    accounts = env.db[ACCOUNTS]
    for did, row in rows:
        key = did.encode()
        old = txn.replace(key, row, db=accounts)
        if old is None or old[_STANDING] != row[_STANDING]:
            before, after = standing(old), standing(row)
            _add(changed.counted, before.host_id, -before.counted)
            _add(changed.counted, after.host_id, after.counted)
            _add(changed.throttled, before.host_id, -before.throttled)
            _add(changed.throttled, after.host_id, after.throttled)
            _queue(env, txn, key, before, after)
    return changed


def _add(counts: dict[int, int], host_id: int, number: int) -> None:
    if number:
        counts[host_id] = counts.get(host_id, 0) + number


def _queue(env: Env, txn: "Txn[bytes]", did: bytes, old: Standing, new: Standing) -> None:
    """Keep the queue of throttled accounts in step with a change of one of them."""
    moved = old.host_id != new.host_id
    if old.throttled and (moved or not new.throttled):
        _leave_queue(env, txn, old.host_id, did)
    if new.throttled and (moved or not old.throttled):
        _join_queue(env, txn, new.host_id, did)


def _join_queue(env: Env, txn: "Txn[bytes]", host_id: int, did: bytes) -> None:
    cursor = txn.cursor(db=env.db[THROTTLED])
    found = cursor.set_range(_THROTTLED_KEY.pack(host_id + 1, 0))
    last = cursor.key() if (cursor.prev() if found else cursor.last()) else b""
    order = u64_of(last[4:]) + 1 if last[:4] == host_id.to_bytes(4, "big") else 0
    txn.put(_THROTTLED_KEY.pack(host_id, order), did, db=env.db[THROTTLED])


def _leave_queue(env: Env, txn: "Txn[bytes]", host_id: int, did: bytes) -> None:
    # Releases go oldest first, so the entry is nearly always the first; a queue is bounded by the host's quota.
    cursor = txn.cursor(db=env.db[THROTTLED])
    prefix = host_id.to_bytes(4, "big")
    found = cursor.set_range(prefix + u64(0))
    while found and cursor.key()[:4] == prefix:
        if cursor.value() == did:
            cursor.delete()
            return
        found = cursor.next()
    raise Corrupt(f"{did.decode()} is throttled but not in the queue of its host")


def read_throttled(env: Env, txn: "Txn[bytes]", host_id: int, limit: int) -> list[str]:
    """The DIDs of a host that wait for release, oldest first, at most `limit`."""
    cursor = txn.cursor(db=env.db[THROTTLED])
    prefix = host_id.to_bytes(4, "big")
    found = cursor.set_range(prefix + u64(0))
    dids: list[str] = []
    while found and len(dids) < limit and cursor.key()[:4] == prefix:
        dids.append(did_of(cursor.value()))
        found = cursor.next()
    return dids


def read_throttling(env: Env, txn: "Txn[bytes]") -> list[int]:
    """The ids of hosts that have accounts waiting for release; one step for each such host."""
    cursor = txn.cursor(db=env.db[THROTTLED])
    found = cursor.first()
    host_ids: list[int] = []
    while found:
        host_ids.append(int.from_bytes(cursor.key()[:4], "big"))
        found = cursor.set_range(_THROTTLED_KEY.pack(host_ids[-1] + 1, 0))
    return host_ids


class AccountPage(NamedTuple):
    """Part of the account table. `next_after` continues it, None at its end; a page may be empty before the end."""

    accounts: list[tuple[str, AccountState]]
    next_after: str | None


def read_accounts(
    env: Env, txn: "Txn[bytes]", after_did: str, limit: int, host_id: int | None, *, rows_max: int = PAGE_ROWS_MAX
) -> AccountPage:
    """Up to `limit` accounts whose DID sorts after `after_did`; looks at no more than `rows_max` rows."""
    cursor = txn.cursor(db=env.db[ACCOUNTS])
    start = after_did.encode("ascii", "replace")[:DID_KEY_BYTES_MAX]
    found = cursor.set_range(start) if start else cursor.first()
    if found and cursor.key() == start:
        found = cursor.next()
    page: list[tuple[str, AccountState]] = []
    did = after_did
    for _ in range(rows_max):
        if not found or len(page) >= limit:
            break
        did = did_of(cursor.key())
        row = cursor.value()
        if host_id is None or standing(row).host_id == host_id:
            page.append((did, unpack_account(row)))
        found = cursor.next()
    return AccountPage(page, did if found else None)
