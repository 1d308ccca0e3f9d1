"""Bans of hosts and of whole domains: an operator's decision and every row that follows from it, in the caller's txn.

A ban of a domain holds for every name below it (checklist 260). `DomainBan.host_ids` are the hosts that came under it
while nobody had banned them for themselves: those and no others its end frees. Who follows the hosts sees the rows.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from relay.store.env import Env, Txn
from relay.store.hosts import HostRow, read_host, update_host
from relay.store.layout import HOSTNAMES, POLICY, bump_generation, u64_of
from relay.store.policy import (
    DOMAIN_BAN,
    DomainBan,
    check_domain,
    encoded,
    name_of,
    read_decoded,
    read_domain_ban,
    suffixes,
)


def ban_host(env: Env, txn: "Txn[bytes]", host_id: int, now_ms: int) -> None:
    """Ban a host for itself: from now on no end of a domain's ban frees it. Raises `KeyError` for an unknown one."""
    row = _known(env, txn, host_id)
    for domain in suffixes(row.hostname):
        ban = _read_ban(env, txn, domain)
        if ban is not None and host_id in ban.host_ids:
            others = tuple(other for other in ban.host_ids if other != host_id)
            _write_ban(env, txn, domain, msgspec.structs.replace(ban, host_ids=others))
    if row.status != "banned":
        update_host(env, txn, host_id, _banned(now_ms))


def free_host(env: Env, txn: "Txn[bytes]", host_id: int, now_ms: int) -> None:
    """End the ban of a host. Raises `DomainBanned` when its domain is banned, `KeyError` for an unknown host."""
    row = _known(env, txn, host_id)
    check_domain(env, txn, row.hostname)
    if row.status == "banned":
        update_host(env, txn, host_id, _freed(now_ms))


def ban_domain(env: Env, txn: "Txn[bytes]", domain: str, now_ms: int) -> None:
    """Ban a domain and the known hosts below it; once more for a domain that is banned already does no harm."""
    ban = _read_ban(env, txn, domain) or DomainBan(now_ms)
    rows = [_known(env, txn, host_id) for host_id in _below(env, txn, domain)]
    fresh = [row.host_id for row in rows if row.status != "banned"]
    _write_ban(env, txn, domain, msgspec.structs.replace(ban, host_ids=tuple(dict.fromkeys((*ban.host_ids, *fresh)))))
    for host_id in fresh:
        update_host(env, txn, host_id, _banned(now_ms))
    bump_generation(env, txn)


def free_domain(env: Env, txn: "Txn[bytes]", domain: str, now_ms: int) -> bool:
    """End a domain's ban: its hosts come back, or pass to another ban that holds for them. False when there is none."""
    ban = _read_ban(env, txn, domain)
    if ban is None:
        return False
    txn.delete((DOMAIN_BAN + domain).encode(), db=env.db[POLICY])
    passed: dict[str, list[int]] = {}
    for host_id in ban.host_ids:
        row = read_host(env, txn, host_id)
        if row is None or row.status != "banned":
            continue
        other = read_domain_ban(env, txn, row.hostname)
        if other is None:
            update_host(env, txn, host_id, _freed(now_ms))
        else:
            passed.setdefault(other, []).append(host_id)
    for other, host_ids in passed.items():
        holder = _read_ban(env, txn, other) or DomainBan(now_ms)
        _write_ban(env, txn, other, msgspec.structs.replace(holder, host_ids=(*holder.host_ids, *host_ids)))
    bump_generation(env, txn)
    return True


def _banned(now_ms: int) -> dict[str, Any]:
    return {"status": "banned", "since_ms": now_ms}


def _freed(now_ms: int) -> dict[str, Any]:
    """`idle` and untried until its connection says otherwise."""
    asked = {"asked_ms": now_ms, "reconnect_ms": now_ms}
    return {"status": "idle", "since_ms": now_ms, "last_ending": "", "last_error": "", **asked}


def _below(env: Env, txn: "Txn[bytes]", domain: str) -> Iterator[int]:
    """The ids of all hosts that are the domain or lie below it: every name is looked at, rows are not."""
    below = "." + domain
    for key, host_id in txn.cursor(db=env.db[HOSTNAMES]):
        name = name_of(key.decode())
        if name == domain or name.endswith(below):
            yield u64_of(host_id)


def _known(env: Env, txn: "Txn[bytes]", host_id: int) -> HostRow:
    row = read_host(env, txn, host_id)
    if row is None:
        raise KeyError(host_id)
    return row


def _read_ban(env: Env, txn: "Txn[bytes]", domain: str) -> DomainBan | None:
    return read_decoded(env, txn, DOMAIN_BAN + domain, DomainBan, None)


def _write_ban(env: Env, txn: "Txn[bytes]", domain: str, ban: DomainBan) -> None:
    txn.put((DOMAIN_BAN + domain).encode(), encoded(ban), db=env.db[POLICY])
