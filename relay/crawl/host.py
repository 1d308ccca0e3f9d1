"""One host as it is followed: how to reach it, who takes its messages, and who hears how it is. Values and protocols.

What the crawl floor and the role above it say to each other about a host stands here: the role takes messages through a
`Stream` and is told by `HostNews`. Reading one connection is `relay.crawl.reading`; coming back after whatever ended is
`relay.crawl.subscription`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

import trio

from relay.crawl.hoststate import Ending, HostHealth
from relay.crawl.pace import Pace
from relay.net.dial import StreamOpener
from relay.net.subscription_socket import Subscription, open_subscription
from relay.protocol.frame import STREAM_PATH
from relay.verify.verdict import Reason

HANDSHAKE_SECONDS = 20.0
GAP_CURSOR, GAP_SLOW, GAP_RESTART = "OutdatedCursor", "ConsumerTooSlow", "SeqRestart"


class ErrorFrameReceived(Exception):  # noqa: N818 -- it is an event of the stream, and the stream's end
    """The host sent an error frame: `FutureCursor`, `ConsumerTooSlow`, or a name we do not know."""

    def __init__(self, name: str) -> None:
        super().__init__(f"error frame {name!r}")
        self.name = name


class Stream(Protocol):
    """What the role above does with one host's messages."""

    possible_gap: bool
    """An `#info` said that our cursor is older than the host's window; reset by whoever reads it."""

    @property
    def cursor(self) -> int | None:
        """The seq to resume after, None when nothing was ever read."""

    @property
    def progress(self) -> int:
        """How many events were accepted."""

    @property
    def in_flight(self) -> int:
        """Events received and not settled."""

    @property
    def behind(self) -> int:
        """How many events in a row, up to the last, were at or below the cursor."""

    def take_newcomers(self) -> int:
        """How many events of accounts without a row came since the last call."""

    def restart(self) -> None:
        """Read on from the beginning in a new epoch; only with nothing in flight."""

    def reconnected(self) -> None:
        """A new connection begins."""

    def take(self, messages: Sequence[bytes]) -> None:
        """Receive messages; raises `FramingError` or `ErrorFrameReceived` when the connection has to end."""

    def count_unreadable(self, reason: Reason) -> None:
        """Count a message that could not become a frame."""

    async def wait_for_room(self) -> None:
        """Wait until more may be read; a checkpoint in any case."""


class Upstream(NamedTuple):
    """How to reach a host. `from_window` asks for its whole window on the first read, instead of going live."""

    hostname: str
    insecure: bool
    from_window: bool

    def url(self, cursor: int | None) -> str:
        """The address to subscribe at, after `cursor`."""
        if cursor is None and self.from_window:
            cursor = 0
        query = "" if cursor is None else f"?cursor={cursor}"
        return f"{'ws' if self.insecure else 'wss'}://{self.hostname}{STREAM_PATH}{query}"


class Wake:
    """Ends the wait between two connections, each time it is set."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        """Try the host now, if it is being left alone."""
        self._event.set()

    async def wait(self) -> None:
        """Until it was set since the last wait."""
        await self._event.wait()
        self._event = trio.Event()


class HostNews(NamedTuple):
    """A change worth writing down: the host's status, and the error that led to it ("" when all is well).

    `ending` is None for a connection that came about. `gap` names what may have lost events, `probed` says that the
    host was asked whether its seqs began anew, `cursor_before` is our place that was given up then.
    """

    status: str
    error: str
    ending: Ending | None
    gap: str = ""
    probed: bool = False
    cursor_before: int | None = None


class Host(NamedTuple):
    """One host: how to reach it, what takes its messages, its memory and its pace, what wakes it, who hears of it."""

    upstream: Upstream
    stream: Stream
    health: HostHealth
    pace: Pace
    wake: Wake
    report: Callable[[HostNews], None]

    async def wait_for_room(self) -> None:
        """Until more may be read: by what is in flight, and by the host's rates."""
        await self.stream.wait_for_room()
        while seconds := self.pace.delay_seconds(trio.current_time()):  # noqa: ASYNC110 -- it is told when to ask again
            await trio.sleep(seconds)


class Follower(NamedTuple):
    """Who follows, the same for all hosts of a worker. `now_ms` is the wall clock."""

    dialer: StreamOpener
    user_agent: str
    now_ms: Callable[[], int]

    def subscribe(self, url: str) -> AbstractAsyncContextManager[Subscription]:
        """A connection to a host's stream; raises what `open_subscription` does."""
        return open_subscription(self.dialer, url, user_agent=self.user_agent, handshake_seconds=HANDSHAKE_SECONDS)
