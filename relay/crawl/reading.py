"""One connection to a host: read from the dial to its end, and what that end means.

Owns the life of the socket and nothing about events: the host's `Stream` takes whole messages synchronously. No error
of a peer or of the network leaves `read_host`; when to connect again is up to `relay.crawl.subscription`. A host that
says of itself that it is a relay is not read: its events would go round (protocol.md section 21).
"""

from math import inf
from typing import NamedTuple

import trio

from relay.crawl.admission import is_relay
from relay.crawl.host import GAP_CURSOR, ErrorFrameReceived, Follower, Host, HostNews
from relay.crawl.hoststate import Ending
from relay.net.errors import (
    ConnectionClosed,
    HostRefused,
    MessageTooBig,
    NetError,
    PeerSilent,
    TextMessage,
    UpgradeRefused,
)
from relay.net.subscription_socket import Subscription
from relay.protocol.errors import FramingError
from relay.verify.verdict import Reason

STAND_SECONDS = 10.0  # a connection this old is taken for one that lasts
BEHIND_MAX = 10  # events in a row, all at or below our cursor: the host counts from lower down than we are
STOP_SECONDS_MAX = 20.0  # longer than this without reading, we close ourselves and keep our cursor (design section 4)
LOOK_SECONDS = 1.0  # while we wait to read on, we look so often whether events were accepted
MESSAGES_PER_TURN = 32  # a read of 64 KiB may hold thousands of small messages; others get a turn between (rule 10)


class End(NamedTuple):
    """How a connection ended; `retry_after_seconds` is the host's wish."""

    ending: Ending
    error: str
    retry_after_seconds: float = 0.0


class _Unfit(Exception):  # noqa: N818 -- it is a finding about the host, and the connection's end
    """The connection is well, but what it leads to is not to be read on."""

    def __init__(self, ending: Ending, why: str) -> None:
        super().__init__(why)
        self.ending = ending


async def read_host(host: Host, follower: Follower) -> End:
    """One connection, resumed at the stream's cursor; returns when it ended, or when we did not read for too long."""
    resumed = host.stream.cursor
    try:
        async with follower.subscribe(host.upstream.url(resumed)) as subscription:
            return await _Reading(host, resumed).until_we_stop(subscription)
    except _Unfit as error:
        return End(error.ending, str(error))
    except FramingError as error:
        return End(Ending.FRAMING, str(error))
    except ErrorFrameReceived as error:
        return End(_ENDING_OF_FRAME.get(error.name, Ending.ERROR_FRAME), str(error))
    except TextMessage as error:
        host.stream.count_unreadable(Reason.MESSAGE_NOT_BINARY)
        return End(Ending.FRAMING, str(error))
    except MessageTooBig as error:
        host.stream.count_unreadable(Reason.MESSAGE_TOO_BIG)
        return End(Ending.FRAMING, str(error))
    except UpgradeRefused as error:
        ending = Ending.RELAY if is_relay(error.server) else Ending.REFUSED
        return End(ending, str(error), float(error.retry_after_seconds or 0))
    except NetError as error:
        return End(_ENDING_OF_NET.get(type(error), Ending.UNREACHABLE), str(error))


class _Reading:
    """The reading of one open connection, which asked for what comes after `resumed`."""

    def __init__(self, host: Host, resumed: int | None) -> None:
        self._host = host
        self._resumed = resumed
        self._accepted = host.stream.progress
        self._told = False

    async def until_we_stop(self, subscription: Subscription) -> End:
        """Read until an error ends it; returns when we did not read for too long."""
        self._begin(subscription)
        stream, pace = self._host.stream, self._host.pace
        stands_at = trio.current_time() + STAND_SECONDS
        while True:
            with trio.move_on_at(stands_at) as standing:
                messages = await subscription.receive()
            if standing.cancelled_caught:
                stands_at = inf
                self._host.health.stood()
                self._tell()
                continue
            for start in range(0, len(messages), MESSAGES_PER_TURN):
                stream.take(messages[start : start + MESSAGES_PER_TURN])
                await trio.lowlevel.checkpoint()
            pace.spend(len(messages), stream.take_newcomers())
            self._look_at_stream()
            if not await self._may_read_on():
                why = pace.reason(trio.current_time())
                return End(Ending.THROTTLED, why) if why else End(Ending.OUR_STOP, "we stopped reading for too long")

    def _begin(self, subscription: Subscription) -> None:
        """The connection is open."""
        if is_relay(subscription.server):
            why = f"the Server header says that it is a relay: {subscription.server[:60]!r}"
            raise _Unfit(Ending.RELAY, why)
        self._host.stream.reconnected()
        self._host.health.connected()
        if self._host.health.status == "active":
            self._tell()

    async def _may_read_on(self) -> bool:
        """Wait until more may be read; False when that takes too long. What is accepted meanwhile is told at once."""
        until = trio.current_time() + STOP_SECONDS_MAX
        while trio.current_time() < until:
            with trio.move_on_after(LOOK_SECONDS) as look:
                await self._host.wait_for_room()
            self._look_at_progress()
            if not look.cancelled_caught:
                return True
        return False

    def _look_at_progress(self) -> None:
        """Whether events were accepted: then the host is well."""
        if self._host.stream.progress > self._accepted:
            self._accepted = self._host.stream.progress
            self._host.health.progress()
            self._tell()

    def _look_at_stream(self) -> None:
        """What the messages said beside their events."""
        stream = self._host.stream
        if stream.possible_gap:
            stream.possible_gap = False
            if self._resumed:  # a cursor of 0 asks for whatever there is
                self._host.report(HostNews(self._host.health.status, "", None, GAP_CURSOR))
        if stream.behind >= BEHIND_MAX:
            why = f"{stream.behind} events in a row at or below our cursor {stream.cursor}"
            raise _Unfit(Ending.SEQ_BEHIND, why)

    def _tell(self) -> None:
        """The host is well, unless that was said."""
        if not self._told:
            self._told = True
            self._host.report(HostNews(self._host.health.status, "", None))


_ENDING_OF_FRAME = {"FutureCursor": Ending.FUTURE_CURSOR, "ConsumerTooSlow": Ending.TOO_SLOW}
_ENDING_OF_NET: dict[type[NetError], Ending] = {
    ConnectionClosed: Ending.CLOSED,
    PeerSilent: Ending.SILENT,
    HostRefused: Ending.REFUSED,
}
