"""`/explain/host` and `/explain/account`: why something is not coming through, for whoever runs it. Public JSON.

Owns the words. What is told is what the relay knows anyway and others see in its stream: states, limits, counts, and
the last drops with the rule each one broke. Reads rows in one short txn, changes nothing, asks nobody; a client address
gets a few answers a second (design section 4, "Bounds on strangers").
"""

from collections.abc import Callable, Iterator, Mapping
from math import ceil

import trio

from relay.crawl.limits import limits_of
from relay.crawl.settings import HostSettings
from relay.net.exchange import Request, Response, json_response
from relay.net.limiter import Keyed, TokenBucket
from relay.protocol.syntax import format_datetime, is_tid, tid_ms
from relay.serve.audience import address_group
from relay.serve.routes import READ, Route
from relay.serve.xrpc import HOSTNAME_CHARS_MAX, Refusal, bad_request, did_param, required
from relay.store.batch import DropNote
from relay.store.hosts import HostRow
from relay.store.store import Store
from relay.verify.chain import AccountState, effective_status
from relay.verify.identity import Identity
from relay.verify.modes import LENIENT, RATCHET, STRICT, mode_of
from relay.verify.reasons import explain
from relay.verify.verdict import Reason

ANSWERS_PER_SECOND = 2.0
ANSWERS_BURST = 20
ADDRESSES_MAX = 50_000

_REASONS = frozenset(Reason)

_HOST_STATES = {
    "active": "This relay reads the stream of the host.",
    "idle": "The host says that our place in its stream lies in its future, so there is nothing to read. It is asked "
    "again every few minutes.",
    "offline": "The host could not be reached many times in a row. It is tried again with growing pauses of up to an "
    "hour; a requestCrawl makes that now.",
    "throttled": "The host is over one of its limits on this relay, and is read no faster than they allow.",
    "banned": "The operator of this relay has banned the host; it is not read.",
}
_MODES = {
    STRICT: "Every commit but the first of an account has to carry `prevData`, and `prev` in updates and deletes.",
    RATCHET: "Commits without `prevData` and `prev` still pass, until the host sends the first one that has them.",
    LENIENT: "Commits without `prevData` and `prev` pass, by choice of this relay's operator.",
}
_LOCAL_STATES = {
    "takendown": "The operator of this relay has taken the account down; its content does not pass here.",
    "suspended": "The operator of this relay has suspended the account; its content does not pass for now.",
    "throttled": "Its host has more accounts than its limit on this relay. The account waits for room and is let in by "
    "itself.",
}


class Explanations:
    """Answers to owners of hosts and accounts. `mode` is the configured one, `now_ms` the wall clock."""

    def __init__(self, store: Store, hosts: HostSettings, mode: str, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._hosts = hosts
        self._mode = mode
        self._now_ms = now_ms
        self._budgets = Keyed(lambda now: TokenBucket(ANSWERS_PER_SECOND, ANSWERS_BURST, now), ADDRESSES_MAX)

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The paths served here."""
        yield "/explain/host", Route(READ, self.host)
        yield "/explain/account", Route(READ, self.account)

    async def host(self, request: Request) -> Response:
        """`?hostname=`: what becomes of everything that this host sends."""
        self._check_budget(request)
        hostname = _hostname(required(request.query, "hostname"))
        with self._store.view() as view:
            row = view.host_named(hostname)
            notes = view.notes(row.host_id) if row is not None else []
        if row is None:
            raise Refusal(
                404,
                "HostNotFound",
                "this relay has never read the host; a PDS makes itself known with "
                'POST /xrpc/com.atproto.sync.requestCrawl {"hostname": "..."}',
            )
        return json_response(200, describe_host(row, notes, self._hosts, self._mode, self._now_ms()))

    async def account(self, request: Request) -> Response:
        """`?did=`: what becomes of the events of this account."""
        self._check_budget(request)
        did = did_param(request.query)
        with self._store.view() as view:
            account, identity = view.account(did), view.identity(did)
            host = view.host(account.host_id) if account is not None else None
            notes = view.notes(did)
        if account is None or host is None:
            raise Refusal(
                404,
                "AccountNotFound",
                "no event of the account has passed here; /explain/host tells whether its PDS is read",
            )
        return json_response(200, describe_account(did, account, identity, host, notes))

    def _check_budget(self, request: Request) -> None:
        """Raises `Refusal` 429 when this address has asked too often (checklist 248)."""
        now = trio.current_time()
        budget = self._budgets.get(address_group(request.client), now)
        if not budget.take(now):
            seconds = ceil(budget.delay_seconds(now))
            raise Refusal(429, "RateLimitExceeded", "asked too often", (("Retry-After", str(seconds)),))


def describe_host(
    row: HostRow, notes: list[DropNote], settings: HostSettings, configured_mode: str, now_ms: int
) -> dict[str, object]:
    """A host as its owner needs to know it."""
    limits = limits_of(row, settings)
    mode = mode_of(row.mode, configured_mode, known_at_install=row.known_at_install, proven=row.proven)
    silent_seconds = (now_ms - row.last_event_ms) // 1000 if row.last_event_ms else None
    return {
        "hostname": row.hostname,
        "summary": _host_summary(row),
        "status": row.status,
        "statusSince": _time(row.since_ms),
        "lastError": row.last_error or None,
        "mode": {"name": mode, "means": _MODES[mode], "sentProvenCommit": row.proven},
        "limits": {"tier": limits.tier, "accounts": limits.accounts, "eventsPerSecond": limits.per_second},
        "accounts": row.account_count,
        "cursor": row.cursor,
        "cursorLag": {
            "lastEventReceived": _time(row.last_event_ms),
            "secondsAgo": silent_seconds,
            "means": "everything up to `cursor`, in the host's own numbering, is settled here; what came later is not",
        },
        "firstAccepted": _time(row.first_event_ms),
        "lastAccepted": _time(row.last_accepted_ms),
        "accepted": row.accepted,
        "acceptedUnproven": row.remarks.get("unproven", 0),
        "chainBreaks": row.remarks.get("chain_break", 0),
        "dropped": [_count(reason, count) for reason, count in _most(row.dropped)],
        "lastDrops": [_drop(note) for note in notes],
    }


def describe_account(
    did: str, account: AccountState, identity: Identity | None, host: HostRow, notes: list[DropNote]
) -> dict[str, object]:
    """An account as its owner needs to know it."""
    active, status = effective_status(account)
    return {
        "did": did,
        "summary": _account_summary(account, identity, host),
        "active": active,
        "status": status,
        "statusAtHost": {"active": account.upstream_active, "status": account.upstream_status or None},
        "statusHere": account.local_status or None,
        "host": {"hostname": host.hostname, "status": host.status, "lastAcceptedSeq": account.upstream_seq},
        "identity": None if identity is None else _identity(identity),
        "rev": account.rev or None,
        "revTime": _time(tid_ms(account.rev)) if is_tid(account.rev) else None,
        "lastDrops": [_drop(note) for note in notes],
    }


def _host_summary(row: HostRow) -> str:
    words = _HOST_STATES.get(row.status, f"The host is {row.status}.")
    if row.status == "active" and row.last_error:
        words = f"The last connection to the host ended ({row.last_error}); it is tried again by itself."
    return words if row.accepted else f"{words} Nothing of it has been accepted yet."


def _account_summary(account: AccountState, identity: Identity | None, host: HostRow) -> str:
    """The first thing that stands in the way, or that nothing does."""
    if account.local_status:
        return _LOCAL_STATES[account.local_status]
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
    if host.status in ("offline", "banned"):
        return f"The account is in order. {_HOST_STATES[host.status]}"
    return "The account is in order." if account.rev else "The account is in order; no commit of it has passed yet."


def _identity(identity: Identity) -> dict[str, object]:
    return {
        "pds": identity.host,
        "hasSigningKey": identity.key is not None,
        "deleted": identity.tombstone,
        "readAt": _time(identity.fetched_ms),
        "willBeReadAgain": identity.stale,
    }


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The most frequent first."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _count(reason: str, count: int) -> dict[str, object]:
    return {"reason": reason, "count": count, "means": _means(reason)}


def _drop(note: DropNote) -> dict[str, object]:
    return {
        "time": _time(note.time_ms),
        "reason": note.reason,
        "means": _means(note.reason),
        "detail": note.detail or None,
        "rev": note.rev or None,
        "seq": note.upstream_seq,
    }


def _means(reason: str) -> str:
    """The rule in a sentence; a reason that an earlier version wrote may be one we no longer have."""
    return explain(Reason(reason)) if reason in _REASONS else ""


def _hostname(text: str) -> str:
    """The name in what people type: a hostname, or the URL of a PDS. Raises `Refusal`."""
    name = text.strip().lower().removeprefix("https://").removeprefix("http://").rstrip("/")
    if not 0 < len(name) <= HOSTNAME_CHARS_MAX:
        raise bad_request("hostname is not a hostname")
    return name


def _time(time_ms: int) -> str | None:
    return format_datetime(time_ms) if time_ms else None
