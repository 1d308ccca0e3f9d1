"""What happens between two connections to a host, on memory streams and virtual time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from relay.crawl.host import GAP_RESTART, GAP_SLOW, Wake
from relay.crawl.hoststate import (
    FUTURE_CURSOR_SECONDS,
    RESTART_CONNECTIONS,
    RESTART_SECONDS_MIN,
    RETRY_SECONDS_MAX,
    Ending,
)
from relay.crawl.limits import Limits
from relay.crawl.reading import STOP_SECONDS_MAX
from relay.crawl.subscription import follow
from relay.net.exchange import Response
from relay.world.messages import error_frame
from tests.sim.memorynet import MemoryNet
from tests.support.followed import GENEROUS, NAME, Followed, followed_host

Clock = trio.testing.MockClock
HOUR = 3_600


@asynccontextmanager
async def following(cursor: int | None = None, limits: Limits = GENEROUS) -> AsyncIterator[Followed]:
    """A host that is followed until the block ends."""
    async with followed_host(cursor, limits=limits) as made, trio.open_nursery() as nursery:
        nursery.start_soon(follow, made.host, made.follower)
        await trio.sleep(1)
        yield made
        nursery.cancel_scope.cancel()


async def test_a_host_is_read_on_where_the_last_connection_ended(autojump_clock: Clock) -> None:
    """Checklist 49; and each end and each connection is reported, in order."""
    async with following() as made:
        for _ in range(3):
            made.emit(2)
            await trio.sleep(1)
            made.pds.disconnect()
            await trio.sleep(RETRY_SECONDS_MAX)

        assert made.cursors == ["0", "2", "4", "6"]
        assert made.reader.connections == 4
        assert made.reader.taken == [1, 2, 3, 4, 5, 6]
        assert [news.ending for news in made.news] == [None, *[Ending.CLOSED, None] * 3]


async def test_progress_makes_the_next_wait_short_again(autojump_clock: Clock) -> None:
    """Checklist 56: a host that is reached once in a while is not punished for what was before."""
    async with following() as made:
        made.net.dead.add(NAME)
        made.pds.cut()
        await trio.sleep(HOUR)
        dials = made.net.dials[NAME]
        made.net.dead.clear()
        made.emit()
        await trio.sleep(HOUR)
        made.pds.disconnect()
        await trio.sleep(3)

        assert dials < 30
        assert made.cursors[-1] == "1"
        assert made.pds.connections == 1


async def test_what_came_before_a_fault_counts(autojump_clock: Clock) -> None:
    """Events and a broken message in one read: it is a host with a fault, not one that is offline."""
    async with followed_host() as made, trio.open_nursery() as nursery:
        made.health.status = "offline"
        made.emit()
        made.pds.plant(b"\xff")
        nursery.start_soon(follow, made.host, made.follower)
        await trio.sleep(0.5)
        nursery.cancel_scope.cancel()

        assert [(news.status, news.ending) for news in made.news] == [("active", Ending.FRAMING)]


async def test_a_host_is_left_alone_as_long_as_it_asks(autojump_clock: Clock) -> None:
    async with followed_host() as made, trio.open_nursery() as nursery:
        made.pds.refusal = Response(503, (("Retry-After", "600"),))
        nursery.start_soon(follow, made.host, made.follower)
        await trio.sleep(599)
        before = len(made.cursors)
        await trio.sleep(2)
        nursery.cancel_scope.cancel()

        assert (before, len(made.cursors)) == (1, 2)


async def test_somebody_s_wish_ends_the_wait(autojump_clock: Clock) -> None:
    """A requestCrawl of a host that is being left alone."""
    async with following(7) as made:
        await trio.sleep(10)
        before = len(made.cursors)
        made.wake.set()
        await trio.sleep(1)

        assert before == 1
        assert made.cursors == ["7", "7"]


async def test_a_wish_is_granted_once(autojump_clock: Clock) -> None:
    """Of two that came while nobody waited one is left, and none after it."""
    wake = Wake()
    wake.set()
    wake.set()
    with trio.fail_after(1):
        await wake.wait()
    with trio.move_on_after(1) as waited:
        await wake.wait()

    assert waited.cancelled_caught


async def test_a_host_that_cut_us_off_may_have_lost_events(autojump_clock: Clock) -> None:
    """Checklist 54."""
    async with following() as made:
        made.pds.plant(error_frame("ConsumerTooSlow", ""))
        await trio.sleep(1)

        assert [(news.ending, news.gap) for news in made.news[1:2]] == [(Ending.TOO_SLOW, GAP_SLOW)]


async def test_after_a_stop_of_ours_the_host_is_read_as_soon_as_there_is_room(autojump_clock: Clock) -> None:
    """And not left alone: it did nothing."""
    async with following() as made:
        made.reader.room = trio.Event()
        made.emit()
        await trio.sleep(STOP_SECONDS_MAX + 60)
        made.emit()
        before = (len(made.cursors), list(made.reader.taken))
        made.reader.room.set()
        await trio.sleep(0.5)

        assert before == (1, [1])
        assert (made.cursors, made.reader.taken) == (["0", "1"], [1, 2])
        assert made.news[1].ending is Ending.OUR_STOP


async def test_a_host_over_its_rate_is_read_on_when_the_rate_allows(autojump_clock: Clock) -> None:
    async with following(limits=Limits("default", 5, 20, 1_000, 100)) as made:
        made.emit(60)
        await trio.sleep(60)
        status = made.health.status
        await trio.sleep(4 * HOUR)

        assert (status, made.health.status) == ("throttled", "active")
        assert made.reader.taken == list(range(1, 61))


async def test_a_host_whose_seqs_began_anew_is_read_from_its_beginning(autojump_clock: Clock) -> None:
    """Design section 4: three times FutureCursor over ten minutes, then one look at its window."""
    async with following(50) as made:
        made.emit(3)
        await trio.sleep(RESTART_SECONDS_MIN - FUTURE_CURSOR_SECONDS)
        early = (set(made.cursors), made.reader.restarts)
        await trio.sleep(2 * FUTURE_CURSOR_SECONDS)

        assert early == ({"50"}, 0)
        assert made.reader.restarts == 1
        assert made.cursors[-2:] == ["0", "0"]
        assert made.reader.taken == [1, 2, 3]
        (news,) = [news for news in made.news if news.probed]
        assert (news.gap, news.cursor_before, news.ending) == (GAP_RESTART, 50, None)


async def test_a_host_whose_window_goes_beyond_our_cursor_did_not_begin_anew(autojump_clock: Clock) -> None:
    """It is asked once a day, and its place is kept."""
    async with following(50) as made:
        made.pds.window.tip = 49
        await trio.sleep(FUTURE_CURSOR_SECONDS * 1.5)
        made.emit()
        made.pds.window.tip = 40  # it denies what it still has
        await trio.sleep(12 * HOUR)

        probes = [news for news in made.news if news.probed]
        assert [(news.gap, news.cursor_before) for news in probes] == [("", None)]
        assert "its window goes further" in probes[0].error
        assert (made.reader.restarts, made.reader.cursor) == (0, 50)


async def test_nothing_begins_anew_while_events_are_in_flight(autojump_clock: Clock) -> None:
    """Seqs of two epochs would mix."""
    async with following(50) as made:
        made.reader.in_flight = 1
        await trio.sleep(HOUR)
        before = made.reader.restarts
        made.reader.in_flight = 0
        await trio.sleep(2 * FUTURE_CURSOR_SECONDS)

        assert (before, made.reader.restarts) == (0, 1)


class DeadAtLast:
    """Dials what the network has, but for the fourth time nobody answers."""

    def __init__(self, net: MemoryNet) -> None:
        self._net = net

    async def open_stream(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        if self._net.dials.get(host) == RESTART_CONNECTIONS:
            self._net.dead.add(host)
        return await self._net.open_stream(host, port, tls=tls)


async def test_a_host_that_cannot_be_asked_keeps_its_place(autojump_clock: Clock) -> None:
    """After three times FutureCursor the question itself does not get through."""
    async with followed_host(50) as made, trio.open_nursery() as nursery:
        nursery.start_soon(follow, made.host, made.follower._replace(dialer=DeadAtLast(made.net)))
        await trio.sleep(HOUR)
        nursery.cancel_scope.cancel()

        (news,) = [news for news in made.news if news.probed]
        assert (news.gap, news.cursor_before) == ("", None)
        assert "Connection refused" in news.error
        assert (made.reader.restarts, made.reader.cursor) == (0, 50)
