"""A whole relay as processes, from hosts to a consumer: how much it carries, and how long an event takes.

`carried` sends all frames as fast as TCP lets the hosts and counts what a consumer at cursor 0 gets. `latency` plays a
steady rate and takes the time from the moment an event leaves its host to the moment a live consumer has it. Yardsticks
of the same run: a bare secp256k1 verification, and a round trip of one byte over loopback.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import trio

from benchmarks.upstream import Upstream, add_recording, recording_options, upstream
from benchmarks.yardstick import Case, arguments, bare_verify, measure, percentile, report
from relay.app.demorelay import Place, free_port, running_relay
from relay.net.dial import Dialer
from relay.net.errors import NetError
from relay.net.subscription_socket import open_subscription
from relay.protocol.frame import STREAM_PATH, MessageFrame, parse_frame
from relay.world.network import Emission, Shape
from relay.world.stage import open_stage, play

HOSTS = 20
START_SECONDS_MAX = 60.0
CARRY_SECONDS_MAX = 300.0
SETTLE_SECONDS = 2.0
ROUND_TRIPS = 2_000
SHAPE = Shape(lifecycle=0)


async def consume(place: Place, take: Callable[[list[bytes]], bool]) -> None:
    """Subscribe at cursor 0, again and again until the relay is there; hand over what comes until `take` is true."""
    dialer = Dialer(allow_private=True, allow_insecure=True)
    url = f"{place.stream}{STREAM_PATH}?cursor=0"
    with trio.move_on_after(START_SECONDS_MAX):
        while True:
            try:
                async with open_subscription(dialer, url, user_agent="benchmark", handshake_seconds=5) as subscription:
                    with trio.fail_after(CARRY_SECONDS_MAX):
                        while not take(await subscription.receive()):
                            pass
                    return
            except NetError:
                await trio.sleep(0.1)
    raise SystemExit("the relay did not start, or lost the consumer")


async def carried(frames: int, recording: list[str], folder: Path) -> float:
    """Events a second at the consumer, between its first and its last."""
    place = Place(folder, free_port(0), free_port(0))
    seen = 0
    began = ended = 0.0

    def take(messages: list[bytes]) -> bool:
        nonlocal seen, began, ended
        began = began or time.perf_counter()
        seen += len(messages)
        ended = time.perf_counter()
        return seen >= frames

    async with AsyncExitStack() as stack:
        source: Upstream = await stack.enter_async_context(upstream(HOSTS, frames, recording))
        await stack.enter_async_context(running_relay(place, source.hosts, source.plc))
        await consume(place, take)
    return seen / (ended - began)


async def latencies(rate: float, seconds: float, folder: Path) -> list[float]:
    """Milliseconds from host to consumer of each event but the first ones."""
    place = Place(folder, free_port(0), free_port(0))
    left: dict[tuple[str, str], float] = {}
    taken: list[float] = []

    def witness(emission: Emission) -> None:
        left[emission.message.did, emission.message.rev] = time.perf_counter()

    def take(messages: list[bytes]) -> bool:
        now = time.perf_counter()
        for message in messages:
            frame = parse_frame(message)
            if isinstance(frame, MessageFrame) and "rev" in frame.payload:
                taken.append((now - left[frame.payload["repo"], frame.payload["rev"]]) * 1000)
        return False

    async with trio.open_nursery() as nursery:
        now_ms = time.time_ns() // 1_000_000
        stage = await open_stage(nursery, seed=1, hosts=3, accounts=30, now_ms=now_ms, shape=SHAPE)
        async with running_relay(place, [host.url for host in stage.hosts], stage.plc.url):
            nursery.start_soon(consume, place, take)
            while not all(host.connections for host in stage.hosts):  # noqa: ASYNC110 -- another process
                await trio.sleep(0.1)
            with trio.move_on_after(seconds + SETTLE_SECONDS):
                await play(stage, rate, lambda: time.time_ns() // 1_000_000, witness)
            nursery.cancel_scope.cancel()
    return taken[int(rate * SETTLE_SECONDS) :]


async def round_trip() -> float:
    """Milliseconds for one byte there and back over loopback, median."""

    async def echo(stream: trio.abc.Stream) -> None:
        while data := await stream.receive_some(1):
            await stream.send_all(data)

    times = []
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, echo, 0)
        async with await trio.open_tcp_stream("127.0.0.1", listeners[0].socket.getsockname()[1]) as stream:
            for _ in range(ROUND_TRIPS):
                began = time.perf_counter()
                await stream.send_all(b"x")
                await stream.receive_some(1)
                times.append((time.perf_counter() - began) * 1000)
        nursery.cancel_scope.cancel()
    return percentile(times, 0.5)


async def run(count: int, recording: list[str], rate: float, seconds: float) -> list[Case]:
    """All cases."""
    verify, trip = measure([bare_verify()])[0], await round_trip()
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        events = await carried(count, recording, Path(one))
        times = await latencies(rate, seconds, Path(other))
    median, worst = percentile(times, 0.5), percentile(times, 0.99)
    return [
        verify,
        Case("round_trip", trip, "ms"),
        Case("carried", events, "1/s", events * verify.value / 1e6, verify.name),
        Case(f"latency_p50_at_{rate:g}", median, "ms", median / trip, "round_trip"),
        Case(f"latency_p99_at_{rate:g}", worst, "ms", worst / trip, "round_trip"),
    ]


def main() -> None:
    parser = arguments("a whole relay, from hosts to a consumer")
    parser.add_argument("--count", type=int, default=8_000, help="frames to carry (8,000)")
    parser.add_argument("--rate", type=float, default=500, help="events a second for the latency (500)")
    parser.add_argument("--seconds", type=float, default=8, help="how long to play them (8)")
    add_recording(parser)
    given = parser.parse_args()
    cases = trio.run(run, given.count, recording_options(given), given.rate, given.seconds)
    report("end_to_end", cases, given)


if __name__ == "__main__":
    main()
