"""A PDS host as a relay sees one: `subscribeRepos` with its window, `describeServer`, `getRepoStatus`, faults.

Owns the behaviour of the socket (protocol.md sections 2 and 19.2, the host's side); what is sent is
`relay.world.window`. Every handshake is kept, so that a test can see what a relay asked for.
"""

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import trio

from relay.net.connection import Site
from relay.net.consumer_socket import ConsumerSocket, accept_consumer
from relay.net.exchange import Request, Response, Upgrade, error_response, json_response
from relay.world.loopback import origin, serve_on_loopback
from relay.world.messages import Message, error_frame, info_frame
from relay.world.window import EventWindow, HostedAccount, websocket_message

_SLICE_BYTES = 65_536
_HANDSHAKES_MAX = 1_000
_XRPC = "/xrpc/com.atproto."


class Handshake(NamedTuple):
    """One request for the stream as it came; header names in lower case."""

    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]

    @property
    def cursor(self) -> str | None:
        """The value of `cursor`, None when it was not given."""
        return dict(self.query).get("cursor")


class SimulatedHost:
    """One host. Its switches may be turned at any time and hold for connections that are open, but for `refusal`."""

    def __init__(self, window: EventWindow | None = None, *, server: str = "simulated-pds") -> None:
        self.window = EventWindow() if window is None else window
        self.handshakes: deque[Handshake] = deque(maxlen=_HANDSHAKES_MAX)
        self.refusal: Response | None = None  # the answer to a request for the stream, instead of the upgrade
        self.bytes_per_second = 0.0  # 0: as fast as the reader takes it
        self.connections = 0
        self.url = ""
        self._server = server
        self._is_silent = False
        self._farewell: tuple[int, str] = (1001, "")
        self._era = 0
        self._changed = trio.Event()
        self._scopes: set[trio.CancelScope] = set()

    @property
    def site(self) -> Site:
        """For a caller that serves it on listeners of its own."""
        return Site(self.answer, headers=(("Server", self._server),))

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves on loopback until cancelled; started with the URL, which is also in `url`."""
        async with trio.open_nursery() as nursery:
            self.url = origin(await nursery.start(serve_on_loopback, self.site, port))
            task_status.started(self.url)

    def emit(self, message: Message, now_ms: int) -> int:
        """The next event of this host; answers its seq."""
        seq = self.window.emit(message, now_ms)
        self._wake()
        return seq

    def append(self, frame: bytes, seq: int) -> None:
        """A finished frame, from a recording for instance, that carries `seq`."""
        self.window.append(frame, seq)
        self._wake()

    def plant(self, message: bytes, *, text: bool = False) -> None:
        """A message without a seq of its own, hostile ones above all, after the newest event and once per reader."""
        self.plant_bytes(websocket_message(message, opcode=1 if text else 2))

    def plant_bytes(self, wire: bytes) -> None:
        """As `plant`, but not even a WebSocket message."""
        self.window.plant(wire)
        self._wake()

    def hush(self) -> None:
        """Sends nothing more, but stays connected and answers pings."""
        self._is_silent = True

    def speak(self) -> None:
        """Ends the silence, with all that was emitted meanwhile."""
        self._is_silent = False
        self._wake()

    def disconnect(self, code: int = 1001, reason: str = "") -> None:
        """Ends every open connection with a Close."""
        self._farewell = (code, reason)
        self._era += 1
        self._wake()

    def cut(self) -> None:
        """Ends every open connection without a word."""
        for scope in self._scopes:
            scope.cancel()

    async def answer(self, request: Request) -> Response | Upgrade:
        """Everything this host serves; XRPC errors for the rest."""
        await trio.lowlevel.checkpoint()
        match request.path.removeprefix(_XRPC):
            case "sync.subscribeRepos":
                return self._subscribe(request)
            case "server.describeServer":
                return json_response(200, {"did": "did:web:localhost", "availableUserDomains": [".example.com"]})
            case "sync.getRepoStatus":
                return _repo_status(dict(request.query).get("did", ""), self.window.accounts)
        return error_response(501, "MethodNotImplemented", "not part of the simulated host")

    def _subscribe(self, request: Request) -> Response | Upgrade:
        handshake = Handshake(request.query, request.headers)
        self.handshakes.append(handshake)
        if self.refusal is not None:
            return self.refusal
        if not request.wants_websocket:
            return error_response(426, "UpgradeRequired", "this is a WebSocket endpoint")
        text = handshake.cursor
        if text is not None and not (text.isascii() and text.isdigit()):
            return error_response(400, "InvalidRequest", "cursor is not a number")
        cursor = None if text is None else int(text)
        return Upgrade(lambda stream, head: self._converse(stream, head, cursor))

    async def _converse(self, stream: trio.abc.Stream, head: bytes, cursor: int | None) -> None:
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            self.connections += 1
            try:
                async with accept_consumer(stream, head, headers=(("Server", self._server),)) as socket:
                    await self._feed(socket, cursor)
            finally:
                self.connections -= 1
                self._scopes.remove(scope)

    async def _feed(self, socket: ConsumerSocket, cursor: int | None) -> None:
        window, era = self.window, self._era
        if cursor is not None and cursor > window.tip:
            await socket.close_with_error(error_frame("FutureCursor", "Cursor in the future."), "FutureCursor")
            return
        if cursor is not None and 0 < cursor < window.floor - 1:
            notice = info_frame("OutdatedCursor", "Requested cursor exceeded limit. Possibly missing events")
            await socket.send_messages(websocket_message(notice))
        position = window.position(cursor)
        while era == self._era:
            changed = self._changed
            data = b""
            if not self._is_silent:
                data, position = window.read(position, 1 if self.bytes_per_second else _SLICE_BYTES)
            if data:
                await socket.send_messages(data)
            else:
                await changed.wait()
            if self.bytes_per_second:
                await trio.sleep(len(data) / self.bytes_per_second)
        await socket.close(*self._farewell)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _repo_status(did: str, accounts: Mapping[str, HostedAccount]) -> Response:
    account = accounts.get(did)
    if account is None:
        return error_response(400, "RepoNotFound", "Could not find repo for DID")
    told: dict[str, object] = {"did": did, "active": account.active}
    if account.status is not None:
        told["status"] = account.status
    if account.active and account.rev:
        told["rev"] = account.rev
    return json_response(200, told)
