"""One connection from the dial to its end, on memory streams and virtual time."""

from collections.abc import Callable
from functools import partial

import pytest
import trio
import trio.testing

from relay.crawl.host import GAP_CURSOR, Upstream
from relay.crawl.hoststate import Ending
from relay.crawl.limits import Limits
from relay.crawl.reading import BEHIND_MAX, MESSAGES_PER_TURN, STAND_SECONDS, STOP_SECONDS_MAX, End, read_host
from relay.net.exchange import Response
from relay.protocol.limits import MESSAGE_BYTES_MAX
from relay.verify.verdict import Reason
from relay.world.host import SimulatedHost
from relay.world.messages import error_frame, info_frame
from tests.sim.memorynet import MemoryNet
from tests.support.followed import NAME, Followed, followed_host

Clock = trio.testing.MockClock


async def end_of(made: Followed) -> End:
    with trio.fail_after(3_600):
        return await read_host(made.host, made.follower)


@pytest.mark.parametrize(
    ("cursor", "from_window", "query"),
    [(None, True, "?cursor=0"), (None, False, ""), (0, False, "?cursor=0"), (7, True, "?cursor=7")],
)
def test_where_a_host_is_read_from(cursor: int | None, from_window: bool, query: str) -> None:
    """Checklist 49: after our cursor; a host that was never read from its window or live."""
    for insecure, scheme in ((False, "wss"), (True, "ws")):
        expected = f"{scheme}://{NAME}/xrpc/com.atproto.sync.subscribeRepos{query}"
        assert Upstream(NAME, insecure, from_window).url(cursor) == expected


@pytest.mark.parametrize(
    ("trouble", "ending", "unreadable"),
    [
        (lambda pds: pds.disconnect(), Ending.CLOSED, []),
        (lambda pds: pds.cut(), Ending.CLOSED, []),
        (lambda pds: pds.plant(b"\xff"), Ending.FRAMING, []),
        (lambda pds: pds.plant(b"text", text=True), Ending.FRAMING, [Reason.MESSAGE_NOT_BINARY]),
        (lambda pds: pds.plant(bytes(MESSAGE_BYTES_MAX + 1)), Ending.FRAMING, [Reason.MESSAGE_TOO_BIG]),
        (lambda pds: pds.plant(error_frame("FutureCursor", "")), Ending.FUTURE_CURSOR, []),
        (lambda pds: pds.plant(error_frame("ConsumerTooSlow", "")), Ending.TOO_SLOW, []),
        (lambda pds: pds.plant(error_frame("Whatever", "")), Ending.ERROR_FRAME, []),
    ],
    ids=["closed", "cut", "framing", "text", "too_big", "future_cursor", "too_slow", "other_error"],
)
async def test_every_end_of_a_connection_has_its_name(
    trouble: Callable[[SimulatedHost], None], ending: Ending, unreadable: list[Reason], autojump_clock: Clock
) -> None:
    """And what came before it was taken."""
    async with followed_host() as made:
        made.emit(3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_after, 1.0, partial(trouble, made.pds))
            end = await end_of(made)

        assert end.ending is ending
        assert made.reader.taken == [1, 2, 3]
        assert made.reader.unreadable == unreadable


async def _after(seconds: float, act: Callable[[], None]) -> None:
    await trio.sleep(seconds)
    act()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Response(503, (("Retry-After", "120"),)), (Ending.REFUSED, 120.0)),
        (Response(302, (("Location", "https://elsewhere.example.com/"),)), (Ending.REFUSED, 0.0)),
    ],
    ids=["busy", "redirect"],
)
async def test_a_host_that_refuses_is_heard(
    answer: Response, expected: tuple[Ending, float], autojump_clock: Clock
) -> None:
    """When it says how long it wants to be left alone, that is passed on."""
    async with followed_host() as made:
        made.pds.refusal = answer
        end = await end_of(made)

        assert (end.ending, end.retry_after_seconds) == expected
        assert made.news == []


async def test_nobody_there(autojump_clock: Clock) -> None:
    async with followed_host() as made:
        made.net.dead.add(NAME)

        assert (await end_of(made)).ending is Ending.UNREACHABLE


@pytest.mark.parametrize("refuses", [False, True])
async def test_a_relay_is_not_read(refuses: bool, autojump_clock: Clock) -> None:
    """Its events would go round (protocol.md section 21); it says what it is when it takes us, and when it does not."""
    async with followed_host(server="atproto-relay/9") as made:
        made.emit()
        made.pds.refusal = Response(429) if refuses else None

        assert (await end_of(made)).ending is Ending.RELAY
        assert (made.reader.taken, made.news) == ([], [])


class Deafening:
    """Opens streams that no longer hear the host once told so, as when a cable is cut."""

    def __init__(self, net: MemoryNet) -> None:
        self._net = net
        self._stream: trio.abc.Stream | None = None

    async def open_stream(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        self._stream = await self._net.open_stream(host, port, tls=tls)
        return self._stream

    def deafen(self) -> None:
        assert isinstance(self._stream, trio.StapledStream)
        self._stream.receive_stream = trio.testing.MemoryReceiveStream()


async def test_a_host_of_which_nothing_is_heard_is_silent(autojump_clock: Clock) -> None:
    """Not even the answers to our pings: nobody says that the connection is gone."""
    async with followed_host() as made:
        dialer = Deafening(made.net)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_after, 1.0, dialer.deafen)
            with trio.fail_after(600):
                end = await read_host(made.host, made.follower._replace(dialer=dialer))

        assert end.ending is Ending.SILENT


async def test_a_host_that_was_ill_is_well_once_its_connection_stands(autojump_clock: Clock) -> None:
    """A bare connect says nothing: such hosts often take a connection only to end it."""
    async with followed_host() as made:
        made.health.status = "offline"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_host, made.host, made.follower)
            await trio.sleep(STAND_SECONDS / 2)
            early = list(made.news)
            await trio.sleep(STAND_SECONDS)
            nursery.cancel_scope.cancel()

        assert early == []
        assert [(news.status, news.error, news.ending) for news in made.news] == [("active", "", None)]


async def test_a_host_that_was_over_its_rate_is_well_as_soon_as_it_is_read_on(autojump_clock: Clock) -> None:
    async with followed_host() as made:
        made.health.status = "throttled"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_after, 1.0, made.pds.disconnect)
            await end_of(made)

        assert [(news.status, news.error) for news in made.news] == [("active", "")]


async def test_an_event_says_so_at_once_and_it_is_said_once(autojump_clock: Clock) -> None:
    async with followed_host() as made:
        made.health.status = "offline"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_host, made.host, made.follower)
            await trio.sleep(1)
            made.emit()
            await trio.sleep(1)
            soon = list(made.news)
            made.emit()
            await trio.sleep(2 * STAND_SECONDS)
            nursery.cancel_scope.cancel()

        assert [news.status for news in soon] == ["active"]
        assert made.news == soon


async def test_an_event_is_told_although_we_wait_for_the_rate_after_it(autojump_clock: Clock) -> None:
    """A host that is being read is not called idle for the time that its limit makes us wait."""
    async with followed_host(limits=Limits("default", 5, 20, 1_000, 100)) as made:
        made.health.status = "idle"
        made.emit(30)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_host, made.host, made.follower)
            await trio.sleep(STOP_SECONDS_MAX / 4)
            nursery.cancel_scope.cancel()

        assert made.reader.taken
        assert [(news.status, news.error) for news in made.news] == [("active", "")]


@pytest.mark.parametrize(("cursor", "gaps"), [(2, [GAP_CURSOR]), (0, []), (None, [])])
async def test_a_gap_in_the_window_is_reported_unless_all_of_it_was_asked_for(
    cursor: int | None, gaps: list[str], autojump_clock: Clock
) -> None:
    """Checklist 54."""
    async with followed_host(cursor) as made:
        made.pds.window.tip = 2
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_after, 1.0, partial(made.pds.plant, info_frame("OutdatedCursor", "")))
            nursery.start_soon(_after, 2.0, made.pds.disconnect)
            await end_of(made)

        assert [news.gap for news in made.news if news.gap] == gaps
        assert not made.reader.possible_gap


async def test_a_host_that_counts_from_lower_down_is_left(autojump_clock: Clock) -> None:
    """So many events in a row at or below our cursor."""
    async with followed_host(50) as made:
        made.pds.window.tip = 60
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_host, made.host, made.follower)
            await trio.sleep(1)
            made.pds.window.restart()
            made.emit(BEHIND_MAX - 1)
            await trio.sleep(1)
            still = made.pds.connections
            made.emit()
            await trio.sleep(1)

        assert (still, made.pds.connections) == (1, 0)
        assert made.reader.behind == BEHIND_MAX


async def test_others_get_a_turn_between_many_small_messages(autojump_clock: Clock) -> None:
    """Design section 8, rule 10."""
    async with followed_host() as made:
        made.emit(3 * MESSAGES_PER_TURN + 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_after, 1.0, made.pds.disconnect)
            await end_of(made)

        assert len(made.reader.taken) == 3 * MESSAGES_PER_TURN + 1
        assert max(made.reader.turns) == MESSAGES_PER_TURN


async def test_a_stop_of_ours_ends_the_connection_and_is_not_the_host_s_fault(autojump_clock: Clock) -> None:
    """Design section 4, "Our silence is not theirs"."""
    async with followed_host() as made:
        made.reader.room = trio.Event()
        made.emit()
        began = trio.current_time()
        end = await end_of(made)

        assert end.ending is Ending.OUR_STOP
        assert STOP_SECONDS_MAX <= trio.current_time() - began < STOP_SECONDS_MAX + 5
        assert made.reader.taken == [1]


async def test_a_host_over_its_rate_is_left_for_a_while(autojump_clock: Clock) -> None:
    async with followed_host(limits=Limits("default", 5, 20, 1_000, 100)) as made:
        made.emit(30)
        end = await end_of(made)

        assert (end.ending, end.error) == (Ending.THROTTLED, "over its limit of 20 events an hour")
