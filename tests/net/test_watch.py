"""The watched stream: one send lock, progress, torn sends, and the two clocks."""

import pytest
import trio
import trio.testing

from relay.net.watch import WatchedStream, ping_when_quiet, wait_silent


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


async def test_ping_counts_from_the_last_write(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    stream = WatchedStream(ours)
    pinged: list[float] = []

    def ping() -> bytes:
        pinged.append(trio.current_time())
        return b"ping"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ping_when_quiet, stream, ping)
        await trio.sleep(20)
        await stream.send_all(b"data")
        await trio.sleep(100)
        assert pinged == [50, 80, 110]
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
