"""What is known about alerts on account limits, and the route by which sibling relays tell that one was sent.

Owns the record per host. This relay sends no messages itself: it exposes the figures that alerts are made of.
"""

from collections.abc import Iterator
from functools import partial

import msgspec

from relay.net.exchange import Request, Response
from relay.protocol.syntax import datetime_ms, is_datetime
from relay.serve.admin.inputs import known_host, success
from relay.serve.crawlrequest import Offload
from relay.serve.routes import PROCEDURE, Route
from relay.serve.xrpc import bad_request, body_of
from relay.store.policy import ALERT, Alert, encoded
from relay.store.store import Store

_EXAMPLE = '{"kind": "warning", "hostID": 1, "hostname": "pds.example.com", "accountCount": 90, "accountLimit": 100, "usage": 0.9, "sentAt": "2026-01-31T00:00:00Z"}'  # noqa: E501 -- one example


class AlertBody(msgspec.Struct, frozen=True):
    """The input of `alerts/accountLimitSent`. `hostID` is the sender's own number of the host."""

    kind: str
    hostID: int  # noqa: N815 -- a key of the wire
    hostname: str
    accountCount: int  # noqa: N815 -- as above
    accountLimit: int  # noqa: N815 -- as above
    usage: float
    sentAt: str  # noqa: N815 -- as above


class Alerts:
    """Takes the word of siblings."""

    def __init__(self, store: Store, *, offload: Offload) -> None:
        self._store = store
        self._offload = offload

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The path served here."""
        yield "/admin/alerts/accountLimitSent", Route(PROCEDURE, self.sent)

    async def sent(self, request: Request) -> Response:
        """`alerts/accountLimitSent`: remember it, unless something newer is known."""
        body = body_of(request.body, AlertBody, _EXAMPLE)
        if body.kind not in ("warning", "recovery") or body.hostID <= 0 or not is_datetime(body.sentAt):
            raise bad_request(f"the body must be JSON of the form {_EXAMPLE}")
        host = known_host(self._store, body.hostname)
        with self._store.view() as view:
            alert = view.policy(ALERT + host.hostname, Alert, Alert())
        sent_ms = datetime_ms(body.sentAt)
        if sent_ms > alert.sent_ms:
            newer = msgspec.structs.replace(alert, state=body.kind, sent_ms=sent_ms)
            await self._offload(partial(self._store.set_policy, ALERT + host.hostname, encoded(newer)))
        return success()
