"""An account as its owner is told of it: the first thing that stands in its way, or that nothing does. Pure.

Owns what `/explain/account` says; the words about its host are those of `relay.serve.explainhost`.
"""

from collections.abc import Mapping
from typing import NamedTuple

from relay.crawl.limits import limits_of
from relay.protocol.syntax import is_tid, tid_ms
from relay.serve.explainhost import drop_of, host_words, quota_words, time_of, whom_to_ask
from relay.serve.settings import ServeRoleSettings
from relay.store.batch import DropNote
from relay.store.hosts import HostRow
from relay.verify.facts import AccountState, Identity, effective_status

_LOCAL_STATES = {
    "takendown": "The operator of this relay has taken the account down; its content does not pass here.",
    "suspended": "The operator of this relay has suspended the account; its content does not pass for now.",
}


class Known(NamedTuple):
    """What the store holds of an account.

    `host` is the one whose events of it passed; `hostnames` of the hosts, by id, that sent what the notes tell of.
    """

    account: AccountState
    identity: Identity | None
    host: HostRow
    notes: list[DropNote]
    hostnames: Mapping[int, str]


def describe_account(did: str, known: Known, settings: ServeRoleSettings, now_ms: int) -> dict[str, object]:
    """An account as its owner needs to know it."""
    account, identity, host = known.account, known.identity, known.host
    active, status = effective_status(account)
    return {
        "did": did,
        "summary": _here(account, host, settings) or _elsewhere(account, identity, host, now_ms),
        "active": active,
        "status": status,
        "statusAtHost": {"active": account.upstream_active, "status": account.upstream_status or None},
        "statusHere": account.local_status or None,
        "contact": settings.contact or None,
        "host": {"hostname": host.hostname, "status": host.status, "lastAcceptedSeq": account.upstream_seq},
        "identity": None if identity is None else _identity(identity),
        "rev": account.rev or None,
        "revTime": time_of(tid_ms(account.rev)) if is_tid(account.rev) else None,
        "lastDrops": [_drop(note, account, known.hostnames) for note in known.notes],
    }


def _drop(note: DropNote, account: AccountState, hostnames: Mapping[int, str]) -> dict[str, object]:
    """A drop with who sent it: any host can say something in the name of an account, and its owner cannot help it."""
    drop, sender = drop_of(note), hostnames.get(note.host_id)
    if note.host_id != account.host_id:
        stranger = f"{sender or 'Another host'} sent this, and not the account's own host."
        drop["means"] = f"{stranger} Unless the account is moving there, nothing has to be done. {drop['means']}"
    return {**drop, "sentBy": sender}


def _here(account: AccountState, host: HostRow, settings: ServeRoleSettings) -> str:
    """What this relay holds against the account, "" for nothing."""
    if not account.local_status:
        return ""
    words = _LOCAL_STATES.get(account.local_status)
    if words is None:
        quota = quota_words(host, limits_of(host, settings.hosts))
        words = f"The account waits for room, and is let in by itself. {quota}".rstrip()
    return f"{words} {whom_to_ask(settings.contact)}"


def _elsewhere(account: AccountState, identity: Identity | None, host: HostRow, now_ms: int) -> str:
    """What its DID, its host and its document say, in this order."""
    if identity is not None and identity.tombstone:
        return "The DID was deleted at its directory, and with it the account."
    if not account.upstream_active:
        return (
            f"{host.hostname} says that the account is {account.upstream_status or 'not active'}. Its content passes "
            "again once the host says that it is active."
        )
    if identity is not None and identity.host is None:
        return "The DID document names no usable PDS (`#atproto_pds`); nothing of the account can be verified."
    if identity is not None and identity.key is None:
        return "The DID document has no usable signing key (`#atproto`); nothing of the account can be verified."
    if identity is not None and identity.host != host.hostname:
        return f"The DID document names {identity.host}; the last event that passed came from {host.hostname}."
    if host.status in ("idle", "offline", "throttled", "banned"):
        return f"The account is in order. {host_words(host, now_ms)}"
    return "The account is in order." if account.rev else "The account is in order; no commit of it has passed yet."


def _identity(identity: Identity) -> dict[str, object]:
    return {
        "pds": identity.host,
        "hasSigningKey": identity.key is not None,
        "deleted": identity.tombstone,
        "readAt": time_of(identity.fetched_ms),
        "willBeReadAgain": identity.stale,
    }
