"""Which request goes where: verbs, CORS, refusals as JSON, and one count per answer.

Owns the table of paths, which of them are limited by address, and what is answered when none fits (checklist 244 to
247). Does not own what an endpoint says, nor the answer to a fault of ours, nor sockets; the `Server` and CORS origin
headers on every response are constants of the HTTP server below.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import trio

from relay.net.exchange import Request, Response, Upgrade
from relay.observe.metrics import HttpMetrics
from relay.serve.ratelimit import Allowance, RequestLimit
from relay.serve.xrpc import Refusal

Endpoint = Callable[[Request], Awaitable[Response | Upgrade]]

QUERY = ("GET", "HEAD")
PROCEDURE = ("POST",)
STREAM = ("GET",)  # HEAD is not GET: checklist 2

CORS_PREFLIGHT = (
    ("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS"),
    ("Access-Control-Allow-Headers", "*"),
    ("Access-Control-Max-Age", "86400"),
)

# Sync endpoints that exist and are not a relay's to serve (protocol.md section 19.3).
_UNSERVED = frozenset(
    "/xrpc/com.atproto.sync." + name
    for name in (
        "getBlob",
        "getBlocks",
        "getCheckout",
        "getHead",
        "getRecord",
        "listBlobs",
        "listReposByCollection",
    )
)
_match_nsid_path = re.compile(r"/xrpc/[a-zA-Z0-9.-]{1,317}").fullmatch


class Route(NamedTuple):
    """One path: the verbs it has, and what answers them. Not `limited`: requests for it are not counted by address."""

    methods: tuple[str, ...]
    endpoint: Endpoint
    limited: bool = True


class Router:
    """Answers every request of a listener out of one table of routes."""

    def __init__(
        self, routes: Mapping[str, Route], metrics: HttpMetrics, *, limit: RequestLimit, now_ms: Callable[[], int]
    ) -> None:
        self._routes = routes
        self._metrics = metrics
        self._limit = limit
        self._now_ms = now_ms

    async def answer(self, request: Request) -> Response | Upgrade:
        """The answer to `request`; a `Refusal` raised by its endpoint becomes JSON here and nowhere else.

        Whatever else the endpoint raises goes on to the server, which answers with a 500; it is counted as that here.
        """
        began = trio.current_time()
        allowance = self._count(request, began)
        try:
            answer = await self._dispatch(request, allowance)
        except Refusal as refusal:
            answer = refusal.response()
        except Exception:
            self._record(request, "500", began)
            raise
        if allowance is not None and isinstance(answer, Response):
            answer = answer._replace(headers=(*answer.headers, *allowance.headers))
        self._record(request, "101" if isinstance(answer, Upgrade) else str(answer.status), began)
        return answer

    def _record(self, request: Request, status: str, began: float) -> None:
        path = request.path if request.path in self._routes else "other"
        self._metrics.requests.labels(path, status).inc()
        self._metrics.requests_seconds.observe(trio.current_time() - began)

    def _count(self, request: Request, now: float) -> Allowance | None:
        """Count a request for its address; None for what is not limited, preflights among it."""
        route = self._routes.get(request.path)
        if request.method == "OPTIONS" or (route is not None and not route.limited):
            return None
        return self._limit.take(request.client, now, self._now_ms())

    async def _dispatch(self, request: Request, allowance: Allowance | None) -> Response | Upgrade:
        if allowance is not None and allowance.refused:
            raise Refusal(429, "RateLimitExceeded", "too many requests from your address; see Retry-After")
        if request.method == "OPTIONS":
            return Response(204, CORS_PREFLIGHT)
        route = self._routes.get(request.path)
        if route is None:
            raise not_served(request.path)
        if request.method not in route.methods:
            allowed = ", ".join(route.methods)
            raise Refusal(405, "MethodNotAllowed", f"this path answers {allowed}", (("Allow", allowed),))
        return await route.endpoint(request)


def not_served(path: str) -> Refusal:
    """What to say about a path that has no route."""
    if path in _UNSERVED:
        return Refusal(501, "MethodNotImplemented", "a relay does not serve this; ask the account's PDS")
    if _match_nsid_path(path):
        return Refusal(404, "XRPCNotSupported", "this relay has no such method")
    return Refusal(404, "NotFound", "there is nothing at this path")
