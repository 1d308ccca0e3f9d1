"""One host on a memory network, followed on virtual time by a stream that only keeps its place."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import trio

from relay.crawl.host import ErrorFrameReceived, Follower, Host, HostNews, Upstream, Wake
from relay.crawl.hoststate import HostHealth
from relay.crawl.limits import Limits
from relay.crawl.pace import Pace
from relay.protocol.frame import ErrorFrame, MessageFrame, parse_frame
from relay.verify.verdict import Reason
from relay.world.host import SimulatedHost
from relay.world.messages import account_message
from tests.sim.memorynet import MemoryNet, virtual_clock

NAME = "pds.example.com"
START_MS = 1_760_000_000_000
GENEROUS = Limits("trusted", 1_000, 1_000_000, 1_000_000, 1_000)


class Reader:
    """What takes the messages (`relay.crawl.host.Stream`): every event is accepted at once, unless `is_full`."""

    def __init__(self, cursor: int | None) -> None:
        self.cursor = cursor
        self.progress = 0
        self.in_flight = 0
        self.behind = 0
        self.possible_gap = False
        self.taken: list[int] = []
        self.turns: list[int] = []
        self.unreadable: list[Reason] = []
        self.restarts = 0
        self.connections = 0
        self.room = trio.Event()
        self.room.set()

    def take_newcomers(self) -> int:
        return 0

    def restart(self) -> None:
        self.restarts += 1
        self.cursor = 0

    def reconnected(self) -> None:
        self.connections += 1
        self.behind = 0

    def take(self, messages: Sequence[bytes]) -> None:
        self.turns.append(len(messages))
        for message in messages:
            frame = parse_frame(message)
            if isinstance(frame, ErrorFrame):
                raise ErrorFrameReceived(frame.error)
            assert isinstance(frame, MessageFrame)
            if frame.type == "#info":
                self.possible_gap = True
            elif self.cursor is not None and frame.payload["seq"] <= self.cursor:
                self.behind += 1
            else:
                self.cursor = frame.payload["seq"]
                self.taken.append(frame.payload["seq"])
                self.progress += 1
                self.behind = 0

    def count_unreadable(self, reason: Reason) -> None:
        self.unreadable.append(reason)

    async def wait_for_room(self) -> None:
        await trio.lowlevel.checkpoint()
        await self.room.wait()


class Followed:
    """The host, the reader, and all that was reported of it."""

    def __init__(self, cursor: int | None, limits: Limits, server: str, *, from_window: bool) -> None:
        self.net = MemoryNet()
        self.pds = SimulatedHost(server=server)
        self.reader = Reader(cursor)
        self.news: list[HostNews] = []
        self.health = HostHealth(Random(1))
        self.pace = Pace(limits, 5.0, trio.current_time())
        self.wake = Wake()
        self.host = Host(
            Upstream(NAME, insecure=False, from_window=from_window),
            self.reader,
            self.health,
            self.pace,
            self.wake,
            self.news.append,
        )
        self.now_ms = virtual_clock(START_MS)
        self.follower = Follower(self.net, "atproto-relay/0", self.now_ms)

    def emit(self, count: int = 1) -> None:
        for _ in range(count):
            self.pds.emit(account_message("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"), self.now_ms())

    @property
    def cursors(self) -> list[str | None]:
        """Where each connection began."""
        return [handshake.cursor for handshake in self.pds.handshakes]


@asynccontextmanager
async def followed_host(
    cursor: int | None = None, *, limits: Limits = GENEROUS, server: str = "pds", from_window: bool = True
) -> AsyncIterator[Followed]:
    """A host that is served until the block ends; nobody reads it yet."""
    made = Followed(cursor, limits, server, from_window=from_window)
    async with trio.open_nursery() as nursery:
        await made.net.serve(nursery, NAME, made.pds.site)
        yield made
        nursery.cancel_scope.cancel()
