"""Hosts in the shapes of the reference relay: its list, which has no pages, and the names of those connected.

Owns those keys; changes nothing. The list is made in a thread, a page of rows after the other, since there may be many.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import msgspec

from relay.crawl.limits import limits_of
from relay.crawl.settings import HostSettings
from relay.net.exchange import Request, Response, json_response
from relay.protocol.syntax import format_datetime
from relay.serve.admin.figures import ROWS_PER_TXN, Figures
from relay.serve.admin.hostviews import is_connected
from relay.serve.crawlrequest import Offload
from relay.serve.routes import QUERY, Route
from relay.store.hosts import HostRow
from relay.store.policy import ALERT, Alert
from relay.store.store import Store

LIST_MAX = 10_000
_WINDOWS = {"PerSecondEventRate": ("per_second", 1), "PerHourEventRate": ("per_hour", 3_600)}
_WINDOWS["PerDayEventRate"] = ("per_day", 86_400)


class PdsList:
    """Answers about all hosts out of `figures` and the store. `offload` runs what would hold the loop."""

    def __init__(self, store: Store, settings: HostSettings, figures: Figures, *, offload: Offload) -> None:
        self._store = store
        self._settings = settings
        self._figures = figures
        self._offload = offload

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The paths served here."""
        yield "/admin/pds/list", Route(QUERY, self.list_pds)
        yield "/admin/subs/getUpstreamConns", Route(QUERY, self.connections)

    async def list_pds(self, _request: Request) -> Response:
        """`pds/list` with the reference relay's keys.

        `EventsSeenSinceStartup` is one that means more here: it counts since the host was first seen, over restarts.
        """
        rows = list((await self._figures.look()).values())[:LIST_MAX]
        listed: Response = await self._offload(partial(self._listed, rows))
        return listed

    async def connections(self, _request: Request) -> Response:
        """`subs/getUpstreamConns`: names of the hosts that are connected."""
        rows = await self._figures.look()
        return json_response(200, [row.hostname for row in rows.values() if is_connected(row)])

    def _listed(self, rows: Sequence[HostRow]) -> Response:
        listed: list[msgspec.Raw] = []
        for start in range(0, len(rows), ROWS_PER_TXN):
            some = rows[start : start + ROWS_PER_TXN]
            with self._store.view() as view:
                alerts = [view.policy(ALERT + row.hostname, Alert, Alert()) for row in some]
            # Written down one by one: the encoder lets no other thread go on.
            listed += [msgspec.Raw(msgspec.json.encode(self._pds(*each))) for each in zip(some, alerts, strict=True)]
        return json_response(200, listed)

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
