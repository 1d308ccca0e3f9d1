"""The operator's side of a serve worker, put together: every route behind the gate, every change in the audit log.

Owns the wiring, and what all answers have in common: they are not to be cached, and a session in use is prolonged.
"""

from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import cast
from urllib.parse import urlencode

from relay.net.exchange import Request, Response
from relay.serve.admin.accounts import Accounts
from relay.serve.admin.alerts import Alerts
from relay.serve.admin.audit import AuditLog
from relay.serve.admin.auth import USER, Gate
from relay.serve.admin.consumers import Consumers
from relay.serve.admin.domains import Domains
from relay.serve.admin.figures import Figures
from relay.serve.admin.hosts import Hosts
from relay.serve.admin.hostviews import HostViews
from relay.serve.admin.pdslist import PdsList
from relay.serve.admin.peers import Peers
from relay.serve.admin.reports import Machine, Reports
from relay.serve.admin.session import COOKIE, Sessions, cookie_value, set_cookie
from relay.serve.crawlrequest import CrawlRequests, Offload
from relay.serve.dashboard.pages import Dashboard
from relay.serve.routes import PROCEDURE, QUERY, Route
from relay.serve.settings import ServeRoleSettings
from relay.serve.siblings import Siblings
from relay.store.store import Store

# What siblings are told too (reference table 1.2). The switches of requestCrawl are each relay's own.
_SHARED = frozenset(
    f"/admin/{name}"
    for name in (
        "pds/requestCrawl",
        "pds/changeLimits",
        "pds/block",
        "pds/unblock",
        "repo/takeDown",
        "repo/reverseTakedown",
        "subs/banDomain",
        "subs/unbanDomain",
        "subs/killUpstream",
    )
)
_NOT_KEPT = (("Cache-Control", "no-store"),)


class Operator:
    """All of `/admin` and `/dash`. `run` has to run for rates to be known."""

    def __init__(
        self,
        store: Store,
        settings: ServeRoleSettings,
        session_key: bytes,
        peers: Peers,
        *,
        machine: Machine,
        crawl: CrawlRequests,
        siblings: Siblings,
        offload: Offload,
        workers: int,
    ) -> None:
        """`session_key` is the secret of the data folder; `workers` counts this one too."""
        now_ms: Callable[[], int] = machine.now_ms
        bounds, hosts, self._passwords = settings.operator, settings.hosts, settings.admin_passwords
        self._siblings = siblings
        self._sessions = Sessions(session_key, self._passwords, now_ms=now_ms)
        self._gate = Gate(self._passwords, self._sessions, failure_seconds=bounds.failure_seconds, workers=workers)
        self._audit = AuditLog(store, offload=offload, now_ms=now_ms)
        self._figures = Figures(store, now_ms=now_ms)
        self._parts = (
            Hosts(store, hosts, crawl.crawl, offload=offload, now_ms=now_ms),
            HostViews(store, hosts, self._figures, offload=offload),
            PdsList(store, hosts, self._figures, offload=offload),
            Accounts(store, offload=offload, now_ms=now_ms, takedowns_per_page=bounds.takedowns_per_page),
            Domains(store, hosts, offload=offload, now_ms=now_ms),
            Alerts(store, offload=offload),
            Consumers(peers),
            Reports(store, self._figures, peers, machine, offload=offload, streams_max=bounds.streams_max),
        )
        self._dashboard = Dashboard(self._gate, self._sessions, self._audit)

    async def run(self) -> None:
        """Take samples until cancelled; nothing when there is no operator. Raises `StoreError`."""
        if self._gate.is_open:
            await self._figures.run()

    def routes(self) -> Iterator[tuple[str, Route]]:
        """Every path of the operator."""
        yield from self._dashboard.routes()
        for part in self._parts:
            for path, route in part.routes():
                yield path, self._guarded(route)
        yield "/admin/audit", self._guarded(Route(QUERY, self._audit.entries))

    def _guarded(self, route: Route) -> Route:
        async def endpoint(request: Request) -> Response:
            # Only subscribeRepos answers with an upgrade.
            return cast("Response", await route.endpoint(request))

        async def answer(request: Request) -> Response:
            via = await self._gate.admit(request)
            if route.methods == PROCEDURE:
                response = await self._audit.recorded(request, via, endpoint)
                self._tell_siblings(request)
            else:
                response = await endpoint(request)
            renewed = self._sessions.renewed(cookie_value(request.headers.get("cookie", ""), COOKIE))
            cookie = (set_cookie(request, renewed),) if renewed else ()
            return response._replace(headers=(*response.headers, *_NOT_KEPT, *cookie))

        return Route(route.methods, answer, limited=False)

    def _tell_siblings(self, request: Request) -> None:
        """Pass a change on that succeeded here. A session of the dashboard is none of theirs: they get the password."""
        if request.path not in _SHARED:
            return
        target = request.path + (f"?{urlencode(request.query)}" if request.query else "")
        credentials = b64encode(f"{USER}:{self._passwords[0]}".encode()).decode()
        headers = {"authorization": f"Basic {credentials}", **request.headers}
        self._siblings.tell(target, request.body, headers, with_password=True)
