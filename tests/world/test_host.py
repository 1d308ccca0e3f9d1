"""The simulated host over real loopback sockets, seen through the relay's own client."""

import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import pytest
import trio
import trio.testing

from relay.net.dial import Dialer, StreamOpener
from relay.net.errors import ConnectionClosed, NetError, TextMessage, UpgradeRefused
from relay.net.exchange import error_response
from relay.net.http import HttpClient, HttpResponse
from relay.net.server import serve_http
from relay.net.subscription_socket import Subscription, open_subscription
from relay.world.host import SimulatedHost
from relay.world.messages import account_message, error_frame, identity_message, info_frame
from relay.world.window import websocket_message
from tests.world.slices import read_frame

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
NOW_MS = 1_750_000_000_000
DIALER = Dialer(allow_private=True, allow_insecure=True)


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """A listener without sockets, and the opener that reaches it."""

    def __init__(self) -> None:
        self._near, self._far = trio.open_memory_channel[trio.abc.Stream](1)

    async def open_stream(self, _host: str, _port: int, *, tls: bool) -> trio.abc.Stream:
        assert not tls
        ours, theirs = trio.testing.memory_stream_pair()
        await self._near.send(theirs)
        return ours

    async def accept(self) -> trio.abc.Stream:
        return await self._far.receive()

    async def aclose(self) -> None:
        self._near.close()
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def subscribed(
    host: SimulatedHost, query: str = "", opener: StreamOpener = DIALER, seconds: float = 20
) -> AsyncGenerator[Subscription, None]:
    url = host.url.replace("http:", "ws:") + "/xrpc/com.atproto.sync.subscribeRepos" + query
    with trio.fail_after(seconds):
        async with open_subscription(opener, url, user_agent="tester/1", handshake_seconds=10) as subscription:
            yield subscription


async def take(subscription: Subscription, count: int) -> list[bytes]:
    messages: list[bytes] = []
    while len(messages) < count:
        messages += await subscription.receive()
    return messages


async def seqs(subscription: Subscription, count: int) -> list[int]:
    return [read_frame(message).payload["seq"] for message in await take(subscription, count)]


async def started(nursery: trio.Nursery, events: int = 0) -> SimulatedHost:
    host = SimulatedHost()
    await nursery.start(host.serve)
    for _ in range(events):
        host.emit(identity_message(DID, None), NOW_MS)
    return host


async def started_in_memory(nursery: trio.Nursery, events: int) -> tuple[SimulatedHost, MemoryListener]:
    """For tests of time: on an autojump clock, which real sockets would mislead."""
    host, listener = SimulatedHost(), MemoryListener()
    host.url = "http://localhost:1"
    nursery.start_soon(serve_http, [listener], host.site)
    for _ in range(events):
        host.emit(identity_message(DID, None), NOW_MS)
    return host, listener


async def get(host: SimulatedHost, path: str) -> HttpResponse:
    client = HttpClient(DIALER, "tester/1")
    try:
        return await client.get(host.url + path, timeout_seconds=10, body_bytes_max=10_000)
    finally:
        await client.aclose()


async def test_replay_from_a_cursor_goes_over_into_live(nursery: trio.Nursery) -> None:
    host = await started(nursery, events=5)
    async with subscribed(host, "?cursor=2") as subscription:
        assert await seqs(subscription, 3) == [3, 4, 5]
        host.emit(account_message(DID), NOW_MS)
        assert await seqs(subscription, 1) == [6]


async def test_without_a_cursor_only_what_comes_later_is_sent(nursery: trio.Nursery) -> None:
    host = await started(nursery, events=5)
    async with subscribed(host) as subscription:
        with trio.fail_after(10):
            while not host.connections:
                await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        host.emit(account_message(DID), NOW_MS)
        assert await seqs(subscription, 1) == [6]


async def test_handshakes_are_kept_with_query_and_headers(nursery: trio.Nursery) -> None:
    host = await started(nursery, events=1)
    async with subscribed(host, "?cursor=0&x=y") as subscription:
        assert await seqs(subscription, 1) == [1]
    (handshake,) = host.handshakes

    assert handshake.cursor == "0"
    assert handshake.query == (("cursor", "0"), ("x", "y"))
    assert handshake.headers["user-agent"] == "tester/1"


async def test_a_future_cursor_is_told_in_an_error_frame_and_a_close(nursery: trio.Nursery) -> None:
    host = await started(nursery, events=1)
    async with subscribed(host, "?cursor=2") as subscription:
        (frame,) = await take(subscription, 1)
        assert frame == error_frame("FutureCursor", "Cursor in the future.")
        assert frame.hex().startswith("a1626f7020")
        with pytest.raises(ConnectionClosed) as closed:
            await subscription.receive()
        assert (closed.value.code, closed.value.reason) == (1008, "FutureCursor")


async def test_an_outdated_cursor_is_told_before_the_whole_window(nursery: trio.Nursery) -> None:
    host = await started(nursery, events=5)
    host.window.expire(4)
    async with subscribed(host, "?cursor=1") as subscription:
        first, *rest = await take(subscription, 3)
        assert first == info_frame("OutdatedCursor", "Requested cursor exceeded limit. Possibly missing events")
        assert [read_frame(frame).payload["seq"] for frame in rest] == [4, 5]


@pytest.mark.parametrize(("cursor", "expected"), [(3, [4, 5, 6]), (5, [6])])
async def test_cursors_at_the_edges_of_the_window_are_plain(
    nursery: trio.Nursery, cursor: int, expected: list[int]
) -> None:
    """Just before the floor is not outdated, the newest seq is not in the future."""
    host = await started(nursery, events=5)
    host.window.expire(4)
    async with subscribed(host, f"?cursor={cursor}") as subscription:
        host.emit(account_message(DID), NOW_MS)
        frames = await take(subscription, len(expected))
        assert [read_frame(frame).payload.get("seq") for frame in frames] == expected


@pytest.mark.parametrize(("query", "status"), [("?cursor=x", 400), ("?cursor=-1", 400), ("?cursor=", 400)])
async def test_a_malformed_cursor_is_refused_before_the_upgrade(nursery: trio.Nursery, query: str, status: int) -> None:
    host = await started(nursery)
    with pytest.raises(UpgradeRefused) as refused:
        async with subscribed(host, query):
            pass
    assert refused.value.status == status


async def test_a_host_can_refuse_the_stream(nursery: trio.Nursery) -> None:
    host = await started(nursery)
    host.refusal = error_response(503, "Down", "maintenance")
    with pytest.raises(UpgradeRefused) as refused:
        async with subscribed(host):
            pass
    assert refused.value.status == 503
    assert (await get(host, "/xrpc/com.atproto.sync.subscribeRepos")).status == 503
    host.refusal = None
    assert (await get(host, "/xrpc/com.atproto.sync.subscribeRepos")).status == 426


async def test_a_host_can_disconnect_and_can_cut(nursery: trio.Nursery) -> None:
    """A Close carries its code; a cut is 1006. Both end open connections only."""
    host = await started(nursery, events=1)
    ends: list[tuple[Callable[[], None], int]] = [(partial(host.disconnect, 4000, "bye"), 4000), (host.cut, 1006)]
    for end, code in ends:
        async with subscribed(host, "?cursor=0") as subscription:
            assert await seqs(subscription, 1) == [1]
            end()
            with pytest.raises(ConnectionClosed) as closed:
                await subscription.receive()
            assert closed.value.code == code
    assert len(host.handshakes) == 2


async def test_a_silent_host_speaks_again_without_loss(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Ten minutes of silence, kept alive by pings alone; then everything that was emitted meanwhile."""
    host, opener = await started_in_memory(nursery, events=1)
    host.hush()
    async with subscribed(host, "?cursor=0", opener, seconds=1000) as subscription:
        host.emit(account_message(DID), NOW_MS)
        with trio.move_on_after(600) as waited:
            await subscription.receive()
        assert waited.cancelled_caught
        host.speak()
        assert await seqs(subscription, 2) == [1, 2]


async def test_text_and_hostile_messages_go_out_between_the_events(nursery: trio.Nursery) -> None:
    host = await started(nursery, events=1)
    host.plant(b"\xff\xff")
    host.emit(account_message(DID), NOW_MS)
    host.plant(b"hello", text=True)
    async with subscribed(host, "?cursor=0") as subscription:
        first, hostile, last = await take(subscription, 3)
        assert [read_frame(frame).payload["seq"] for frame in (first, last)] == [1, 2]
        assert hostile == b"\xff\xff"
        with pytest.raises(TextMessage):
            await subscription.receive()


async def test_garbage_below_websocket_breaks_the_connection(nursery: trio.Nursery) -> None:
    host = await started(nursery, events=1)
    host.plant_bytes(b"\xff" * 50)
    async with subscribed(host, "?cursor=0") as subscription:
        assert await seqs(subscription, 1) == [1]
        with pytest.raises(NetError):
            await subscription.receive()


async def test_recorded_frames_keep_their_seqs(nursery: trio.Nursery) -> None:
    host = await started(nursery)
    frame = identity_message(DID, None).frame(700, NOW_MS)
    host.append(frame, 700)
    host.emit(account_message(DID), NOW_MS)
    async with subscribed(host, "?cursor=5") as subscription:
        notice, *events = await take(subscription, 3)
        assert read_frame(notice).payload["name"] == "OutdatedCursor"
        assert events[0] == frame
        assert read_frame(events[1]).payload["seq"] == 701


async def test_a_slow_host_sends_message_by_message(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Everything arrives, and each message as much later as its predecessor is long."""
    host, opener = await started_in_memory(nursery, events=4)
    host.bytes_per_second = len(websocket_message(identity_message(DID, None).frame(1, NOW_MS))) / 5
    async with subscribed(host, "?cursor=0", opener, seconds=1000) as subscription:
        begun = trio.current_time()
        for seq in range(1, 5):
            assert await seqs(subscription, 1) == [seq]
            assert math.isclose(trio.current_time() - begun, 5 * (seq - 1), abs_tol=0.01)


async def test_describe_server_and_repo_status(nursery: trio.Nursery) -> None:
    """Statuses follow from what the host emitted; a stranger is RepoNotFound; the rest is not implemented."""
    host = await started(nursery)
    host.emit(account_message(DID, "deactivated"), NOW_MS)
    status = "/xrpc/com.atproto.sync.getRepoStatus?did="
    told = await get(host, status + DID)
    unknown = await get(host, status + "did:plc:b")

    assert msgspec.json.decode(told.body) == {"did": DID, "active": False, "status": "deactivated"}
    assert told.headers["server"] == "simulated-pds"
    assert (unknown.status, msgspec.json.decode(unknown.body)["error"]) == (400, "RepoNotFound")
    assert (await get(host, "/xrpc/com.atproto.server.describeServer")).status == 200
    assert (await get(host, "/xrpc/com.atproto.sync.getRepo?did=x")).status == 501
