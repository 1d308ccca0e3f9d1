"""Following one host: connect with our cursor, read, let the role take the messages, and come back after whatever ends.

Owns the life of the socket and nothing about events: a `Stream` of the role above takes whole messages synchronously
and says where to resume. One host is one task; no error of a peer or of the network leaves `follow`. A host that says
of itself that it is a relay is not read: its events would go round (protocol.md section 21).
"""

from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple, Protocol

import trio

from relay.crawl.admission import is_relay
from relay.crawl.hoststate import Ending, HostHealth
from relay.crawl.pace import Pace
from relay.crawl.probe import Finding, find_out
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
STAND_SECONDS = 10.0  # a connection this old is taken for one that lasts
BEHIND_MAX = 10  # events in a row, all at or below our cursor: the host counts from lower down than we are
GAP_CURSOR, GAP_SLOW, GAP_RESTART = "OutdatedCursor", "ConsumerTooSlow", "SeqRestart"
STOP_SECONDS_MAX = 20.0  # longer than this without reading, we close ourselves and keep our cursor (design section 4)
MESSAGES_PER_TURN = 32  # a read of 64 KiB may hold thousands of small messages; others get a turn between (rule 10)


class ErrorFrameReceived(Exception):  # noqa: N818 -- it is an event of the stream, and the stream's end
    """The host sent an error frame: `FutureCursor`, `ConsumerTooSlow`, or a name we do not know."""

    def __init__(self, name: str) -> None:
        super().__init__(f"error frame {name!r}")
        self.name = name


class _Unfit(Exception):  # noqa: N818 -- as above
    """The connection is well, but what it leads to is not to be read on."""

    def __init__(self, ending: Ending, why: str) -> None:
        super().__init__(why)
        self.ending = ending


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


class Follower(NamedTuple):
    """What following needs beside the host and its stream. `now_ms` is the wall clock."""

    dialer: StreamOpener
    user_agent: str
    report: Callable[[HostNews], None]
    now_ms: Callable[[], int]


class Followed(NamedTuple):
    """One host as it is followed: how to reach it, what takes its messages, its memory and its pace."""

    upstream: Upstream
    stream: Stream
    health: HostHealth
    pace: Pace
    wake: Wake


class _End(NamedTuple):
    """How a connection ended; `retry_after_seconds` is the host's wish."""

    ending: Ending
    error: str
    retry_after_seconds: float = 0.0


async def follow(followed: Followed, follower: Follower) -> None:
    """Read the host until cancelled."""
    stream, health = followed.stream, followed.health
    while True:
        before = stream.progress
        end = await _connect(followed, follower)
        if stream.progress > before:
            health.progress()
        seconds = health.ended(end.ending, trio.current_time(), end.retry_after_seconds)
        gap = GAP_SLOW if end.ending is Ending.TOO_SLOW else ""
        follower.report(HostNews(health.status, end.error, end.ending, gap))
        if end.ending in (Ending.OUR_STOP, Ending.THROTTLED):
            await _wait_for_room(followed)
            continue
        if await _has_restarted(followed, follower):
            continue
        with trio.move_on_after(seconds):
            await followed.wake.wait()


async def _connect(followed: Followed, follower: Follower) -> _End:
    """One connection, from the dial to its end."""
    stream, health = followed.stream, followed.health
    resumed = stream.cursor
    try:
        url = followed.upstream.url(resumed)
        async with open_subscription(
            follower.dialer, url, user_agent=follower.user_agent, handshake_seconds=HANDSHAKE_SECONDS
        ) as subscription:
            _check_server(subscription.server)
            stream.reconnected()
            health.connected()
            if health.status == "active":
                follower.report(HostNews(health.status, "", None))
            reading = _Reading(followed, follower, resumed)
            return await reading.until_we_stop(subscription)
    except _Unfit as error:
        return _End(error.ending, str(error))
    except FramingError as error:
        return _End(Ending.FRAMING, str(error))
    except ErrorFrameReceived as error:
        return _End(_ENDING_OF_FRAME.get(error.name, Ending.ERROR_FRAME), str(error))
    except TextMessage as error:
        stream.count_unreadable(Reason.MESSAGE_NOT_BINARY)
        return _End(Ending.FRAMING, str(error))
    except MessageTooBig as error:
        stream.count_unreadable(Reason.MESSAGE_TOO_BIG)
        return _End(Ending.FRAMING, str(error))
    except UpgradeRefused as error:
        ending = Ending.RELAY if is_relay(error.server) else Ending.REFUSED
        return _End(ending, str(error), float(error.retry_after_seconds or 0))
    except NetError as error:
        return _End(_ENDING_OF_NET.get(type(error), Ending.UNREACHABLE), str(error))


def _check_server(server: str) -> None:
    if is_relay(server):
        raise _Unfit(Ending.RELAY, f"the Server header says that it is a relay: {server[:60]!r}")


class _Reading:
    """The reading of one open connection."""

    def __init__(self, followed: Followed, follower: Follower, resumed: int | None) -> None:
        self._followed = followed
        self._follower = follower
        self._resumed = resumed
        self._told = followed.health.status == "active"

    async def until_we_stop(self, subscription: Subscription) -> _End:
        """Read until an error ends it; returns when we did not read for too long."""
        stream, pace = self._followed.stream, self._followed.pace
        stands_at = trio.current_time() + STAND_SECONDS
        while True:
            before = stream.progress
            with trio.move_on_at(stands_at) as standing:
                messages = await subscription.receive()
            if standing.cancelled_caught:
                stands_at = inf
                self._followed.health.stood()
                self._tell()
                continue
            for start in range(0, len(messages), MESSAGES_PER_TURN):
                stream.take(messages[start : start + MESSAGES_PER_TURN])
                await trio.lowlevel.checkpoint()
            pace.spend(len(messages), stream.take_newcomers())
            self._look_at(stream)
            with trio.move_on_after(STOP_SECONDS_MAX) as stop:
                await _wait_for_room(self._followed)
            if stream.progress > before:
                self._followed.health.progress()
                self._tell()
            if stop.cancelled_caught:
                why = pace.reason(trio.current_time())
                return _End(Ending.THROTTLED, why) if why else _End(Ending.OUR_STOP, "we stopped reading for too long")

    def _look_at(self, stream: Stream) -> None:
        """What the messages said beside their events."""
        if stream.possible_gap:
            stream.possible_gap = False
            if self._resumed:  # a cursor of 0 asks for whatever there is
                self._follower.report(HostNews(self._followed.health.status, "", None, GAP_CURSOR))
        if stream.behind >= BEHIND_MAX:
            why = f"{stream.behind} events in a row at or below our cursor {stream.cursor}"
            raise _Unfit(Ending.SEQ_BEHIND, why)

    def _tell(self) -> None:
        """The host is well, unless that was said."""
        if not self._told:
            self._told = True
            self._follower.report(HostNews(self._followed.health.status, "", None))


async def _wait_for_room(followed: Followed) -> None:
    """Until more may be read: by what is in flight, and by the host's rates."""
    await followed.stream.wait_for_room()
    while seconds := followed.pace.delay_seconds(trio.current_time()):  # noqa: ASYNC110 -- it is told when to ask again
        await trio.sleep(seconds)


async def _has_restarted(followed: Followed, follower: Follower) -> bool:
    """Whether the host's seqs began anew, if it is time to find out; the stream begins anew with them."""
    health, cursor = followed.health, followed.stream.cursor
    if cursor is None or followed.stream.in_flight or not health.wants_probe(trio.current_time()):
        return False
    url = followed.upstream.url(0)
    health.probed(trio.current_time())
    try:
        async with open_subscription(
            follower.dialer, url, user_agent=follower.user_agent, handshake_seconds=HANDSHAKE_SECONDS
        ) as subscription:
            finding = await find_out(subscription, cursor, follower.now_ms())
    except NetError as error:
        finding, said = Finding.UNDECIDED, str(error)
    else:
        said = _WORDS[finding]
    if finding in (Finding.RESTARTED, Finding.EMPTY):
        followed.stream.restart()
        follower.report(HostNews(health.status, said, None, GAP_RESTART, probed=True, cursor_before=cursor))
        return True
    follower.report(HostNews(health.status, f"our cursor {cursor} is in its future; {said}", None, probed=True))
    return False


_WORDS = {
    Finding.RESTARTED: "its seqs began anew; it is read from the beginning",
    Finding.EMPTY: "its seqs began anew and its window is empty",
    Finding.NOT_RESTARTED: "but its window goes further than that",
    Finding.UNDECIDED: "its window did not tell how high its seqs go",
}
_ENDING_OF_FRAME = {"FutureCursor": Ending.FUTURE_CURSOR, "ConsumerTooSlow": Ending.TOO_SLOW}
_ENDING_OF_NET: dict[type[NetError], Ending] = {
    ConnectionClosed: Ending.CLOSED,
    PeerSilent: Ending.SILENT,
    HostRefused: Ending.REFUSED,
}
