"""Bans of whole domains, and the two switches of the public requestCrawl; all of it kept in the state.

A ban of a domain holds for every name below it, now and later (checklist 260): hosts that are known are banned with it
and come back with its end, unless they were banned for themselves or lie under another ban.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from relay.crawl.settings import HostSettings
from relay.net.exchange import Request, Response, json_response
from relay.net.guard import is_name
from relay.protocol.syntax import format_datetime
from relay.serve.admin.inputs import flag, success
from relay.serve.crawlrequest import Offload
from relay.serve.routes import PROCEDURE, QUERY, Route
from relay.serve.xrpc import Refusal, bad_request, body_of, whole_number
from relay.store.policy import DOMAIN_BAN, NEW_PER_DAY, REQUEST_CRAWL, DomainBan, decoded, encoded
from relay.store.store import Store

PER_DAY_MAX = 1_000_000_000
BANS_MAX = 10_000


class Domains:
    """Domain bans and the switches of requestCrawl."""

    def __init__(
        self,
        store: Store,
        settings: HostSettings,
        *,
        offload: Offload,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._settings = settings
        self._offload = offload
        self._now_ms = now_ms

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The paths served here."""
        yield "/admin/subs/listDomainBans", Route(QUERY, self.bans)
        yield "/admin/subs/banDomain", Route(PROCEDURE, self.ban)
        yield "/admin/subs/unbanDomain", Route(PROCEDURE, self.unban)
        yield "/admin/subs/getEnabled", Route(QUERY, self.enabled)
        yield "/admin/subs/setEnabled", Route(PROCEDURE, self.set_enabled)
        yield "/admin/subs/perDayLimit", Route(QUERY, self.per_day)
        yield "/admin/subs/setPerDayLimit", Route(PROCEDURE, self.set_per_day)

    async def bans(self, _request: Request) -> Response:
        """`subs/listDomainBans`; `bans` says more than the reference relay's key."""
        with self._store.view() as view:
            found = view.policy_page(DOMAIN_BAN, "", BANS_MAX)
        bans = [(name, decoded(value, DomainBan)) for name, value in found]
        detailed = [
            {"domain": name, "since": format_datetime(ban.since_ms), "hosts": len(ban.host_ids)} for name, ban in bans
        ]
        return json_response(200, {"banned_domains": [name for name, _ in bans], "bans": detailed})

    async def ban(self, request: Request) -> Response:
        """`subs/banDomain`; again for a domain that is banned already does no harm."""
        domain = _domain(request)
        with self._store.view() as view:
            value = view.policy_value(DOMAIN_BAN + domain)
            if value is None and len(view.policy_page(DOMAIN_BAN, "", BANS_MAX)) >= BANS_MAX:
                raise Refusal(400, "TooManyBans", f"there are {BANS_MAX} domain bans already")
        await self._offload(partial(self._store.ban_domain, domain, now_ms=self._now_ms()))
        return success()

    async def unban(self, request: Request) -> Response:
        """`subs/unbanDomain`: the hosts that this ban banned come back, or pass to another ban that holds for them."""
        domain = _domain(request)
        if not await self._offload(partial(self._store.free_domain, domain, now_ms=self._now_ms())):
            raise Refusal(404, "NotFound", "the domain is not banned")
        return success()

    async def enabled(self, _request: Request) -> Response:
        """`subs/getEnabled`: whether the public may ask for a crawl."""
        return json_response(200, {"enabled": self._setting(REQUEST_CRAWL, bool, self._settings.request_crawl)})

    async def set_enabled(self, request: Request) -> Response:
        """`subs/setEnabled`; kept over restarts, where it wins over the configuration."""
        await self._set(REQUEST_CRAWL, flag(request, "enabled"))
        return success()

    async def per_day(self, _request: Request) -> Response:
        """`subs/perDayLimit`: new hosts a day by public requestCrawl."""
        return json_response(200, {"limit": self._setting(NEW_PER_DAY, int, self._settings.new_per_day)})

    async def set_per_day(self, request: Request) -> Response:
        """`subs/setPerDayLimit`; kept over restarts, where it wins over the configuration."""
        await self._set(NEW_PER_DAY, whole_number(request.query, "limit", None, PER_DAY_MAX))
        return success()

    def _setting(self, name: str, kind: type[Any], default: object) -> object:
        with self._store.view() as view:
            return view.policy(name, kind, default)

    async def _set(self, name: str, value: object) -> None:
        await self._offload(partial(self._store.set_policy, name, encoded(value)))


def _domain(request: Request) -> str:
    """The domain of the body; the key is `Domain`, in any case, as the reference relay reads it."""
    body = body_of(request.body, dict[str, Any], '{"Domain": "example.com"}')
    given = {name.lower(): value for name, value in body.items()}.get("domain")
    domain = given.lower().strip().removeprefix("*.").rstrip(".") if isinstance(given, str) else ""
    if not is_name(domain):
        raise bad_request('Domain must be a domain such as "example.com"')
    return domain
