"""Host rows: where we are in each upstream host's stream, how it is treated, and what was counted.

`apply_change` is the only way a cursor moves with an append: never backwards within an epoch, never by a worker that
still believes in an earlier epoch (design section 4, "A host that restarted its seqs").
"""

from typing import Any

import msgspec

from relay.store.env import Env, Txn
from relay.store.errors import Unpacking
from relay.store.layout import HOSTNAMES, HOSTS, KEY_BYTES_MAX, bump_generation, u64, u64_of
from relay.store.policy import check_domain


class HostRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One upstream host. Times are unix ms, 0 for never; counts are since the host was first seen.

    `hostname` is host[:port]. `status` is "active", "idle", "offline", "throttled" or "banned", since `since_ms`.
    `last_ending` is the slug of how the last connection ended, "" while one stands and before the first.
    `mode` is "strict", "ratchet" or "lenient", "" for the configured one. `cursor` is the low-water mark in the host's
    own seqs, None while nothing was read; `cursor_before` is the one given up at the last restart of the host's seqs.
    `start` says where a first read begins: "window" or "live". `account_limit` None means that of the tier. `rates` are
    an operator's bounds by name. `requested`: it came by a public requestCrawl, not from an operator or a list.
    `asked_ms` is when somebody last asked for the host to be tried at once, `reconnect_ms` when an operator last asked
    for a new connection, begun from this row, `connected_ms` since when there is one as far as its worker said, 0 for
    none. `proven` is set by the first proven commit and ends the ratchet for good. `remarks` counts accepted events by
    what there was to remark on them, "unproven" for one. `first_event_ms` and `last_accepted_ms` are of events that
    passed, `last_event_ms` of any.

    `throttled_count` of its `account_count` accounts wait for room since `over_quota_ms`. `listed_accounts` is what a
    relay that lists the host says it has. `possible_gap` names what may have lost events of the host ("OutdatedCursor",
    "ConsumerTooSlow", "SeqRestart"), last at `possible_gap_ms`. `probed_ms` is when it was last asked whether its seqs
    began anew. `lag_ms` is the age of what was read last, while that is more than a minute.
    """

    host_id: int
    hostname: str
    insecure: bool = False
    status: str = "active"
    since_ms: int = 0
    mode: str = ""
    cursor: int | None = None
    cursor_before: int | None = None
    epoch: int = 0
    start: str = "window"
    account_count: int = 0
    throttled_count: int = 0
    over_quota_ms: int = 0
    account_limit: int | None = None
    listed_accounts: int = 0
    tier: str = ""
    rates: dict[str, int] = {}
    requested: bool = False
    asked_ms: int = 0
    reconnect_ms: int = 0
    connected_ms: int = 0
    known_at_install: bool = False
    proven: bool = False
    first_seen_ms: int = 0
    first_event_ms: int = 0
    last_event_ms: int = 0
    last_accepted_ms: int = 0
    last_error: str = ""
    last_ending: str = ""
    possible_gap: str = ""
    possible_gap_ms: int = 0
    probed_ms: int = 0
    lag_ms: int = 0
    accepted: int = 0
    dropped: dict[str, int] = {}
    remarks: dict[str, int] = {}


class HostChange(msgspec.Struct, frozen=True, array_like=True):
    """What one append does to one host; part of the effects. `cursor` None leaves it, counts are added."""

    host_id: int
    epoch: int
    cursor: int | None
    last_event_ms: int
    accepted: int
    dropped: dict[str, int]
    last_error: str | None
    proven: bool = False
    remarks: dict[str, int] = {}


# Fields that only describe what happened: no worker has to look again because one of them changed.
_BOOKKEEPING = frozenset(
    {
        "status",
        "since_ms",
        "proven",
        "first_event_ms",
        "last_event_ms",
        "last_accepted_ms",
        "last_error",
        "last_ending",
        "over_quota_ms",
        "possible_gap",
        "possible_gap_ms",
        "probed_ms",
        "lag_ms",
        "connected_ms",
        "cursor_before",
        "accepted",
        "dropped",
        "remarks",
    }
)
_FIXED = frozenset({"host_id", "hostname"})

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(HostRow).decode


def read_host(env: Env, txn: "Txn[bytes]", host_id: int) -> HostRow | None:
    """The row of an id."""
    data = txn.get(u64(host_id), db=env.db[HOSTS])
    return unpack_host(data) if data is not None else None


def read_host_named(env: Env, txn: "Txn[bytes]", hostname: str) -> HostRow | None:
    """The row of a 'host[:port]'."""
    key = hostname.encode()
    if not key or len(key) > KEY_BYTES_MAX:
        return None
    host_id = txn.get(key, db=env.db[HOSTNAMES])
    return read_host(env, txn, u64_of(host_id)) if host_id is not None else None


def read_hosts(env: Env, txn: "Txn[bytes]", after_id: int, limit: int) -> list[HostRow]:
    """Up to `limit` rows with a greater id, in the order in which the hosts were added."""
    cursor = txn.cursor(db=env.db[HOSTS])
    found = cursor.set_range(u64(after_id + 1))
    rows: list[HostRow] = []
    while found and len(rows) < limit:
        rows.append(unpack_host(cursor.value()))
        found = cursor.next()
    return rows


def add_host(env: Env, txn: "Txn[bytes]", hostname: str, fields: dict[str, Any]) -> HostRow:
    """The row of that name: a new one with `fields`, or the one that is there, unchanged.

    A new host is idle unless `fields` say otherwise: nobody has connected to it. Raises `DomainBanned` for a new one
    under a banned domain: the ban may have come since the host was judged.
    """
    known = read_host_named(env, txn, hostname)
    if known is not None:
        return known
    check_domain(env, txn, hostname)
    cursor = txn.cursor(db=env.db[HOSTS])
    host_id = u64_of(cursor.key()) + 1 if cursor.last() else 1
    row = _checked(HostRow(host_id=host_id, hostname=hostname, **{"status": "idle", **fields}))
    txn.put(hostname.encode(), u64(host_id), db=env.db[HOSTNAMES])
    _put(env, txn, row)
    bump_generation(env, txn)
    return row


def update_host(env: Env, txn: "Txn[bytes]", host_id: int, fields: dict[str, Any]) -> HostRow:
    """Change fields of a row. Raises `KeyError` for an unknown host, `TypeError` for a field that is none or fixed."""
    row = read_host(env, txn, host_id)
    if row is None:
        raise KeyError(host_id)
    unknown = set(fields) - set(HostRow.__struct_fields__) | _FIXED & set(fields)
    if unknown:
        raise TypeError(f"cannot change {', '.join(sorted(unknown))} of a host")
    changed = _checked(msgspec.structs.replace(row, **fields))
    if changed == row:
        return row
    _put(env, txn, changed)
    ban_changed = (row.status == "banned") != (changed.status == "banned")
    if ban_changed or any(getattr(row, name) != getattr(changed, name) for name in fields if name not in _BOOKKEEPING):
        bump_generation(env, txn)
    return changed


def report_host(env: Env, txn: "Txn[bytes]", host_id: int, fields: dict[str, Any]) -> None:
    """As `update_host` for what a worker saw, which may be older than an operator's ban and does not end it."""
    row = read_host(env, txn, host_id)
    if row is None:
        return
    if row.status == "banned":
        fields = {name: value for name, value in fields.items() if name not in ("status", "since_ms")}
    update_host(env, txn, host_id, fields)


def apply_change(env: Env, txn: "Txn[bytes]", change: HostChange) -> None:
    """Fold one append's change into the row of its host."""
    row = _known(env, txn, change.host_id)
    cursor, epoch = row.cursor, row.epoch
    if change.cursor is not None and change.epoch >= epoch:
        ahead = change.epoch > epoch or cursor is None or change.cursor > cursor
        cursor, epoch = (change.cursor if ahead else cursor), change.epoch
    _put(
        env,
        txn,
        msgspec.structs.replace(
            row,
            cursor=cursor,
            epoch=epoch,
            first_event_ms=row.first_event_ms or (change.last_event_ms if change.accepted else 0),
            last_event_ms=max(row.last_event_ms, change.last_event_ms),
            last_accepted_ms=change.last_event_ms if change.accepted else row.last_accepted_ms,
            accepted=row.accepted + change.accepted,
            dropped=_sum(row.dropped, change.dropped),
            remarks=_sum(row.remarks, change.remarks),
            proven=row.proven or change.proven,
            last_error=row.last_error if change.last_error is None else change.last_error,
        ),
    )


def _sum(counts: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    return {**counts, **{name: counts.get(name, 0) + count for name, count in more.items()}} if more else counts


def add_account_counts(env: Env, txn: "Txn[bytes]", counts: dict[int, int], throttled: dict[int, int]) -> None:
    """Add to the number of accounts of each host, and of those that wait; part of the txn that writes the rows."""
    for host_id in {**counts, **throttled}:
        count, waiting = counts.get(host_id, 0), throttled.get(host_id, 0)
        if count or waiting:
            row = _known(env, txn, host_id)
            count, waiting = row.account_count + count, row.throttled_count + waiting
            _put(env, txn, msgspec.structs.replace(row, account_count=count, throttled_count=waiting))


def _known(env: Env, txn: "Txn[bytes]", host_id: int) -> HostRow:
    row = read_host(env, txn, host_id)
    assert row is not None, f"no host has the id {host_id}"
    return row


def _checked(row: HostRow) -> HostRow:
    """The same row, once its types are known to survive the way to disk. Raises `TypeError`."""
    try:
        return msgspec.convert(msgspec.to_builtins(row), HostRow)
    except msgspec.ValidationError as error:
        raise TypeError(str(error)) from error


def _put(env: Env, txn: "Txn[bytes]", row: HostRow) -> None:
    txn.put(u64(row.host_id), _encode(row), db=env.db[HOSTS])


def unpack_host(data: bytes) -> HostRow:
    """A stored row. Raises `Corrupt`."""
    with Unpacking("host row"):
        return _decode(data)
