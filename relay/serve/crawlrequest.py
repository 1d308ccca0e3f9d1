"""`requestCrawl` and `notifyOfUpdate`: a host asks to be read, or to be tried again now.

Owns the way from a request to a host row, and what it may cost: cheap checks come first, one row read answers for a
host that is being read (PDSes ask after every few commits, checklist 236), and whatever asks the host itself or writes
is limited by the address that asks and by the host that is asked about. What may be crawled is decided in
`relay.crawl.admission`; following it is the ingest workers', which notice the changed row by its generation.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec
import trio

from relay.crawl.admission import (
    DESCRIBE_BYTES_MAX,
    DESCRIBE_PATH,
    DESCRIBE_SECONDS_MAX,
    Refused,
    judge_answer,
    judge_request,
)
from relay.crawl.limits import TRUSTED_TIER, tier_of
from relay.crawl.settings import HostSettings
from relay.net.errors import NetError
from relay.net.exchange import Request, Response
from relay.net.guard import Origin
from relay.net.http import HttpClient
from relay.net.limiter import Keyed, TokenBucket
from relay.net.proxies import address_group
from relay.serve.ratelimit import shared_buckets, spend
from relay.serve.routes import PROCEDURE, Route
from relay.serve.siblings import Siblings
from relay.serve.xrpc import Refusal, hostname_body, too_many
from relay.store.hosts import HostRow
from relay.store.policy import NEW_PER_DAY, REQUEST_CRAWL, DomainBanned
from relay.store.store import Store

Offload = Callable[..., Awaitable[Any]]

REQUEST_PATH = "/xrpc/com.atproto.sync.requestCrawl"
COSTLY_BURST, COSTLY_SECONDS = 30, 10.0  # of one address: so many at once, then one in so many seconds
CHECKS_BURST, CHECK_SECONDS = 3, 10.0  # of one host
CHECKS_AT_ONCE = 16
TOLD_SECONDS = 3_600.0  # siblings hear of one host at most so often
BUDGET_RETRY_SECONDS = 3_600.0  # of whom the budget of the day refused
KEYS_MAX = 50_000
_RETRIED = frozenset({"idle", "offline"})


class CrawlRequests:
    """Takes requests of hosts. `offload` runs a write of the store where it may wait for the lock.

    What an address may cost holds for all `workers` together, of which this is one.
    """

    def __init__(
        self,
        store: Store,
        settings: HostSettings,
        client: HttpClient,
        siblings: Siblings,
        *,
        offload: Offload,
        now_ms: Callable[[], int],
        workers: int,
    ) -> None:
        self._store = store
        self._settings = settings
        self._client = client
        self._siblings = siblings
        self._offload = offload
        self._now_ms = now_ms
        self._costly = shared_buckets(1 / COSTLY_SECONDS, COSTLY_BURST, workers, KEYS_MAX)
        self._checks = Keyed(lambda now: TokenBucket(1 / CHECK_SECONDS, CHECKS_BURST, now), KEYS_MAX)
        self._told = Keyed(lambda now: TokenBucket(1 / TOLD_SECONDS, 1, now), KEYS_MAX)
        self._checking = trio.CapacityLimiter(CHECKS_AT_ONCE)

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The paths served here; the deprecated one means the same (protocol.md section 19.3)."""
        yield REQUEST_PATH, Route(PROCEDURE, self.request_crawl)
        yield "/xrpc/com.atproto.sync.notifyOfUpdate", Route(PROCEDURE, self.request_crawl)

    async def request_crawl(self, request: Request) -> Response:
        """200 with an empty body once the host is known and will be read."""
        origin = self._origin(hostname_body(request.body), request.headers)
        if not self._setting(REQUEST_CRAWL, bool, self._settings.request_crawl):
            raise Refusal(403, "CrawlNotAllowed", "this relay takes no crawl requests at present")
        host = self._known(origin)
        if host is None or host.status in _RETRIED:
            spend(self._costly, address_group(request.client), "too many crawl requests from your address")
            await self._take_up(origin, host, in_budget=tier_of(origin.name, self._settings) != TRUSTED_TIER)
        self._tell_siblings(origin, request.headers)
        return Response(200)

    async def crawl(self, hostname: str, headers: Mapping[str, str]) -> HostRow:
        """The same at an operator's word: no switch, no budget and no rate holds, but bans and the check do.

        Raises `Refusal`. `headers` are those of the operator's request.
        """
        origin = self._origin(hostname, headers)
        host = self._known(origin)
        if host is not None and host.status not in _RETRIED:
            return host
        return await self._take_up(origin, host, in_budget=False)

    def _origin(self, hostname: str, headers: Mapping[str, str]) -> Origin:
        verdict = judge_request(hostname, self._settings, (headers.get("host", "").strip().lower(),))
        if isinstance(verdict, Refused):
            raise _refusal(verdict)
        return verdict.origin

    def _known(self, origin: Origin) -> HostRow | None:
        """The host's row, None when it has none. Raises `Refusal` for one that is banned by itself or by a domain."""
        with self._store.view() as view:
            host, domain = view.host_named(origin.name), view.domain_ban(origin.name)
        if domain is not None:
            raise _banned_with(domain)
        if host is not None and host.status == "banned":
            raise Refusal(400, "HostBanned", "this relay does not read the host")
        return host

    async def _take_up(self, origin: Origin, host: HostRow | None, *, in_budget: bool) -> HostRow:
        """Add the host once it answers as a PDS, or have a known one tried again now."""
        if host is not None:
            again: HostRow = await self._offload(
                partial(self._store.update_host, host.host_id, asked_ms=self._now_ms())
            )
            return again
        per_day = self._setting(NEW_PER_DAY, int, self._settings.new_per_day)
        await self._check(origin)
        fields: dict[str, Any] = {
            "insecure": not origin.tls,
            "now_ms": self._now_ms(),
            "start": self._settings.start,
            "requested": in_budget,
        }
        add = partial(self._store.admit_host, per_day=per_day) if in_budget else self._store.add_host
        try:
            added: HostRow | None = await self._offload(partial(add, origin.name, **fields))
        except DomainBanned as ban:  # it came while the host was asked
            raise _banned_with(str(ban)) from None
        if added is None:
            raise too_many(
                f"this relay takes {per_day} new hosts a day, and has; try again later", BUDGET_RETRY_SECONDS
            )
        return added

    async def _check(self, origin: Origin) -> None:
        """Ask the host who it is (checklist 239), within 5 s and without following a redirect. Raises `Refusal`."""
        spend(self._checks, origin.name, "this host was asked about too often")
        if self._checking.available_tokens < 1:
            raise Refusal(503, "Busy", "too many hosts are being checked", (("Retry-After", "10"),))
        async with self._checking:
            try:
                response = await self._client.get(
                    origin.url + DESCRIBE_PATH, timeout_seconds=DESCRIBE_SECONDS_MAX, body_bytes_max=DESCRIBE_BYTES_MAX
                )
            except NetError as error:
                raise Refusal(400, "HostNotFound", f"the host did not answer describeServer: {error.slug}") from None
        refused = judge_answer(response)
        if refused is not None:
            raise _refusal(refused)

    def _tell_siblings(self, origin: Origin, headers: Mapping[str, str]) -> None:
        now = trio.current_time()
        if self._told.get(origin.name, now).delay_seconds(now):
            return
        body = msgspec.json.encode({"hostname": origin.name if origin.tls else origin.url})
        if self._siblings.tell(REQUEST_PATH, body, headers):
            self._told.get(origin.name, now).take(now)

    def _setting(self, name: str, kind: type[Any], configured: Any) -> Any:
        """What an operator set while the relay ran, else what is configured."""
        with self._store.view() as view:
            return view.policy(name, kind, configured)


def _banned_with(domain: str) -> Refusal:
    return Refusal(400, "HostBanned", f"this relay does not read hosts of {domain}")


def _refusal(refused: Refused) -> Refusal:
    return Refusal(refused.status, refused.error, refused.message)
