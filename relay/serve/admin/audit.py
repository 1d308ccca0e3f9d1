"""The audit log: every request of an operator that was meant to change something, whoever sent it and however it ended.

Written in one place, around the endpoints, so that none can forget it. An entry says what was asked for and how it was
answered; passwords are never part of it, since no audited request carries one.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import trio

from relay.net.exchange import Request, Response, json_response
from relay.observe.logs import get_logger
from relay.protocol.syntax import format_datetime
from relay.serve.crawlrequest import Offload
from relay.serve.xrpc import Refusal, whole_number
from relay.store.policy import AUDIT_KEPT
from relay.store.store import Store

DETAIL_CHARS_MAX = 300
PAGE_DEFAULT = 100
WRITE_SECONDS = 5.0  # for an entry, even of a request that is cut off
_ERROR_CHARS_MAX = 200

_log = get_logger("serve.audit")


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request: when (unix ms), which, with what, from where, shown by what, and the answer."""

    time_ms: int
    action: str
    detail: str = ""
    address: str = ""
    via: str = ""
    status: int = 200
    error: str = ""


class AuditLog:
    """Writes and reads entries. `offload` runs a write of the store where it may wait for the lock."""

    def __init__(self, store: Store, *, offload: Offload, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._offload = offload
        self._now_ms = now_ms

    async def recorded(
        self, request: Request, via: str, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """The endpoint's answer, with an entry written however it ends: a request that is cut off may have changed all.

        The entry of one that fails or is cut off has status 500.
        """
        status, error = 500, "cut off before it was answered; it may have been done"
        try:
            response = await endpoint(request)
            status, error = response.status, ""
        except Refusal as refusal:
            status, error = refusal.status, f"{refusal.error}: {refusal.message}"
            raise
        except Exception as fault:
            error = repr(fault)
            raise
        finally:
            with trio.move_on_after(WRITE_SECONDS, shield=True) as scope:
                await self._write(request, via, status, error)
            if scope.cancelled_caught:
                _log.error("audit_entry_lost", action=_action(request), why="the store did not take it in time")
        return response

    async def note(self, request: Request, via: str, action: str) -> None:
        """An entry without any of the request's content: a login."""
        bare = request._replace(query=(), body=b"", path=f"/admin/{action}")
        await self._write(bare, via, 200, "")

    async def entries(self, request: Request) -> Response:
        """`GET /admin/audit`: a page, newest first; `before` is the number of the last entry of the page before."""
        limit = whole_number(request.query, "limit", PAGE_DEFAULT, AUDIT_KEPT, minimum=1)
        before = whole_number(request.query, "before", 0, 10**15)
        with self._store.view() as view:
            page = view.audit_log(before or None, limit)
        entries = [_shown(number, msgspec.json.decode(value, type=Entry)) for number, value in page]
        return json_response(200, {"entries": entries, "kept": AUDIT_KEPT})

    async def _write(self, request: Request, via: str, status: int, error: str) -> None:
        entry = Entry(
            time_ms=self._now_ms(),
            action=_action(request),
            detail=_detail(request),
            address=request.client,
            via=via,
            status=status,
            error=error[:_ERROR_CHARS_MAX],
        )
        _log.info("admin_action", **msgspec.to_builtins(entry))
        await self._offload(partial(self._store.add_audit, msgspec.json.encode(entry)))


def _action(request: Request) -> str:
    return request.path.removeprefix("/admin/")


def _detail(request: Request) -> str:
    """Parameters and body as they came, printable and bounded."""
    query = " ".join(f"{name}={value}" for name, value in request.query)
    text = f"{query} {request.body[: DETAIL_CHARS_MAX * 4].decode('utf-8', 'replace')}".strip()
    return "".join(character if character.isprintable() else " " for character in text)[:DETAIL_CHARS_MAX]


def _shown(number: int, entry: Entry) -> dict[str, Any]:
    shown = {"number": number, "time": format_datetime(entry.time_ms), **msgspec.structs.asdict(entry)}
    del shown["time_ms"]
    return shown
