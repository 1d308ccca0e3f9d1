"""A PLC directory over HTTP: `GET /{did}` with the documents of `relay.world.directory`, and faults on demand.

Owns no documents. What it answers is what protocol.md 11.2 says of the real one; its lagging copy is `Directory.lag`.
"""

from collections import Counter
from typing import Literal

import msgspec
import trio

from relay.net.connection import Site
from relay.net.exchange import Request, Response, Upgrade, json_response
from relay.world.directory import Directory
from relay.world.loopback import origin, serve_on_loopback

PlcFault = Literal["", "down", "slow", "error", "throttled"]
"""None; connections cut without an answer; answers after `slow_seconds`; 500; 429."""


class PlcServer:
    """The directory's server. `lookups` counts the questions by DID; `fault` may be switched at any time."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.lookups: Counter[str] = Counter()
        self.fault: PlcFault = ""
        self.slow_seconds = 30.0
        self.tombstone_status = 404  # what the real directory answers; its description promises 410
        self.url = ""

    @property
    def site(self) -> Site:
        """For a caller that serves it on listeners of its own."""
        return Site(self.answer)

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves on loopback until cancelled; started with the URL, which is also in `url`."""
        async with trio.open_nursery() as nursery:
            self.url = origin(await nursery.start(serve_on_loopback, self.site, port))
            task_status.started(self.url)

    async def answer(self, request: Request) -> Response | Upgrade:
        """The document of the DID in the path, or what the fault makes of it."""
        did = request.path.removeprefix("/")
        self.lookups[did] += 1
        match self.fault:
            case "down":
                return Upgrade(_hang_up)
            case "slow":
                await trio.sleep(self.slow_seconds)
            case "error":
                return json_response(500, {"message": "Internal Server Error"})
            case "throttled":
                return json_response(429, {"message": "Too Many Requests"}, (("Retry-After", "1"),))
        try:
            document = self.directory.document(did)
        except KeyError:
            return json_response(404, {"message": f"DID not registered: {did}"})
        if document is None:
            return json_response(self.tombstone_status, {"message": f"DID not available: {did}"})
        return Response(200, (("Content-Type", "application/did+ld+json"),), msgspec.json.encode(document))


async def _hang_up(_stream: trio.abc.Stream, _head: bytes) -> None:
    """Ends the connection without a word."""
    await trio.lowlevel.checkpoint()
