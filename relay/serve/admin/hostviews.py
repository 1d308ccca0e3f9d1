"""Hosts as operators see them: a searchable page of rows, and one host in detail.

Owns words and shapes; changes nothing. Pages are made of rows that are at most a second old, in a thread, since there
may be many; a single host is read when it is asked for.
"""

from collections.abc import Callable, Collection, Iterator
from functools import partial
from heapq import nlargest, nsmallest
from typing import Any, NamedTuple

from relay.crawl.limits import limits_of
from relay.crawl.settings import HostSettings
from relay.net.exchange import Request, Response, json_response
from relay.serve.admin.figures import Figures
from relay.serve.admin.inputs import host_param
from relay.serve.crawlrequest import Offload
from relay.serve.explainhost import time_of
from relay.serve.routes import QUERY, Route
from relay.serve.xrpc import HOSTNAME_CHARS_MAX, bad_request, optional, whole_number
from relay.store.batch import DropNote
from relay.store.hosts import HostRow
from relay.store.policy import ALERT, Alert
from relay.store.store import Store
from relay.verify.reasons import explain
from relay.verify.verdict import Reason

PAGE_DEFAULT, PAGE_MAX = 100, 1_000
STATUSES = ("active", "idle", "offline", "throttled", "banned")

SORTS: dict[str, Callable[[HostRow, Figures], Any]] = {
    "hostname": lambda row, _figures: row.hostname,
    "status": lambda row, _figures: (STATUSES.index(row.status) if row.status in STATUSES else 9, row.hostname),
    "accounts": lambda row, _figures: row.account_count,
    "accepted": lambda row, _figures: row.accepted,
    "dropped": lambda row, _figures: sum(row.dropped.values()),
    "lastEvent": lambda row, _figures: row.last_event_ms,
    "firstSeen": lambda row, _figures: row.first_seen_ms,
    "cursor": lambda row, _figures: -1 if row.cursor is None else row.cursor,
    "behind": lambda row, _figures: row.lag_ms,
    "rate": lambda row, figures: figures.rate(row.host_id),
}


class _Wanted(NamedTuple):
    """What a page is to show: which rows, in which order, and where among them it begins."""

    part: str
    status: str
    sort: str
    order: str
    offset: int
    limit: int


class HostViews:
    """Answers about hosts out of `figures` and the store. `offload` runs what would hold the loop."""

    def __init__(self, store: Store, settings: HostSettings, figures: Figures, *, offload: Offload) -> None:
        self._store = store
        self._settings = settings
        self._figures = figures
        self._offload = offload

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The paths served here."""
        yield "/admin/hosts", Route(QUERY, self.page)
        yield "/admin/host", Route(QUERY, self.host)

    async def page(self, request: Request) -> Response:
        """`GET /admin/hosts`: `q` (part of a name), `status`, `sort`, `order`, `offset`, `limit`."""
        part = (optional(request.query, "q") or "")[:HOSTNAME_CHARS_MAX].lower()
        status, sort = optional(request.query, "status") or "", optional(request.query, "sort") or "hostname"
        order = optional(request.query, "order") or "asc"
        if sort not in SORTS or order not in ("asc", "desc") or status not in ("", *STATUSES):
            raise bad_request(f"sort is one of {', '.join(SORTS)}; order asc or desc; status {', '.join(STATUSES)}")
        offset = whole_number(request.query, "offset", 0, 10**9)
        limit = whole_number(request.query, "limit", PAGE_DEFAULT, PAGE_MAX, minimum=1)
        rows = (await self._figures.fresh()).values()
        wanted = _Wanted(part, status, sort, order, offset, limit)
        paged: Response = await self._offload(partial(self._paged, rows, wanted))
        return paged

    async def host(self, request: Request) -> Response:
        """`GET /admin/host?hostname=`: the row, its limits and the last drops."""
        host = host_param(self._store, request, "hostname")
        with self._store.view() as view:
            notes = view.notes(host.host_id)
            ban, alert = view.domain_ban(host.hostname), view.policy(ALERT + host.hostname, Alert, Alert())
        answer = host_details(host, self._settings)
        answer |= {"ratePerSecond": self._figures.rate(host.host_id), "rates": self._figures.rates(host.host_id)}
        answer |= {"domainBan": ban, "alertsSilenced": alert.silenced, "tiers": list(self._settings.tiers)}
        answer["lastDrops"] = [describe_note(note) for note in notes]
        return json_response(200, answer)

    def _paged(self, rows: Collection[HostRow], wanted: _Wanted) -> Response:
        counts = dict.fromkeys(STATUSES, 0)
        for row in rows:
            counts[row.status] = counts.get(row.status, 0) + 1
        found = [row for row in rows if wanted.part in row.hostname and wanted.status in ("", row.status)]
        key, first = SORTS[wanted.sort], nsmallest if wanted.order == "asc" else nlargest
        ends_at = wanted.offset + wanted.limit
        begun = first(ends_at, found, key=lambda row: (key(row, self._figures), row.host_id))
        hosts = [self._summary(row) for row in begun[wanted.offset :]]
        return json_response(200, {"hosts": hosts, "matched": len(found), "total": len(rows), "statuses": counts})

    def _summary(self, row: HostRow) -> dict[str, Any]:
        details = host_details(row, self._settings)
        return {**details, "ratePerSecond": self._figures.rate(row.host_id), "rates": self._figures.rates(row.host_id)}


def is_connected(row: HostRow) -> bool:
    """Whether the last that a worker reported of the host is an open connection."""
    return row.connected_ms > 0 and row.status != "banned"


def host_details(row: HostRow, settings: HostSettings) -> dict[str, Any]:
    """A host with everything its row says."""
    limits = limits_of(row, settings)
    return {
        "id": row.host_id,
        "hostname": row.hostname,
        "insecure": row.insecure,
        "status": row.status,
        "since": time_of(row.since_ms),
        "connected": is_connected(row),
        "lastError": row.last_error,
        "cursor": row.cursor,
        "cursorBefore": row.cursor_before,
        "epoch": row.epoch,
        "start": row.start,
        "mode": row.mode,
        "proven": row.proven,
        "knownAtInstall": row.known_at_install,
        "accounts": row.account_count,
        "throttledAccounts": row.throttled_count,
        "accountLimit": limits.accounts,
        "accountLimitOverride": row.account_limit,
        "tier": limits.tier,
        "tierOverride": row.tier,
        "limits": {"perSecond": limits.per_second, "perHour": limits.per_hour, "perDay": limits.per_day},
        "rateOverrides": row.rates,
        "firstSeen": time_of(row.first_seen_ms),
        "firstEvent": time_of(row.first_event_ms),
        "lastEvent": time_of(row.last_event_ms),
        "lastAccepted": time_of(row.last_accepted_ms),
        "catchingUpSeconds": row.lag_ms // 1_000 or None,
        "possibleGap": row.possible_gap or None,
        "possibleGapAt": time_of(row.possible_gap_ms),
        "accepted": row.accepted,
        "dropped": row.dropped,
        "remarks": row.remarks,
    }


def describe_note(note: DropNote) -> dict[str, Any]:
    """A drop with the rule it broke."""
    rule = explain(Reason(note.reason)) if note.reason in set(Reason) else ""
    return {
        "time": time_of(note.time_ms),
        "reason": note.reason,
        "rule": rule,
        "detail": note.detail,
        "did": note.subject,
        "rev": note.rev or None,
        "upstreamSeq": note.upstream_seq,
    }
