"""What a serve worker answers on its Unix socket: to the supervisor and to its sibling workers, never to the public."""

import msgspec

from relay.net.exchange import Request, Response, error_response, json_response
from relay.observe.metrics import CONTENT_TYPE, Metrics
from relay.serve.audience import Audience
from relay.serve.xrpc import Refusal, body_of

KICK_EXAMPLE = '{"id": 5}'


class KickBody(msgspec.Struct, frozen=True):
    """The consumer to send away, by its `id` in the list of consumers; operators send the same."""

    id: int


class Control:
    """Metrics, health and consumers of this process."""

    def __init__(self, audience: Audience, metrics: Metrics) -> None:
        self._audience = audience
        self._metrics = metrics

    async def answer(self, request: Request) -> Response:
        """The answer to a request on the socket."""
        match request.method, request.path:
            case "GET", "/metrics":
                self._audience.count_all()
                return Response(200, (("Content-Type", CONTENT_TYPE),), self._metrics.render())
            case "GET", "/health":
                return json_response(200, {"status": "ok", "consumers": len(self._audience)})
            case "GET", "/consumers":
                return json_response(200, self._audience.describe())
            case "POST", "/kick":
                return self._kick(request)
            case _:
                return error_response(404, "NotFound", "no such control path")

    def _kick(self, request: Request) -> Response:
        try:
            number = body_of(request.body, KickBody, KICK_EXAMPLE).id
        except Refusal as refusal:
            return refusal.response()
        if not self._audience.kick(number):
            return error_response(404, "NotFound", "no such consumer here")
        return json_response(200, {"kicked": number})
