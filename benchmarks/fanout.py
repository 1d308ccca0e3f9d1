"""Live fan-out in one serve worker: against raw `send` of the same bytes to the same sockets, and against a library.

Three ways to give every consumer a batch of 20 frames of 5.5 kB, in turn, batch by batch: `socket.send` of the whole
batch (the yardstick), the worker as it is, and the worker with one `send_message` of trio-websocket a frame. What is
timed begins when the batch is in the log and ends when the last consumer has it in its socket; consumers are in
another process. The lower quartile of the batches counts for each, so that a busy neighbour does not decide.

Then, in fresh processes: the age of a frame at its first byte with 100 consumers at 2,000 events a second, appended by
a process that does nothing else, and what idle and stalled consumers cost in memory that is not mapped (RssAnon).
`--seconds` is how long each of these lasts; `--stall-seconds 600` is the full length of the last.
"""

import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from benchmarks.serving import (
    FRAME_BYTES,
    MESSAGE_BYTES,
    Crowd,
    Feeder,
    Serving,
    Writer,
    in_fresh_process,
    make_store,
    serving,
)
from benchmarks.yardstick import Bar, Case, arguments, percentile, report
from relay.net.consumer_socket import ConsumerSocket
from relay.protocol.frame import iter_messages
from relay.serve.consumer import Consumer
from relay.serve.settings import ConsumerSettings

BATCH = 20
SLOW_EVERY = 25
CATCH_UP_EVERY = 2
ARRIVAL_SECONDS = 30.0
SETTLE_SECONDS = 1.0
LATENCY_CONSUMERS, LATENCY_RATE, STAMPED = 100, 2_000, 5
WARM_UP, STALLED = 20, 50
IDLE_KB_MAX, STALLED_KB_MAX = 40, ConsumerSettings().read_bytes / 1e3 + 100
GROWTH_MAX = 1.05  # of the process from the first third to the last: what "flat" allows


async def fan_out(folder: Path, consumers: int, rounds: int) -> list[Case]:
    """Deliveries a second of the three ways."""
    store = make_store(folder, 1)
    writer = Writer(store)
    crowd = Crowd()
    times: dict[str, list[float]] = {"raw_send": [], "relay": [], "send_message": []}
    async with serving(store) as made:
        await crowd.open("discard", made.port, consumers)
        sockets = [socket_of(consumer) for consumer in await seated(made, consumers)]
        for number in range(rounds):
            times["raw_send"].append(await raw_batch(sockets))
            times["relay"].append(await relay_batch(made, writer))
            if number % SLOW_EVERY == 0:
                with on_the_library():
                    times["send_message"].append(await relay_batch(made, writer))
            if number % CATCH_UP_EVERY == 0:
                await arrival(crowd, sum(map(len, times.values())) * BATCH * MESSAGE_BYTES)
        await arrival(crowd, sum(map(len, times.values())) * BATCH * MESSAGE_BYTES)
    crowd.close()
    store.close()
    rates = {name: consumers * BATCH / percentile(values, 0.25) for name, values in times.items()}
    raw, relay, library = rates.values()
    return [
        Case("raw_send", raw, "deliveries/s"),
        Case("send_message", library, "deliveries/s", library / raw, "raw_send"),
        Case("relay", relay, "deliveries/s", relay / raw, "raw_send", (Bar("ratio", ">=", 0.6),)),
        Case("relay_to_library", relay, "deliveries/s", relay / library, "send_message", (Bar("ratio", ">=", 20),)),
    ]


async def arrival(crowd: Crowd, size: int) -> None:
    """Until every consumer has so many bytes: what is timed is sending, not waiting for a process that is behind."""
    with trio.fail_after(ARRIVAL_SECONDS):
        while any(received < size for received in await crowd.received("discard")):  # noqa: ASYNC110 -- another process
            await trio.sleep(0.01)


async def raw_batch(sockets: list[socket.socket]) -> float:
    """Seconds to send one batch to every socket with nothing of ours."""
    data = (b"\x82\x7e" + FRAME_BYTES.to_bytes(2, "big") + bytes(FRAME_BYTES)) * BATCH
    began = time.perf_counter()
    for each in sockets:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[each.send(rest) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(each)
    spent = time.perf_counter() - began
    await trio.lowlevel.checkpoint()
    return spent


async def relay_batch(made: Serving, writer: Writer) -> float:
    """Seconds to do the same through the worker: from the log to the last socket."""
    consumers = consumers_of(made)
    tip = writer.append(BATCH)
    began = time.perf_counter()
    await made.worker.tail.refresh()
    while any(consumer.position < tip or consumer._socket.owes for consumer in consumers):  # noqa: SLF001 -- from inside
        await trio.lowlevel.checkpoint()
    return time.perf_counter() - began


def consumers_of(made: Serving) -> list[Consumer]:
    """Those that are past their handshake."""
    return [seat.consumer for seat in made.worker.audience._seats.values() if seat.consumer]  # noqa: SLF001 -- from inside


async def seated(made: Serving, count: int) -> list[Consumer]:
    """All of them: a client may have read the answer to its handshake before the worker's task goes on."""
    with trio.fail_after(ARRIVAL_SECONDS):
        while len(found := consumers_of(made)) < count:
            await trio.lowlevel.checkpoint()
    return found


def socket_of(consumer: Consumer) -> socket.socket:
    """The system's socket below all layers."""
    stream = consumer._socket._raw  # noqa: SLF001 -- from inside
    assert isinstance(stream, trio.SocketStream)
    found = stream.socket._sock  # type: ignore[attr-defined] # noqa: SLF001 -- as above
    assert isinstance(found, socket.socket)
    return found


@contextmanager
def on_the_library() -> Iterator[None]:
    """Let the worker send each frame by the library's `send_message`, which has no way to send without waiting."""

    async def send_each(self: ConsumerSocket, data: bytes | bytearray | memoryview) -> None:
        for message in iter_messages(bytes(data)):
            await self._link.send_message(message)

    def send_nothing(_self: ConsumerSocket, _pieces: Sequence[bytes]) -> int:
        return 0

    ours = ConsumerSocket.send_messages, ConsumerSocket.send_nowait
    ConsumerSocket.send_messages, ConsumerSocket.send_nowait = send_each, send_nothing  # type: ignore[method-assign, assignment] # for a while
    try:
        yield
    finally:
        ConsumerSocket.send_messages, ConsumerSocket.send_nowait = ours  # type: ignore[method-assign] # back


async def latency(folder: Path, seconds: float) -> list[Case]:
    """Ages of frames at their first byte; consumers at the tip, a process that only appends."""
    store = make_store(folder, 1)
    crowd, stamped = Crowd(), Crowd()  # apart: whoever takes 1 GB a second has no time to look at its clock
    feeder = Feeder(folder, LATENCY_RATE)
    async with serving(store) as made:
        await crowd.open("discard", made.port, LATENCY_CONSUMERS - STAMPED)
        await stamped.open("stamp", made.port, STAMPED)
        await trio.sleep(SETTLE_SECONDS)
        await stamped.ages_ms()
        await trio.sleep(seconds)
        ages = await stamped.ages_ms()
        events, fed_seconds = await trio.to_thread.run_sync(feeder.stop)
    for each in (crowd, stamped):
        each.close()
    store.close()
    return [
        Case("latency_fed", events / fed_seconds, "events/s"),
        Case("latency_p50", percentile(ages, 0.5), "ms", bars=(Bar("value", "<=", 10),)),
        Case("latency_p99", percentile(ages, 0.99), "ms", bars=(Bar("value", "<=", 40),)),
        Case("latency_max", max(ages), "ms"),
    ]


async def idle_memory(folder: Path, idle: int) -> list[Case]:
    """RssAnon for each consumer that has nothing to take."""
    store = make_store(folder, 1)
    crowd = Crowd()
    async with serving(store) as made:
        await crowd.open("discard", made.port, WARM_UP)
        await trio.sleep(SETTLE_SECONDS)
        before = made.rss_anon_bytes()
        await crowd.open("discard", made.port, idle)
        await trio.sleep(SETTLE_SECONDS)
        each = (made.rss_anon_bytes() - before) / idle
    crowd.close()
    store.close()
    return [Case("idle_consumer", each / 1e3, "kB", bars=(Bar("value", "<=", IDLE_KB_MAX),))]


async def stalled_memory(folder: Path, seconds: float) -> list[Case]:
    """RssAnon for each consumer that reads nothing while 2,000 events a second come, and whether it grows."""
    store = make_store(folder, 1)
    crowd = Crowd()
    async with serving(store, stall_seconds=seconds + 300) as made:
        await crowd.open("discard", made.port, WARM_UP)
        feeder = Feeder(folder, LATENCY_RATE)
        await trio.sleep(3 * SETTLE_SECONDS)  # the hot window is full by then
        before = made.rss_anon_bytes()
        await crowd.open("stall", made.port, STALLED)
        await trio.sleep(3 * SETTLE_SECONDS)
        seen = []
        until = trio.current_time() + seconds
        while trio.current_time() < until:
            seen.append(made.rss_anon_bytes())
            await trio.sleep(1.0)
        stalled = [consumer for consumer in consumers_of(made) if consumer.stalled_seconds(trio.current_time()) > 1]
        assert len(stalled) == STALLED, f"{len(stalled)} of {STALLED} are stalled"
        await trio.to_thread.run_sync(feeder.stop)
    crowd.close()
    store.close()
    third = max(1, len(seen) // 3)
    early, late = sum(seen[:third]) / third, sum(seen[-third:]) / third
    each = (late - before) / STALLED
    return [
        Case("stalled_consumer", each / 1e3, "kB", bars=(Bar("value", "<=", STALLED_KB_MAX),)),
        Case("worker_after_stall", late / 1e3, "kB", late / early, "first_third", (Bar("ratio", "<=", GROWTH_MAX),)),
    ]


def in_folder(phase: Callable[..., Awaitable[list[Case]]], *arguments: Any) -> list[Case]:
    """Run a phase over a store of its own."""
    with tempfile.TemporaryDirectory(prefix="relay-fanout-") as name:
        cases: list[Case] = trio.run(phase, Path(name) / "data", *arguments)
        return cases


def main() -> None:
    parser = arguments("live fan-out, latency and memory of one serve worker")
    parser.add_argument("--consumers", type=int, default=200, help="for the fan-out (200)")
    parser.add_argument("--rounds", type=int, default=150, help="batches of the fan-out (150)")
    parser.add_argument("--idle", type=int, default=400, help="idle consumers whose memory is taken (400)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the latency run (10)")
    parser.add_argument("--stall-seconds", type=float, default=10.0, help="length of the stall (10)")
    given = parser.parse_args()
    phases: list[tuple[Any, ...]] = [
        (fan_out, given.consumers, given.rounds),
        (latency, given.seconds),
        (idle_memory, given.idle),
        (stalled_memory, given.stall_seconds),
    ]
    cases = [case for phase in phases for case in in_fresh_process(in_folder, *phase)]
    report("fanout", cases, given)


if __name__ == "__main__":
    main()
