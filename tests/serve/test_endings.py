"""Every way a consumer's connection ends, and that nothing else ends it. Deadlines run on a virtual clock."""

from pathlib import Path

import pytest
import trio
import trio.testing

from relay.serve.settings import ConsumerSettings, ServeRoleSettings
from tests.support.fake_consumer import PATH, Closed, FakeConsumer, Refused, connect, seq_of
from tests.support.serving import LOG, Serving, request, serve
from tests.support.until import until

HOUR_MS = 3_600_000
REQUEST = (
    f"GET {PATH} HTTP/1.1\r\nHost: relay.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()


async def test_shutdown_flushes_and_says_1001(tmp_path: Path) -> None:
    """Checklist 17: what was appended before the drain still arrives, then the code that clients come back after."""
    async with serve(tmp_path) as serving, serving.connect() as consumer:
        serving.log.append(10, pad_bytes=50_000)
        serving.drain.set()
        await trio.testing.wait_all_tasks_blocked()
        frames, closed = await consumer.rest()
        assert frames == serving.log.after(0)
        assert closed.code == 1001
        await serving.done.wait()
        assert serving.disconnects() == {"shutdown": 1}


async def test_a_drain_ends_a_replay_after_the_piece_under_way(tmp_path: Path) -> None:
    """A consumer far behind does not hold the shutdown: it gets whole frames in order, then 1001, and comes back."""
    async with serve(tmp_path, hot_bytes=64 << 10) as serving:
        for _ in range(30):
            serving.log.append(1, pad_bytes=60_000)
        async with serving.connect("?cursor=0") as consumer:
            first = await consumer.frames(1)
            serving.drain.set()
            await trio.testing.wait_all_tasks_blocked()
            frames, closed = await consumer.rest()
            assert first + frames == serving.log.after(0)[: len(frames) + 1]
            assert len(frames) <= 1
            assert closed.code == 1001
            await serving.done.wait()


async def test_a_drain_cuts_who_does_not_take_what_is_left(tmp_path: Path, autojump_clock: object) -> None:
    """The worker ends within the two times it has for them, whatever its consumers do."""
    settings = ServeRoleSettings(log=LOG, flush_seconds=8.0, farewell_seconds=2.0)
    async with serve(tmp_path, settings) as serving, serving.connect():
        await flood(serving)
        serving.drain.set()
        began = trio.current_time()
        await serving.done.wait()
        assert trio.current_time() - began <= 10.0
        assert serving.disconnects() == {"shutdown": 1}


async def test_nobody_new_is_taken_while_draining(tmp_path: Path) -> None:
    async with serve(tmp_path) as serving:
        serving.worker.audience.closing = True
        with pytest.raises(Refused) as refused:
            async with connect(serving.port):
                pass
        assert refused.value.status == 503
        assert "retry-after" in refused.value.headers


async def test_a_reader_that_takes_nothing_is_cut_and_nobody_else_notices(
    tmp_path: Path, autojump_clock: object
) -> None:
    """Checklist 19: no memory is kept for it, it ends after stall_seconds, and the other one has every frame."""
    async with serve(tmp_path, stall_seconds=20) as serving, serving.connect(), serving.connect() as other:
        await flood(serving, other)
        began = trio.current_time()
        while len(serving.worker.audience) == 2:  # noqa: ASYNC110 -- nothing sets an event for it
            await trio.sleep(1)
        assert serving.disconnects() == {"stalled": 1}
        assert trio.current_time() - began <= 25
        serving.log.append()
        assert await other.seqs(1) == [serving.log.tip]


async def test_a_large_frame_may_take_long_as_long_as_it_moves(tmp_path: Path, autojump_clock: object) -> None:
    """Progress is judged by bytes: one send of 75 s with a stall limit of 20 s, of which 64 KiB go every 15 s."""
    async with serve(tmp_path, stall_seconds=20) as serving, serving.connect() as slow:
        serving.log.append(pad_bytes=330_000)
        for _ in range(5):
            await trio.sleep(15)
            assert len(await slow.stream.receive_some(65_536)) > 0
        assert serving.disconnects() == {}
        (frame,) = serving.log.frames.values()
        assert len(frame) > 5 * 65_536


async def test_a_slow_reader_that_goes_on_keeps_its_place(tmp_path: Path) -> None:
    """Far behind the hot window it reads the log by itself, without a gap, while the other one is at the tip."""
    async with (
        serve(tmp_path, hot_bytes=64 << 10) as serving,
        serving.connect() as slow,
        serving.connect() as other,
    ):
        await flood(serving, other)
        expected = serving.log.after(0)
        assert await slow.frames(len(expected)) == expected
        serving.log.append()
        assert await slow.seqs(1) == await other.seqs(1)


async def test_a_position_that_left_the_window_is_told_so(tmp_path: Path, autojump_clock: object) -> None:
    """ConsumerTooSlow comes between two frames, with its close code, after whole frames in order."""
    async with serve(tmp_path, hot_bytes=64 << 10, stall_seconds=3600) as serving, serving.connect() as slow:
        await flood(serving)
        serving.log.append(after_ms=80 * HOUR_MS)
        serving.log.append(after_ms=80 * HOUR_MS)
        assert serving.store.retain() >= 1
        frames, closed = await slow.rest()
        assert closed == Closed(1008, "ConsumerTooSlow")
        assert frames[-1].startswith(bytes.fromhex("a1626f7020"))
        assert b"\x65error\x6fConsumerTooSlow" in frames[-1]
        sent = frames[:-1]
        assert sent == serving.log.after(0)[: len(sent)]
        await serving.gone()
        assert serving.disconnects() == {"too_slow": 1}


@pytest.mark.parametrize(
    ("query", "infos"),
    [("?cursor=0", 0), ("?cursor=5", 1), ("?cursor={floor}", 1)],
    ids=["the whole window", "outdated", "inside the window"],
)
async def test_a_start_that_retention_overtakes_before_the_first_read_still_gets_the_window(
    tmp_path: Path, query: str, infos: int
) -> None:
    """Retention never races a reader: whoever was sent nothing yet begins at the new floor and is told a loss once."""
    async with serve(tmp_path, hot_bytes=64 << 10) as serving:
        serving.log.append(2)
        floor = retire(serving)
        for _ in range(10):
            serving.log.append(50, pad_bytes=2000)  # so that it starts behind the hot window
        await serving.worker.tail.refresh()
        await serving.worker.tail.turn.acquire()  # somebody else reads the log
        async with serving.connect(query.format(floor=floor)) as consumer:
            told = await consumer.frames(1) if query == "?cursor=5" else []
            await trio.testing.wait_all_tasks_blocked()
            expected = serving.log.after(retire(serving) - 1)
            serving.worker.tail.turn.release()
            told += await consumer.frames(infos - len(told))
            assert [b"OutdatedCursor" in info for info in told] == [True] * infos
            assert await consumer.frames(len(expected)) == expected


async def test_a_half_open_connection_is_reaped(tmp_path: Path, autojump_clock: object) -> None:
    """Checklist 14: a peer that answers no ping is gone after about 90 s."""
    async with serve(tmp_path) as serving, serving.connect():
        began = trio.current_time()
        await serving.gone()
        assert 60 <= trio.current_time() - began <= 125
        assert serving.disconnects() == {"silent": 1}


async def test_a_quiet_consumer_that_answers_pings_stays(tmp_path: Path, autojump_clock: object) -> None:
    async with serve(tmp_path) as serving, serving.connect() as consumer, trio.open_nursery() as nursery:
        nursery.start_soon(consumer.receive)
        await trio.sleep(600)
        assert serving.disconnects() == {}
        assert consumer.pings >= 10
        nursery.cancel_scope.cancel()


async def test_a_busy_consumer_that_never_speaks_stays(tmp_path: Path, autojump_clock: object) -> None:
    """Events every second for ten minutes: no silence of ours calls for a ping, and still its life is seen."""
    async with serve(tmp_path) as serving, serving.connect() as consumer:
        for _ in range(600):
            serving.log.append()
            assert await consumer.seqs(1) == [serving.log.tip]
            await trio.sleep(1)
        assert serving.disconnects() == {}


async def test_a_very_slow_reader_stays_while_it_makes_progress(tmp_path: Path, autojump_clock: object) -> None:
    """Design section 8, rule 8: 1 KB a second for six minutes, with pongs that wait behind all that is buffered."""
    async with serve(tmp_path, stall_seconds=120) as serving, serving.connect() as slow:
        await flood(serving)
        for _ in range(38):
            await slow.frames(10)
            await trio.sleep(10)
        assert serving.disconnects() == {}


async def test_an_operator_sends_one_consumer_away(tmp_path: Path) -> None:
    async with serve(tmp_path) as serving, connect(serving.port) as one, connect(serving.port) as other:
        listed = (await request(serving.control, "GET", "/consumers")).json
        assert [consumer["remote_addr"] for consumer in listed] == ["127.0.0.1", "127.0.0.1"]
        reply = await request(serving.control, "POST", "/kick", b'{"id":%d}' % listed[0]["id"])
        assert reply.status == 200
        assert await one.receive() == Closed(1008, "kicked")
        serving.log.append()
        assert await other.seqs(1) == [serving.log.tip]
        assert (await request(serving.control, "POST", "/kick", b'{"id":999}')).status == 404
        assert (await request(serving.control, "POST", "/kick", b"[]")).status == 400


async def test_a_kick_reaches_who_takes_nothing(tmp_path: Path, autojump_clock: object) -> None:
    async with serve(tmp_path) as serving, serving.connect():
        await flood(serving)
        (listed,) = serving.worker.audience.describe()
        number = listed["id"]
        assert isinstance(number, int)
        assert serving.worker.audience.kick(number)
        began = trio.current_time()
        await serving.gone()
        assert trio.current_time() - began < 10
        assert serving.disconnects() == {"kicked": 1}


async def test_a_client_that_is_gone_before_our_answer_takes_no_place(tmp_path: Path) -> None:
    """Its request was in order, so it is an end of a connection that is counted."""
    async with serve(tmp_path) as serving:
        stream = serving.memory.connect()
        await stream.send_all(REQUEST)
        await trio.aclose_forcefully(stream)
        await trio.testing.wait_all_tasks_blocked()
        assert len(serving.worker.audience) == 0
        assert serving.disconnects() == {"refused": 1}


def retire(serving: Serving) -> int:
    """Let all that was appended so far fall out of the window. Returns the new floor."""
    serving.log.append(after_ms=80 * HOUR_MS)
    serving.log.append(after_ms=80 * HOUR_MS)
    assert serving.store.retain() >= 1
    return serving.store.tip().floor


async def flood(serving: Serving, reader: FakeConsumer | None = None) -> None:
    """Append 400 kB, part by part once the worker has taken in the last one, while `reader` keeps up with it."""
    for _ in range(8):
        seqs = serving.log.append(50, pad_bytes=1_000)
        await until(lambda: serving.worker.tail.hot.tip_seq == serving.log.tip)
        if reader is not None:
            assert [seq_of(frame) for frame in await reader.frames(50)] == seqs


def test_the_defaults_are_those_of_the_interface() -> None:
    assert ConsumerSettings() == ConsumerSettings(max=5000, per_address=20, stall_seconds=120, read_bytes=256 << 10)
