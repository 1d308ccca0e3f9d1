"""What a consumer gets of a running relay: the last event before a silence, a clean goodbye, a sound stream."""

from contextlib import AsyncExitStack

import pytest
import trio

from tests.support.fake_consumer import connect
from tests.support.processes import RELAY, RelayProcess
from tests.support.town import town
from tests.support.until import until

pytestmark = pytest.mark.slow

PAUSES = (0.0, 0.02, 0.06, 0.2, 0.5, 1.2)  # shorter and longer than a poll, a batch and a bare write
SILENCE_SECONDS_MAX = 1.0


async def test_one_event_then_silence_reaches_everyone_within_a_second(relay: RelayProcess) -> None:
    """Nothing that comes later may be needed to bring an event out. Invariant 5: everyone gets the same bytes."""
    async with town(relay, hosts=1, accounts=2, seed=21) as made, AsyncExitStack() as stack:
        writer = made.network.writers[0]
        made.write(writer)
        await made.caught_up()
        queries = ["", "", f"?cursor={made.scorecard.last_seq}", f"?cursor={made.scorecard.last_seq}"]
        consumers = [await stack.enter_async_context(connect(relay.api, query)) for query in queries]
        received: list[list[bytes]] = []
        for pause in PAUSES:
            await trio.sleep(pause)
            made.write(writer)
            with trio.fail_after(SILENCE_SECONDS_MAX):
                received.append([(await consumer.frames(1))[0] for consumer in consumers])

        await made.judge()
        assert received == [[message] * len(consumers) for message in made.messages[1:]]


async def test_sigterm_drains_says_1001_and_exits_0(relay: RelayProcess) -> None:
    """In the middle of traffic: what was accepted is in the log, and the next start goes on without a gap."""
    async with town(relay, hosts=2, accounts=8, seed=22) as made:
        async with made.playing(200):
            await made.received(100)

            assert await relay.terminate() == 0

            await until(lambda: bool(made.endings))
            assert [ending.code for ending in made.endings] == [1001]
            assert [line["event"] for line in relay.lines()][-1] == "relay_stopped"
            assert not list(relay.lines("drain_incomplete"))
            await relay.restart()
            await made.received(100)
        await made.judge()


async def test_relay_tail_finds_the_stream_contiguous(relay: RelayProcess) -> None:
    async with town(relay, hosts=1, accounts=3, seed=23) as made:
        for _ in range(40):
            made.live()
        await made.caught_up()
        count = made.scorecard.events_received
        bounds = ["--cursor", str(made.first_seq - 1), "--count", str(count), "--seconds", "30"]

        run = await trio.run_process(
            [*RELAY, "tail", f"ws://127.0.0.1:{relay.api}", *bounds, "--contiguous"],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )

        assert run.returncode == 0, run.stderr
        assert [int(line.split()[0]) for line in run.stdout.splitlines()] == [made.first_seq + n for n in range(count)]
