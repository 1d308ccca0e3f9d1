"""Hosts as operators see them: the reference relay's list, a searchable page of rows, and one host in detail.

Owns words and shapes; changes nothing. Lists are made of rows that are at most a second old, a single host is read when
it is asked for.
"""

from collections.abc import Callable, Iterator
from typing import Any

from relay.crawl.limits import limits_of
from relay.crawl.settings import HostSettings
from relay.net.exchange import Request, Response, json_response
from relay.protocol.syntax import format_datetime
from relay.serve.admin.figures import Figures
from relay.serve.admin.inputs import host_param, whole_number
from relay.serve.routes import QUERY, Route
from relay.serve.xrpc import bad_request, optional
from relay.store.batch import DropNote
from relay.store.hosts import HostRow
from relay.store.policy import ALERT, Alert, decoded
from relay.store.store import Store
from relay.store.view import View
from relay.verify.reasons import explain
from relay.verify.verdict import Reason

LIST_MAX = 10_000  # of the reference relay's list, which has no pages
PAGE_DEFAULT, PAGE_MAX = 100, 1_000
_SEARCH_CHARS_MAX = 261
STATUSES = ("active", "idle", "offline", "throttled", "banned")
_WINDOWS = {"PerSecondEventRate": ("per_second", 1), "PerHourEventRate": ("per_hour", 3_600)}
_WINDOWS["PerDayEventRate"] = ("per_day", 86_400)

SORTS: dict[str, Callable[[HostRow, float], Any]] = {
    "hostname": lambda row, _rate: row.hostname,
    "status": lambda row, _rate: (STATUSES.index(row.status) if row.status in STATUSES else 9, row.hostname),
    "accounts": lambda row, _rate: row.account_count,
    "accepted": lambda row, _rate: row.accepted,
    "dropped": lambda row, _rate: sum(row.dropped.values()),
    "lastEvent": lambda row, _rate: row.last_event_ms,
    "firstSeen": lambda row, _rate: row.first_seen_ms,
    "cursor": lambda row, _rate: -1 if row.cursor is None else row.cursor,
    "behind": lambda row, _rate: row.lag_ms,
    "rate": lambda _row, rate: rate,
}


class HostViews:
    """Answers about hosts out of `figures` and the store."""

    def __init__(self, store: Store, settings: HostSettings, figures: Figures) -> None:
        self._store = store
        self._settings = settings
        self._figures = figures

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The paths served here."""
        yield "/admin/pds/list", Route(QUERY, self.list_pds)
        yield "/admin/subs/getUpstreamConns", Route(QUERY, self.connections)
        yield "/admin/hosts", Route(QUERY, self.page)
        yield "/admin/host", Route(QUERY, self.host)

    async def list_pds(self, _request: Request) -> Response:
        """`pds/list` with the reference relay's keys.

        `EventsSeenSinceStartup` is one that means more here: it counts since the host was first seen, over restarts.
        """
        rows = list((await self._figures.look()).values())[:LIST_MAX]
        with self._store.view() as view:
            alerts = [_alert(view, row.hostname) for row in rows]
        return json_response(200, [self._pds(row, alert) for row, alert in zip(rows, alerts, strict=True)])

    async def connections(self, _request: Request) -> Response:
        """`subs/getUpstreamConns`: names of the hosts that are connected."""
        rows = await self._figures.look()
        return json_response(200, [row.hostname for row in rows.values() if is_connected(row)])

    async def page(self, request: Request) -> Response:
        """`GET /admin/hosts`: `q` (part of a name), `status`, `sort`, `order`, `offset`, `limit`."""
        wanted = (optional(request.query, "q") or "")[:_SEARCH_CHARS_MAX].lower()
        status, sort = optional(request.query, "status") or "", optional(request.query, "sort") or "hostname"
        order = optional(request.query, "order") or "asc"
        if sort not in SORTS or order not in ("asc", "desc") or status not in ("", *STATUSES):
            raise bad_request(f"sort is one of {', '.join(SORTS)}; order asc or desc; status {', '.join(STATUSES)}")
        offset = whole_number(request, "offset", 0, 10**9)
        limit = whole_number(request, "limit", PAGE_DEFAULT, PAGE_MAX, minimum=1)
        rows = (await self._figures.fresh()).values()
        counts = dict.fromkeys(STATUSES, 0)
        for row in rows:
            counts[row.status] = counts.get(row.status, 0) + 1
        key = SORTS[sort]
        found = [row for row in rows if wanted in row.hostname and status in ("", row.status)]
        found.sort(key=lambda row: (key(row, self._figures.rate(row.host_id)), row.host_id), reverse=order == "desc")
        hosts = [self._summary(row) for row in found[offset : offset + limit]]
        return json_response(200, {"hosts": hosts, "matched": len(found), "total": len(rows), "statuses": counts})

    async def host(self, request: Request) -> Response:
        """`GET /admin/host?hostname=`: the row, its limits and the last drops."""
        host = host_param(self._store, request, "hostname")
        with self._store.view() as view:
            notes = view.notes(host.host_id)
            ban, alert = view.domain_ban(host.hostname), _alert(view, host.hostname)
        answer = host_details(host, self._settings)
        answer |= {"ratePerSecond": self._figures.rate(host.host_id), "rates": self._figures.rates(host.host_id)}
        answer |= {"domainBan": ban, "alertsSilenced": alert.silenced, "tiers": list(self._settings.tiers)}
        answer["lastDrops"] = [describe_note(note) for note in notes]
        return json_response(200, answer)

    def _summary(self, row: HostRow) -> dict[str, Any]:
        details = host_details(row, self._settings)
        return {**details, "ratePerSecond": self._figures.rate(row.host_id), "rates": self._figures.rates(row.host_id)}

    def _pds(self, row: HostRow, alert: Alert) -> dict[str, Any]:
        limits = limits_of(row, self._settings)
        connected = is_connected(row)
        answer: dict[str, Any] = {
            "ID": row.host_id,
            "CreatedAt": format_datetime(row.first_seen_ms),
            "Host": row.hostname,
            "SSL": not row.insecure,
            "Cursor": -1 if row.cursor is None else row.cursor,
            "Registered": row.status == "active",
            "Blocked": row.status == "banned",
            "CrawlRateLimit": 0,
            "RepoCount": row.account_count,
            "RepoLimit": limits.accounts,
            "HasActiveConnection": connected,
            "EventsSeenSinceStartup": row.accepted + sum(row.dropped.values()),
            "UserCount": row.account_count,
            "AccountLimitAlertsSilenced": alert.silenced,
            "AccountLimitAlertState": alert.state,
            "AccountLimitAlertSentAt": format_datetime(alert.sent_ms) if alert.sent_ms else None,
        }
        for key, (name, seconds) in _WINDOWS.items():
            answer[key] = {"Max": getattr(limits, name) if connected else -1, "Window": seconds}
        return answer


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
        "since": _time(row.since_ms),
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
        "firstSeen": _time(row.first_seen_ms),
        "firstEvent": _time(row.first_event_ms),
        "lastEvent": _time(row.last_event_ms),
        "lastAccepted": _time(row.last_accepted_ms),
        "catchingUpSeconds": row.lag_ms // 1_000 or None,
        "possibleGap": row.possible_gap or None,
        "possibleGapAt": _time(row.possible_gap_ms),
        "accepted": row.accepted,
        "dropped": row.dropped,
        "remarks": row.remarks,
    }


def describe_note(note: DropNote) -> dict[str, Any]:
    """A drop with the rule it broke."""
    rule = explain(Reason(note.reason)) if note.reason in set(Reason) else ""
    return {
        "time": _time(note.time_ms),
        "reason": note.reason,
        "rule": rule,
        "detail": note.detail,
        "did": note.subject,
        "rev": note.rev or None,
        "upstreamSeq": note.upstream_seq,
    }


def _alert(view: View, hostname: str) -> Alert:
    value = view.policy_value(ALERT + hostname)
    return decoded(value, Alert) if value is not None else Alert()


def _time(time_ms: int) -> str | None:
    return format_datetime(time_ms) if time_ms else None
