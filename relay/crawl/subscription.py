"""Following one host: connect with our cursor, read, let the role take the messages, and come back after whatever ends.

Owns the life of the socket and nothing about events: a `Stream` of the role above takes whole messages synchronously
and says where to resume. One host is one task; no error of a peer or of the network leaves `follow`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import trio

from relay.crawl.hoststate import Ending, HostHealth
from relay.net.dial import StreamOpener
from relay.net.errors import (
    ConnectionClosed,
    HostRefused,
    MessageTooBig,
    NetError,
    PeerSilent,
    TextMessage,
    UpgradeRefused,
)
from relay.net.subscription_socket import Subscription, open_subscription
from relay.protocol.errors import FramingError
from relay.verify.verdict import Reason

PATH = "/xrpc/com.atproto.sync.subscribeRepos"
HANDSHAKE_SECONDS = 20.0
STOP_SECONDS_MAX = 20.0  # longer than this without reading, we close ourselves and keep our cursor (design section 4)


class ErrorFrameReceived(Exception):  # noqa: N818 -- it is an event of the stream, and the stream's end
    """The host sent an error frame: `FutureCursor`, `ConsumerTooSlow`, or a name we do not know."""

    def __init__(self, name: str) -> None:
        super().__init__(f"error frame {name!r}")
        self.name = name


class Stream(Protocol):
    """What the role above does with one host's messages."""

    @property
    def cursor(self) -> int | None:
        """The seq to resume after, None when nothing was ever read."""

    @property
    def progress(self) -> int:
        """How many events were accepted."""

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
        return f"{'ws' if self.insecure else 'wss'}://{self.hostname}{PATH}{query}"


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
    """A change worth writing down: the host's status, and the error that led to it ("" when it connected)."""

    status: str
    error: str
    ending: Ending | None


class Follower(NamedTuple):
    """What following needs beside the host and its stream."""

    dialer: StreamOpener
    user_agent: str
    report: Callable[[HostNews], None]


async def follow(upstream: Upstream, stream: Stream, health: HostHealth, wake: Wake, follower: Follower) -> None:
    """Read the host until cancelled."""
    while True:
        before = stream.progress
        ending, error = await _read_until_it_ends(upstream, stream, health, follower)
        if stream.progress > before:
            health.progress()
        seconds = health.ended(ending, trio.current_time())
        follower.report(HostNews(health.status, error, ending))
        if ending is Ending.OUR_STOP:
            await stream.wait_for_room()
            continue
        with trio.move_on_after(seconds):
            await wake.wait()


async def _read_until_it_ends(
    upstream: Upstream, stream: Stream, health: HostHealth, follower: Follower
) -> tuple[Ending, str]:
    """One connection, from the dial to its end."""
    try:
        url = upstream.url(stream.cursor)
        async with open_subscription(
            follower.dialer, url, user_agent=follower.user_agent, handshake_seconds=HANDSHAKE_SECONDS
        ) as subscription:
            stream.reconnected()
            health.connected()
            follower.report(HostNews(health.status, "", None))
            await _read(subscription, stream)
    except FramingError as error:
        return Ending.FRAMING, str(error)
    except ErrorFrameReceived as error:
        return _ENDING_OF_FRAME.get(error.name, Ending.ERROR_FRAME), str(error)
    except TextMessage as error:
        stream.count_unreadable(Reason.MESSAGE_NOT_BINARY)
        return Ending.FRAMING, str(error)
    except MessageTooBig as error:
        stream.count_unreadable(Reason.MESSAGE_TOO_BIG)
        return Ending.FRAMING, str(error)
    except NetError as error:
        return _ENDING_OF_NET.get(type(error), Ending.UNREACHABLE), str(error)
    else:
        return Ending.OUR_STOP, "we stopped reading for too long"


async def _read(subscription: Subscription, stream: Stream) -> None:
    """Read until an error ends it; returns when we stopped reading for too long."""
    while True:
        stream.take(await subscription.receive())
        with trio.move_on_after(STOP_SECONDS_MAX) as stop:
            await stream.wait_for_room()
        if stop.cancelled_caught:
            return


_ENDING_OF_FRAME = {"FutureCursor": Ending.FUTURE_CURSOR, "ConsumerTooSlow": Ending.TOO_SLOW}
_ENDING_OF_NET: dict[type[NetError], Ending] = {
    ConnectionClosed: Ending.CLOSED,
    PeerSilent: Ending.SILENT,
    UpgradeRefused: Ending.REFUSED,
    HostRefused: Ending.REFUSED,
}
