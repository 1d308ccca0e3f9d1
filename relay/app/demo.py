"""`relay demo`: the whole relay, as processes, against a small network that it simulates on loopback.

Owns the play: the simulated hosts and directory in this process, what they do wrong on purpose, and a consumer that
checks what comes out against what was sent. Does not own the relay's process (`relay.app.demorelay`). Succeeds only if
every event that a relay must pass arrived, in order for each account, without a gap in seq, and nothing else did.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import trio

from relay.app.demorelay import DemoFailed, Place, make_folder, places, ready_relay
from relay.app.demoscreen import Figures, Screen
from relay.app.lifecycle import on_stop_signals
from relay.app.scorecard import Scorecard
from relay.net.dial import Dialer
from relay.net.errors import NetError
from relay.net.http import HttpClient
from relay.net.subscription_socket import open_subscription
from relay.protocol.frame import STREAM_PATH
from relay.world.network import Emission, Shape
from relay.world.stage import Stage, open_stage, play

ARRIVAL_SECONDS_MAX = 30.0
RETRY_SECONDS = 0.1
WRONGED_ACCOUNTS = 3
SCRAPE_BYTES_MAX = 4 << 20
SHAPE = Shape(records=2_000, layer_min=4, quiet_ms=1_500)


class DemoOptions(NamedTuple):
    """What was asked for. `seconds` 0 plays until Ctrl-C; `keep` is where to leave the data."""

    seconds: float
    hosts: int
    accounts: int
    rate: float
    keep: Path | None
    seed: int


async def demo(options: DemoOptions, screen: Screen) -> bool:
    """Play until the time is over or Ctrl-C, then wait for what is under way; whether everything came out right.

    The first signal ends the play, or whatever comes before it; the second ends the wait as well. Raises ConfigError
    for a folder that cannot be had, and DemoFailed when there is no relay.
    """
    folder = make_folder(options.keep)
    scorecard = Scorecard()
    try:
        async with trio.open_nursery() as nursery:
            stoppable = [nursery.cancel_scope]
            nursery.start_soon(on_stop_signals, lambda: stoppable[-1].cancel(), nursery.cancel_scope.cancel)  # noqa: PLW0108 -- the last one of that moment
            screen.say(f"simulating {options.hosts} hosts with {options.accounts} accounts ...")
            stage = await open_stage(
                nursery,
                seed=options.seed,
                hosts=options.hosts,
                accounts=options.accounts,
                now_ms=_now_ms(),
                shape=SHAPE,
            )
            hosts = stage.hosts
            urls = [host.url for host in hosts]
            async with ready_relay(
                places(folder), urls, stage.plc.url, lambda: all(host.connections for host in hosts)
            ) as place:
                await _play(options, stage, place, scorecard, screen, stoppable=stoppable)
            nursery.cancel_scope.cancel()
    except* DemoFailed as failed:
        raise failed.exceptions[0] from None
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return scorecard.is_complete and scorecard.events_sent > 0


async def _play(
    options: DemoOptions,
    stage: Stage,
    place: Place,
    scorecard: Scorecard,
    screen: Screen,
    *,
    stoppable: list[trio.CancelScope],
) -> None:
    screen.say(f"the relay runs: try  relay tail {place.stream} --cursor 0")
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(_consume, place, scorecard)
        nursery.start_soon(_show, place, scorecard, screen, started)
        with trio.CancelScope() as playing:
            stoppable.append(playing)
            if options.seconds:
                playing.deadline = started + options.seconds
            _do_wrong(stage, scorecard)
            await play(stage, options.rate, _now_ms, scorecard.sent)
        with trio.move_on_after(ARRIVAL_SECONDS_MAX):
            await scorecard.wait_complete()
        nursery.cancel_scope.cancel()
    screen.finish(await _figures(place, scorecard, started), scorecard)


def _do_wrong(stage: Stage, scorecard: Scorecard) -> None:
    """What must not pass, at once, so that every demonstration shows a refusal: there may be no other for a while."""
    now_ms = _now_ms()
    for account in stage.network.writers[:WRONGED_ACCOUNTS]:
        for emission in wrongs(stage.network.write(account, now_ms)):
            stage.hosts[emission.host].emit(emission.message, now_ms)
            scorecard.sent(emission)


def wrongs(true: Emission) -> list[Emission]:
    """A commit with its last block altered on the way, then as it was signed, then that once more."""
    blocks = true.message.payload["blocks"]
    assert isinstance(blocks, bytes)
    altered = {**true.message.payload, "blocks": blocks[:-1] + bytes([blocks[-1] ^ 1])}
    forgery = true._replace(message=true.message._replace(payload=altered), passes=False)
    return [forgery, true, true._replace(passes=False)]


async def _consume(
    place: Place, scorecard: Scorecard, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Read everything from the beginning; a connection that ends is opened again at the last seq."""
    opener = Dialer(allow_private=True, allow_insecure=True)
    started: Callable[[], None] | None = task_status.started
    while True:
        url = f"{place.stream}{STREAM_PATH}?cursor={scorecard.last_seq}"
        try:
            async with open_subscription(opener, url, user_agent="relay-demo", handshake_seconds=10) as subscription:
                if started is not None:
                    started()
                    started = None
                while True:
                    for message in await subscription.receive():
                        scorecard.received(message)
        except NetError:
            await trio.sleep(RETRY_SECONDS)


async def _show(place: Place, scorecard: Scorecard, screen: Screen, started: float) -> None:
    while True:
        screen.show(await _figures(place, scorecard, started))
        await trio.sleep(1)


async def _figures(place: Place, scorecard: Scorecard, started: float) -> Figures:
    client = HttpClient(Dialer(allow_private=True, allow_insecure=True), "relay-demo")
    try:
        url = f"http://127.0.0.1:{place.metrics}/metrics"
        response = await client.get(url, timeout_seconds=5.0, body_bytes_max=SCRAPE_BYTES_MAX)
        text = response.body.decode()
    except NetError:
        text = ""
    finally:
        await client.aclose()
    return Figures.of(text, scorecard, trio.current_time() - started)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
