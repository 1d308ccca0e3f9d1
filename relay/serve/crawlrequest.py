"""`requestCrawl` and `notifyOfUpdate`: a host asks to be read, or to be tried again now.

Owns the way from a request to a host row. Whether a host may be crawled is decided in `relay.crawl.admission`;
following it is the ingest workers', which notice the changed row by its generation (design section 1). A host that is
being read already costs one row read and no write, since PDSes ask after every few commits (checklist 236).
"""

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from relay.crawl.admission import Refused, judge_request
from relay.crawl.settings import HostSettings
from relay.net.exchange import Request, Response
from relay.serve.routes import PROCEDURE, Route
from relay.serve.xrpc import Refusal, hostname_body
from relay.store.hosts import HostRow
from relay.store.store import Store

Offload = Callable[..., Awaitable[Any]]
_RETRIED = frozenset({"idle", "offline"})


class CrawlRequests:
    """Takes requests of hosts. `offload` runs a write of the store where it may wait for the lock."""

    def __init__(self, store: Store, settings: HostSettings, *, offload: Offload, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._settings = settings
        self._offload = offload
        self._now_ms = now_ms

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The paths served here; the deprecated one means the same (protocol.md section 19.3)."""
        yield "/xrpc/com.atproto.sync.requestCrawl", Route(PROCEDURE, self.request_crawl)
        yield "/xrpc/com.atproto.sync.notifyOfUpdate", Route(PROCEDURE, self.request_crawl)

    async def request_crawl(self, request: Request) -> Response:
        """200 with an empty body once the host is known and will be read."""
        verdict = judge_request(hostname_body(request.body), self._settings)
        if isinstance(verdict, Refused):
            raise Refusal(verdict.status, verdict.error, verdict.message)
        origin = verdict.origin
        with self._store.view() as view:
            host = view.host_named(origin.name)
        if host is None:
            start = self._settings.start
            add = partial(
                self._store.add_host, origin.name, insecure=not origin.tls, now_ms=self._now_ms(), start=start
            )
            await self._offload(add)
        else:
            await self._ask_again(host)
        return Response(200)

    async def _ask_again(self, host: HostRow) -> None:
        if host.status == "banned":
            raise Refusal(400, "HostBanned", "this relay does not read the host")
        if host.status in _RETRIED:
            await self._offload(partial(self._store.update_host, host.host_id, asked_ms=self._now_ms()))
