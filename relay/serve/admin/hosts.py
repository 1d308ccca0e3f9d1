"""What an operator does to upstream hosts: add, ban, limits, mode, a new connection, another cursor.

Owns the way from a request to the changed row. Everything persists in the row and takes effect at once, because ingest
workers look again when its generation moves; a ban ends the subscription, its end begins one. Whether a host may be
crawled at all is decided where the public asks for it too (`relay.serve.crawlrequest`).
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from relay.crawl.settings import HostSettings
from relay.net.exchange import Request, Response, json_response
from relay.protocol.limits import UPSTREAM_SEQ_MAX
from relay.serve.admin.hostviews import host_details, is_connected
from relay.serve.admin.inputs import flag, host_param, known_host, success
from relay.serve.crawlrequest import Offload
from relay.serve.routes import PROCEDURE, Route
from relay.serve.xrpc import Refusal, bad_request, body_of, hostname_body
from relay.store.hosts import HostRow
from relay.store.policy import ALERT, Alert, DomainBanned, encoded
from relay.store.store import Store
from relay.verify.modes import MODES

Admit = Callable[[str, Mapping[str, str]], Awaitable[HostRow]]

ACCOUNT_LIMIT_MAX = 1_000_000_000
RATE_MAX = 1_000_000_000
RATES = ("per_second", "per_hour", "per_day")
STARTS = ("window", "live")


class LimitsBody(msgspec.Struct, frozen=True):
    """The input of `pds/changeLimits`; the rates of earlier versions are ignored, as the reference relay does."""

    host: str
    repo_limit: int | None = None
    account_limit_alerts_silenced: bool | None = None


class HostBody(msgspec.Struct, frozen=True, kw_only=True):
    """The input of `hosts/change`: what is absent stays; null gives a limit back to the tier."""

    hostname: str
    account_limit: int | msgspec.UnsetType | None = msgspec.UNSET
    rates: dict[str, int | None] | msgspec.UnsetType = msgspec.UNSET
    tier: str | msgspec.UnsetType = msgspec.UNSET
    mode: str | msgspec.UnsetType = msgspec.UNSET
    start: str | msgspec.UnsetType = msgspec.UNSET
    known_at_install: bool | msgspec.UnsetType = msgspec.UNSET


class CursorBody(msgspec.Struct, frozen=True):
    """The input of `hosts/resetCursor`: the seq to read on after; null for where the host's window begins."""

    hostname: str
    cursor: int | None = None


class Hosts:
    """Changes of hosts. `admit` takes the hostname of an operator's requestCrawl and makes or revives its row."""

    def __init__(
        self, store: Store, settings: HostSettings, admit: Admit, *, offload: Offload, now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._admit = admit
        self._settings = settings
        self._offload = offload
        self._now_ms = now_ms

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The paths served here."""
        for name, endpoint in (
            ("pds/requestCrawl", self.add),
            ("pds/changeLimits", self.change_limits),
            ("pds/block", self.block),
            ("pds/unblock", self.unblock),
            ("subs/killUpstream", self.kill_upstream),
            ("hosts/change", self.change),
            ("hosts/resetCursor", self.reset_cursor),
            ("hosts/reconnect", self.reconnect),
        ):
            yield f"/admin/{name}", Route(PROCEDURE, endpoint)

    async def add(self, request: Request) -> Response:
        """`pds/requestCrawl`: as the public one without its budget, rates and switch; bans and the check hold."""
        await self._admit(hostname_body(request.body), request.headers)
        return success()

    async def change_limits(self, request: Request) -> Response:
        """`pds/changeLimits`: the account limit, and whether alerts about it are wanted."""
        body = body_of(request.body, LimitsBody, '{"host": "pds.example.com", "repo_limit": 1000}')
        host = known_host(self._store, body.host)
        if body.repo_limit is None and body.account_limit_alerts_silenced is None:
            raise bad_request("give repo_limit or account_limit_alerts_silenced")
        if body.repo_limit is not None:
            await self._update(host, account_limit=_bounded("repo_limit", body.repo_limit, ACCOUNT_LIMIT_MAX))
        if body.account_limit_alerts_silenced is not None:
            await self._silence(host.hostname, silenced=body.account_limit_alerts_silenced)
        return success()

    async def block(self, request: Request) -> Response:
        """`pds/block`: no connection from now on, and none after a restart."""
        await self._ban(host_param(self._store, request))
        return success()

    async def unblock(self, request: Request) -> Response:
        """`pds/unblock`: read on where the ban began."""
        host = host_param(self._store, request)
        try:
            await self._offload(partial(self._store.free_host, host.host_id, now_ms=self._now_ms()))
        except DomainBanned as ban:
            raise Refusal(400, "HostBanned", f"the domain {ban} is banned; lift that ban first") from None
        return success()

    async def kill_upstream(self, request: Request) -> Response:
        """`subs/killUpstream`: end the connection; with `block` for good, else a new one begins at once."""
        host, block = host_param(self._store, request), flag(request, "block", default=False)
        if block:
            await self._ban(host)
        elif not is_connected(host):
            raise bad_request("no active connection to this host")
        else:
            await self._update(host, reconnect_ms=self._now_ms())
        return success()

    async def reconnect(self, request: Request) -> Response:
        """`hosts/reconnect`: a new connection now, whatever the state of the present one."""
        host = host_param(self._store, request, "hostname")
        _check_not_banned(host)
        await self._update(host, reconnect_ms=self._now_ms(), asked_ms=self._now_ms())
        return success()

    async def change(self, request: Request) -> Response:
        """`hosts/change`: whatever of a host an operator may set; answers the host as it is then."""
        body = body_of(request.body, HostBody, '{"hostname": "pds.example.com", "account_limit": 1000}')
        host = known_host(self._store, body.hostname)
        fields = self._fields(body, host)
        if not fields:
            raise bad_request("nothing to change: give account_limit, rates, tier, mode, start or known_at_install")
        await self._update(host, **fields)
        return self._answer(host)

    async def reset_cursor(self, request: Request) -> Response:
        """`hosts/resetCursor`: read on after another seq, in a new epoch so that an older place cannot overrule it."""
        body = body_of(request.body, CursorBody, '{"hostname": "pds.example.com", "cursor": 0}')
        host = known_host(self._store, body.hostname)
        if body.cursor is not None and not 0 <= body.cursor <= UPSTREAM_SEQ_MAX:
            raise bad_request("cursor must be a seq of the host, or null")
        changes = {"cursor": body.cursor, "cursor_before": host.cursor, "epoch": host.epoch + 1, "start": "window"}
        await self._update(host, **changes, reconnect_ms=self._now_ms())
        return self._answer(host)

    def _answer(self, host: HostRow) -> Response:
        with self._store.view() as view:
            changed = view.host(host.host_id)
        assert changed is not None, "rows of hosts are never removed"
        return json_response(200, host_details(changed, self._settings))

    def _fields(self, body: HostBody, host: HostRow) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        if body.account_limit is not msgspec.UNSET:
            limit = body.account_limit
            fields["account_limit"] = limit if limit is None else _bounded("account_limit", limit, ACCOUNT_LIMIT_MAX)
        if body.rates is not msgspec.UNSET:
            fields["rates"] = _rates({**host.rates, **body.rates})
        choices = {"tier": ("", *self._settings.tiers), "mode": ("", *MODES), "start": STARTS}
        for name, allowed in choices.items():
            value = getattr(body, name)
            if value is not msgspec.UNSET:
                fields[name] = _one_of(name, value, allowed)
        if body.known_at_install is not msgspec.UNSET:
            fields["known_at_install"] = body.known_at_install
        return fields

    async def _ban(self, host: HostRow) -> None:
        await self._offload(partial(self._store.ban_host, host.host_id, now_ms=self._now_ms()))

    async def _silence(self, hostname: str, *, silenced: bool) -> None:
        with self._store.view() as view:
            alert = view.policy(ALERT + hostname, Alert, Alert())
        alert = msgspec.structs.replace(alert, silenced=silenced)
        await self._offload(partial(self._store.set_policy, ALERT + hostname, encoded(alert)))

    async def _update(self, host: HostRow, **fields: Any) -> None:
        await self._offload(partial(self._store.update_host, host.host_id, **fields))


def _check_not_banned(host: HostRow) -> None:
    if host.status == "banned":
        raise Refusal(400, "HostBanned", "the host is banned; unblock it first")


def _rates(rates: dict[str, int | None]) -> dict[str, int]:
    for name in rates:
        _one_of("rates", name, RATES)
    return {name: _bounded(name, rate, RATE_MAX, 1) for name, rate in rates.items() if rate is not None}


def _bounded(name: str, value: int, maximum: int, minimum: int = 0) -> int:
    if not minimum <= value <= maximum:
        raise bad_request(f"{name} must be a whole number from {minimum} to {maximum}")
    return value


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        listed = ", ".join(each or '""' for each in allowed)
        raise bad_request(f"{name} must be one of {listed}")
    return value
