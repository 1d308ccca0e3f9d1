"""Consumers of the whole relay for operators: who is connected to any serve worker, and sending one away."""

from collections.abc import Iterator

from relay.net.exchange import Request, Response, json_response
from relay.protocol.syntax import format_datetime
from relay.serve.admin.inputs import success
from relay.serve.admin.peers import Peers
from relay.serve.control import KICK_EXAMPLE, KickBody
from relay.serve.routes import PROCEDURE, QUERY, Route
from relay.serve.xrpc import Refusal, body_of


class Consumers:
    """Answers out of all serve workers, through `peers`."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The paths served here."""
        yield "/admin/consumers/list", Route(QUERY, self.list)
        yield "/admin/consumers/kick", Route(PROCEDURE, self.kick)
        yield "/admin/workers", Route(QUERY, self.workers)

    async def list(self, _request: Request) -> Response:
        """`consumers/list` with the reference relay's keys, and where each consumer stands."""
        found = await self._peers.consumers()
        shown = [{**each, "connected_at": format_datetime(each["connected_at"])} for each in found]
        return json_response(200, shown)

    async def kick(self, request: Request) -> Response:
        """`consumers/kick`: end one connection; the consumer may come back with its cursor."""
        consumer_id = body_of(request.body, KickBody, KICK_EXAMPLE).id
        if not await self._peers.kick(consumer_id):
            raise Refusal(404, "ConsumerNotFound", "no worker has this consumer")
        return success()

    async def workers(self, _request: Request) -> Response:
        """`GET /admin/workers`: every process as the supervisor sees it."""
        return json_response(200, {"workers": await self._peers.workers()})
