"""The watched stream: one send lock, progress, torn sends, and the two clocks."""

import pytest
import trio
import trio.testing

from relay.net.watch import WatchedStream, ping_until_silent, ping_when_quiet, wait_silent


async def test_sends_do_not_mix_and_go_in_order() -> None:
    """Steps of a large send are not interleaved either; who waits first goes first."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    stream = WatchedStream(ours)
    received = bytearray()
    async with trio.open_nursery() as nursery:
        for letter in b"abc":
            nursery.start_soon(stream.send_all, bytes([letter]) * 200_000)
            await trio.testing.wait_all_tasks_blocked()
        while len(received) < 600_000:
            received += await theirs.receive_some(10_000)

    assert bytes(received) == b"a" * 200_000 + b"b" * 200_000 + b"c" * 200_000
    assert stream.accepted_bytes == 600_000


async def test_cut_off_send_makes_it_unusable(autojump_clock: trio.testing.MockClock) -> None:
    ours, _ = trio.testing.lockstep_stream_pair()
    stream = WatchedStream(ours)
    with trio.move_on_after(1):
        await stream.send_all(b"half")

    assert stream.torn
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"next")


async def test_cancelled_wait_for_the_lock_does_no_harm(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    stream = WatchedStream(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, b"first")
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await stream.send_all(b"never")
        assert await theirs.receive_some() == b"first"

    assert not stream.torn


async def test_aclose_leaves_the_stream_below_open() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    stream = WatchedStream(ours)
    await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()
    await ours.send_all(b"below")

    assert await theirs.receive_some() == b"below"


async def test_ping_counts_from_the_side_that_is_quiet_longer(autojump_clock: trio.testing.MockClock) -> None:
    """A peer that only listens is asked for a sign of life however busy it is kept, and at most every 30 s."""
    ours, theirs = trio.testing.memory_stream_pair()
    stream = WatchedStream(ours)
    pinged: list[float] = []

    def ping() -> bytes:
        pinged.append(trio.current_time())
        return b"ping"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ping_when_quiet, stream, ping)
        for second in range(100):
            await stream.send_all(b"data")
            await trio.sleep(1)
            if second == 49:
                await theirs.send_all(b"pong")
                await stream.receive_some()
        assert pinged == [30, 80]
        await theirs.aclose()  # the next ping finds nobody, and the task ends


@pytest.mark.parametrize("began", [0.0, 1.0, 89.0, 90.0, 200.0])
async def test_silence_counts_from_when_reading_began(began: float, autojump_clock: trio.testing.MockClock) -> None:
    ours, _ = trio.testing.memory_stream_pair()
    stream = WatchedStream(ours)
    async with trio.open_nursery() as nursery:

        async def read_later() -> None:
            await trio.sleep(began)
            await stream.receive_some()

        nursery.start_soon(read_later)
        await trio.testing.wait_all_tasks_blocked()
        await wait_silent(stream)
        assert trio.current_time() == pytest.approx(began + 90)
        nursery.cancel_scope.cancel()


async def test_silence_starts_anew_with_each_byte(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    stream = WatchedStream(ours)
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            while True:
                await stream.receive_some()

        async def trickle() -> None:
            for _ in range(5):
                await trio.sleep(89)
                await theirs.send_all(b"x")

        nursery.start_soon(read)
        nursery.start_soon(trickle)
        await wait_silent(stream)
        assert trio.current_time() == pytest.approx(5 * 89 + 90)
        nursery.cancel_scope.cancel()


async def test_a_send_that_had_to_wait_is_a_sign_of_life(autojump_clock: trio.testing.MockClock) -> None:
    """Design section 8, rule 8: the pongs of a slow reader are stuck behind what it still has to read."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    stream = WatchedStream(ours)
    stream.waiting_since = trio.current_time()
    silent_at: list[float] = []

    async def watch() -> None:
        await wait_silent(stream)
        silent_at.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        for _ in range(4):
            nursery.start_soon(stream.send_all, b"x" * 10)
            await trio.sleep(60)
            assert await theirs.receive_some(10) == b"x" * 10
        await trio.sleep(100)
        assert silent_at == [pytest.approx(4 * 60 + 90)]


async def test_a_send_that_did_not_wait_proves_nothing(autojump_clock: trio.testing.MockClock) -> None:
    ours, _theirs = trio.testing.memory_stream_pair()
    stream = WatchedStream(ours)
    stream.waiting_since = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def chatter() -> None:
            while True:
                await stream.send_all(b"x")
                await trio.sleep(10)

        nursery.start_soon(chatter)
        await wait_silent(stream)
        assert trio.current_time() == 90
        nursery.cancel_scope.cancel()


async def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Two ends of a connection over loopback."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        ours = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        return ours, await listener.accept()


async def test_what_is_sent_without_waiting_keeps_its_order_and_owes_the_rest() -> None:
    """Parts that the kernel took whole, one in part, and none behind it; the rest goes before whatever comes next."""
    ours, theirs = await socket_pair()
    async with ours, theirs:
        stream = WatchedStream(ours)
        parts = [bytes([letter]) * 3_000_000 for letter in range(10)]
        taken = stream.send_nowait(parts)
        assert 0 < taken < len(parts)
        assert stream.owes
        assert stream.send_nowait([b"not now"]) == 0
        expected = b"".join(parts[:taken]) + b"next"
        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, b"next")
            while len(received) < len(expected):
                received += await theirs.receive_some(1_000_000)
        assert received == expected
        assert stream.accepted_bytes == len(expected)
        assert not stream.owes


async def test_nothing_is_taken_without_waiting_where_that_cannot_be() -> None:
    """By a memory stream, behind a send that waits, after the end of either side, or into a full buffer."""
    memory, _ = trio.testing.memory_stream_pair()
    assert WatchedStream(memory).send_nowait([b"x"]) == 0
    ours, theirs = await socket_pair()
    async with ours:
        stream = WatchedStream(ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, bytes(20_000_000))
            await trio.testing.wait_all_tasks_blocked()
            assert stream.is_sending
            assert stream.send_nowait([b"x"]) == 0
            nursery.cancel_scope.cancel()
        assert stream.torn
        assert stream.send_nowait([b"x"]) == 0
        await trio.aclose_forcefully(theirs)
    assert WatchedStream(ours).send_nowait([b"x"]) == 0


async def test_a_peer_that_takes_not_even_a_ping_is_silent(autojump_clock: trio.testing.MockClock) -> None:
    """Nobody else sends, so nobody else bounds that wait."""
    ours, _theirs = trio.testing.lockstep_stream_pair()
    stream = WatchedStream(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.receive_some)
        assert await ping_until_silent(stream, lambda: b"ping")
        nursery.cancel_scope.cancel()
    assert trio.current_time() <= 30 + 90


async def test_a_send_that_waits_stops_the_clock_of_silence(autojump_clock: trio.testing.MockClock) -> None:
    """Its sender has a limit of its own; once it is through, ninety seconds of silence count again."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    stream = WatchedStream(ours)
    silent_at: list[float] = []

    async def judge() -> None:
        if await ping_until_silent(stream, lambda: b"ping"):
            silent_at.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.receive_some)
        nursery.start_soon(stream.send_all, b"data")
        nursery.start_soon(judge)
        await trio.sleep(600)
        assert silent_at == []
        assert await theirs.receive_some() == b"data"
        await trio.sleep(300)
        assert 690 <= silent_at[0] <= 600 + 2 * 90
        nursery.cancel_scope.cancel()
