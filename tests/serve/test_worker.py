"""A whole worker as the supervisor runs it, its control socket, and the bookkeeping of its consumers."""

import math
from contextlib import ExitStack, suppress
from pathlib import Path

import h11
import pytest
import trio
import trio.testing

from relay.net.exchange import Request
from relay.observe.metrics import Metrics
from relay.serve.audience import Audience, Visitor
from relay.serve.crew import Crew
from relay.serve.pages import Pages
from relay.serve.settings import ConsumerSettings, ServeRoleSettings, limits_share, places_share
from relay.serve.tail import Tail
from relay.serve.worker import run
from relay.store.errors import Corrupt, StoreClosed
from relay.store.layout import ACCOUNTS
from relay.store.store import Store
from tests.support.fake_consumer import connect
from tests.support.log_writer import START_MS, LogWriter, did_of
from tests.support.serving import LOG, request, serve


async def test_run_serves_a_data_dir_until_it_is_drained(tmp_path: Path) -> None:
    """The signature and the start protocol that every role has; the store is closed again at the end."""
    store = Store.open(tmp_path, LOG, create=True, now_ms=START_MS)
    expected = LogWriter(store)
    expected.append(3)
    store.close()
    metrics, drain = Metrics(), trio.Event()
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    (control,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port, control_port = (each.socket.getsockname()[1] for each in (listener, control))

    async def worker(task_status: trio.TaskStatus[None]) -> None:
        await run(
            settings=ServeRoleSettings(log=LOG),
            data_dir=tmp_path,
            index=0,
            count=2,
            metrics=metrics,
            listeners=[listener],
            control=control,
            drain=drain,
            task_status=task_status,
        )

    async with trio.open_nursery() as nursery:
        await nursery.start(worker)
        async with connect(port, "?cursor=0") as consumer:
            assert await consumer.frames(3) == expected.after(0)
            health = await request(control_port, "GET", "/health")
            assert (health.status, health.json) == (200, {"status": "ok", "consumers": 1})
            scrape = (await request(control_port, "GET", "/metrics")).body.decode()
            assert "relay_serve_consumers 1.0" in scrape
            assert "relay_serve_frames_sent_total 3.0" in scrape
            drain.set()
            _, closed = await consumer.rest()
            assert closed.code == 1001
    with pytest.raises(OSError, match="all attempts to connect"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_who_was_accepted_before_the_end_is_answered(tmp_path: Path) -> None:
    """A request that comes just after the worker stopped accepting: its client cannot know."""
    async with serve(tmp_path) as serving:
        stream = await trio.open_tcp_stream("127.0.0.1", serving.port)
        async with stream:
            await trio.testing.wait_all_tasks_blocked()
            serving.drain.set()
            await trio.testing.wait_all_tasks_blocked()
            await stream.send_all(b"GET /_health HTTP/1.1\r\nHost: relay.test\r\n\r\n")
            assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 200 ")


async def test_the_control_socket_answers_nothing_else(tmp_path: Path) -> None:
    async with serve(tmp_path) as serving:
        assert (await request(serving.control, "GET", "/window")).status == 404
        assert (await request(serving.control, "GET", "/kick")).status == 404
        assert (await serving.get("/consumers")).status == 404
        assert (await serving.get("/metrics")).status == 404


async def test_a_consumer_is_described_for_operators(tmp_path: Path) -> None:
    async with serve(tmp_path) as serving, connect(serving.port) as consumer:
        serving.log.append(5)
        await consumer.frames(5)
        await trio.testing.wait_all_tasks_blocked()
        (shown,) = (await request(serving.control, "GET", "/consumers")).json
        assert shown["events_consumed"] == 5
        assert shown["position"] == serving.log.tip
        assert shown["lag_seconds"] == 0
        assert shown["remote_addr"] == "127.0.0.1"
        assert shown["connected_at"] > START_MS // 2


async def test_lag_is_measured_in_log_time(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    """A reader that stopped a minute of log before the tip is a minute behind."""
    async with serve(tmp_path) as serving, serving.connect() as consumer:
        serving.log.append(1)
        await consumer.frames(1)
        serving.log.append(1)
        await trio.sleep(0.1)  # this one is being sent
        serving.log.append(1, after_ms=60_000)
        await trio.sleep(0.1)
        (shown,) = serving.worker.audience.describe()
        assert shown["lag_seconds"] == 60.01


@pytest.mark.parametrize(("limit", "workers"), [(20, 2), (20, 8), (100, 4), (5_000, 2), (5_000, 8), (1, 64), (3, 2)])
def test_an_uneven_deal_refuses_next_to_nobody_below_a_limit(limit: int, workers: int) -> None:
    """The chance that one of the workers is dealt more than its places, when as many come as may."""
    places = places_share(limit, workers)
    chance = sum(
        math.comb(limit, dealt) * (workers - 1) ** (limit - dealt) / workers**limit
        for dealt in range(places + 1, limit + 1)
    )
    assert workers * chance < 0.001
    assert 1 <= places <= limit


def test_places_beyond_the_even_part_do_not_grow_with_it() -> None:
    assert [places_share(limit, 2) for limit in (1, 20, 100, 5_000, 1_000_000)] == [1, 20, 86, 2_750, 503_536]
    assert places_share(5_000, 1) == 5_000


async def test_a_refusal_names_the_limit_that_was_set(tmp_path: Path) -> None:
    """Not the part of one worker: the operator and the consumer know the first only."""
    async with serve(tmp_path, workers=8, per_address=20, max=40) as serving:
        audience = serving.worker.audience
        with ExitStack() as seats:
            while (refusal := audience.refusal("192.0.2.1")) is None:
                seats.enter_context(audience.seat(Visitor("192.0.2.1", "", 0)))
            assert (len(audience), refusal) == (11, "your address has its limit of 20 consumers")
            while (refusal := audience.refusal(f"192.0.2.{len(audience)}")) is None:
                seats.enter_context(audience.seat(Visitor(f"192.0.2.{len(audience)}", "", 0)))
            assert (len(audience), refusal) == (17, "this relay has its limit of 40 consumers")


async def test_a_worker_counts_requests_up_to_the_limit_that_was_set(tmp_path: Path) -> None:
    """A client's requests come over one connection, to one worker."""
    async with serve(tmp_path, workers=8) as serving:
        reply = await serving.get("/window")
        assert (reply.headers["ratelimit-limit"], reply.headers["ratelimit-remaining"]) == ("3000", "2999")


def test_workers_share_limits_and_number_their_consumers_apart(tmp_path: Path) -> None:
    assert [limits_share(limit, 4) for limit in (5000, 20, 3, 1)] == [1250, 5, 1, 1]
    store = Store.open(tmp_path, LOG, create=True, now_ms=START_MS)
    metrics = Metrics().serve
    tail = Tail(store, hot_bytes=1, metrics=metrics, now_ms=lambda: 0)
    numbers = set()
    for index in range(3):
        audience = Audience(ConsumerSettings(), index=index, workers=3, tail=tail, metrics=metrics)
        for _ in range(4):
            with audience.seat(Visitor("10.0.0.1", "", 0)) as seat:
                numbers.add(seat.number)
    store.close()
    assert len(numbers) == 12


async def test_health_says_so_when_the_store_cannot_be_read(tmp_path: Path) -> None:
    """Checklist 249."""
    store = Store.open(tmp_path, LOG, create=True, now_ms=START_MS)
    settings = ServeRoleSettings(log=LOG)
    pages = Pages(
        store, settings, now_ms=lambda: START_MS, disk_free=lambda: 1 << 40, consumers=lambda: 0, crew=Crew(None)
    )
    asked = Request("GET", "/_health", (), {}, b"", "127.0.0.1")
    assert (await pages.health(asked)).status == 200
    store.close()
    assert (await pages.health(asked)).status == 500
    assert (await pages.ready(asked)).status == 503


async def test_a_store_that_fails_ends_the_worker(tmp_path: Path) -> None:
    """Design section 7: doubt about our own data is loud, it is not answered with a 500 and forgotten."""
    with pytest.RaisesGroup(StoreClosed, flatten_subgroups=True):
        async with serve(tmp_path) as serving:
            serving.store.close()
            await trio.sleep_forever()


async def test_a_damaged_row_ends_the_worker(tmp_path: Path) -> None:
    """Invariant 9: the same for what a request finds: the row is ours, so nobody may be served from it."""
    with pytest.RaisesGroup(Corrupt, flatten_subgroups=True):
        async with serve(tmp_path) as serving:
            state = serving.store._state
            with state.writing() as txn:
                txn.put(did_of(1).encode(), b"damaged", db=state.env.db[ACCOUNTS])
            with suppress(h11.RemoteProtocolError):  # the connection ends without an answer
                await serving.get(f"/xrpc/com.atproto.sync.getRepoStatus?did={did_of(1)}")
            await trio.sleep_forever()
