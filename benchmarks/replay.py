"""Replay from the stored log: one consumer against a plain read and send, and twenty beside a live stream.

The yardstick reads the log with the relay's own reader in slices of the same size and sends them with `socket.sendall`,
whole and by one thread, to the same kind of consumer. The two are measured in turn; the better of two rounds counts for
each. Then twenty consumers replay, each from a place of its own in the first half of the log, while another process
appends 1,000 events a second, and ten others follow the tip: none may lose anything, and the age of a frame at its
first byte says what the replays cost the tip.

At its default size it takes 6 GB of disk.
"""

import socket
import tempfile
import threading
import time
from pathlib import Path

import trio

from benchmarks.serving import (
    MESSAGE_BYTES,
    Crowd,
    Feeder,
    in_fresh_process,
    make_store,
    serving,
)
from benchmarks.yardstick import Bar, Case, arguments, percentile, report
from relay.serve.settings import ConsumerSettings
from relay.store.store import Store

READ_BYTES = ConsumerSettings().read_bytes
ROUNDS = 2
REPLAYS, LIVE, LIVE_RATE = 20, 10, 1_000
SETTLE_SECONDS = 1.0
LOOK_SECONDS = 0.01
REPLAY_BARS = (Bar("ratio", ">=", 0.5), Bar("value", ">=", 100_000))


def raw_replay(store: Store) -> float:
    """Seconds to read the whole log and send it over loopback, with nothing of the serve role."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()
    size = 0

    def drain(connection: socket.socket) -> None:
        buffer = bytearray(1 << 20)
        while connection.recv_into(buffer, len(buffer), socket.MSG_TRUNC):
            pass
        done.set()

    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    thread = threading.Thread(target=drain, args=(client,))
    thread.start()
    began = time.perf_counter()
    reader, position = store.reader(), store.tip().floor - 1
    while (part := reader.read(position, READ_BYTES)) is not None:
        server.sendall(part.data)
        size += len(part.data)
        position = part.last_seq
    server.shutdown(socket.SHUT_WR)
    done.wait()
    seconds = time.perf_counter() - began
    thread.join()
    for each in (server, client, listener):
        each.close()
    return seconds


async def relay_replay(store: Store, events: int) -> float:
    """Seconds from the request of one consumer with cursor 0 to its last byte."""
    crowd = Crowd()
    async with serving(store) as made:
        await crowd.open("stall", made.port, 0)  # the process is up
        began = time.perf_counter()
        await crowd.open("discard", made.port, 1, "?cursor=0")
        while (await crowd.received("discard"))[0] < events * MESSAGE_BYTES:  # noqa: ASYNC110 -- another process
            await trio.sleep(LOOK_SECONDS)
        seconds = time.perf_counter() - began
    crowd.close()
    return seconds


def one(name: str, events: int) -> list[Case]:
    """One consumer replays everything."""
    folder = Path(name) / "one"
    store = make_store(folder, events)
    raw, relay = [], []
    for _ in range(ROUNDS):
        raw.append(raw_replay(store))
        relay.append(trio.run(relay_replay, store, events))
    store.close()
    raw_rate, rate = events / min(raw), events / min(relay)
    return [
        Case("raw_read_and_send", raw_rate, "events/s"),
        Case("replay", rate, "events/s", rate / raw_rate, "raw_read_and_send", REPLAY_BARS),
    ]


async def beside(folder: Path, events: int) -> list[Case]:
    """Twenty replays while events come in."""
    store = make_store(folder, events)
    crowd, others = Crowd(), Crowd()
    async with serving(store) as made:
        await others.open("stamp", made.port, LIVE)
        feeder = Feeder(folder, LIVE_RATE)
        await trio.sleep(SETTLE_SECONDS)
        await others.ages_ms()
        floor = store.tip().floor
        skipped = [events * number // (2 * REPLAYS) for number in range(REPLAYS)]
        began = trio.current_time()
        for count in skipped:
            await crowd.open("discard", made.port, 1, f"?cursor={floor - 1 + count}")
        rates = [0.0] * REPLAYS
        while not all(rates):
            for number, received in enumerate(await crowd.received("discard")):
                if not rates[number] and received >= (events - skipped[number]) * MESSAGE_BYTES:
                    rates[number] = (events - skipped[number]) / (trio.current_time() - began)
            await trio.sleep(LOOK_SECONDS)
        ages = await others.ages_ms()
        fed, _ = await trio.to_thread.run_sync(feeder.stop)
        with trio.fail_after(30):  # nobody has lost anything: all of the log, or all since the connect
            while not (  # noqa: ASYNC110 -- as above
                await crowd.received("discard") == [(events - count + fed) * MESSAGE_BYTES for count in skipped]
                and min(await others.received("stamp")) == fed * MESSAGE_BYTES
            ):
                await trio.sleep(LOOK_SECONDS)
    for each in (crowd, others):
        each.close()
    store.close()
    return [
        Case("replays_beside_live_slowest", min(rates), "events/s", bars=(Bar("value", ">=", 2_000),)),
        Case("live_beside_replays_p50", percentile(ages, 0.5), "ms"),
        Case("live_beside_replays_p99", percentile(ages, 0.99), "ms", bars=(Bar("value", "<=", 100),)),
        Case("live_beside_replays_max", max(ages), "ms"),
    ]


def many(name: str, events: int) -> list[Case]:
    """As `beside`, in a process of its own."""
    return trio.run(beside, Path(name) / "many", events)


def main() -> None:
    parser = arguments("replay of stored events")
    parser.add_argument("--events", type=int, default=1_000_000, help="stored events for one consumer (1,000,000)")
    parser.add_argument("--events-many", type=int, default=60_000, help="stored events for twenty consumers (60,000)")
    parser.add_argument("--dir", type=Path, help="where to write, the system's temporary folder by default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-replay-", dir=given.dir) as name:
        cases = in_fresh_process(one, name, given.events) + in_fresh_process(many, name, given.events_many)
    report("replay", cases, given)


if __name__ == "__main__":
    main()
