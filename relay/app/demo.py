"""`relay demo`: the whole relay, as processes, against a small network that it simulates on loopback.

Owns the play: a temporary data folder, a configuration for it, the simulated hosts and directory in this process,
`relay run` as a child, and a consumer that checks what comes out against what was sent. Succeeds only if every event
that a relay must pass arrived, in order for each account, without a gap in seq, and nothing else did.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import trio

from relay.app.demoscreen import Figures, Screen
from relay.app.lifecycle import on_stop_signals
from relay.app.scorecard import Scorecard
from relay.net.dial import Dialer
from relay.net.errors import NetError
from relay.net.http import HttpClient
from relay.net.subscription_socket import open_subscription
from relay.world.network import Shape
from relay.world.stage import Stage, open_stage, play

API_PORT_WANTED = 2470
START_SECONDS_MAX = 30.0
ARRIVAL_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 30.0
RETRY_SECONDS = 0.1
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


class Place(NamedTuple):
    """Where the relay under demonstration lives."""

    folder: Path
    api: int
    metrics: int

    @property
    def stream(self) -> str:
        """For a consumer, `relay tail` for instance."""
        return f"ws://127.0.0.1:{self.api}"

    @property
    def log(self) -> Path:
        """What the relay says."""
        return self.folder / "relay.log"


async def demo(options: DemoOptions, screen: Screen) -> bool:
    """Play until the time is over or Ctrl-C, then wait for what is under way; whether everything came out right.

    The first signal ends the play, or whatever comes before it; the second ends the wait as well.
    """
    folder = options.keep or Path(tempfile.mkdtemp(prefix="atproto-relay-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder, free_port(API_PORT_WANTED), free_port(0))
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
            async with running_relay(place, [host.url for host in stage.hosts], stage.plc.url):
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
    await _wait_ready(place, stage)
    screen.say(f"the relay runs: try  relay tail {place.stream} --cursor 0")
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(_consume, place, scorecard)
        nursery.start_soon(_show, place, scorecard, screen, started)
        with trio.CancelScope() as playing:
            stoppable.append(playing)
            if options.seconds:
                playing.deadline = started + options.seconds
            await play(stage, options.rate, _now_ms, scorecard.sent)
        with trio.move_on_after(ARRIVAL_SECONDS_MAX):
            await scorecard.wait_complete()
        nursery.cancel_scope.cancel()
    screen.finish(await _figures(place, scorecard, started), scorecard)


@asynccontextmanager
async def running_relay(place: Place, hosts: Sequence[str], plc_url: str) -> AsyncIterator[None]:
    """`relay run` as a child process, stopped with SIGTERM at the end of the block, or by the kernel if we are killed.

    Started from this thread, because the kernel watches the thread that starts a process, and trio's own way of
    starting one uses another.
    """
    config = place.folder / "relay.toml"
    config.write_text(config_of(place, hosts, plc_url), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    command = [sys.executable, "-m", "relay", "run", "--end-with-parent", "--config", str(config)]
    with place.log.open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220, S603 -- see above; it returns at once, and the command is ours
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, process_group=0
        )
    try:
        yield
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_SECONDS_MAX):
            process.send_signal(signal.SIGTERM)
            while process.poll() is None:  # noqa: ASYNC110 -- another process
                await trio.sleep(RETRY_SECONDS)
        if process.poll() is None:
            process.kill()


def config_of(place: Place, hosts: Sequence[str], plc_url: str) -> str:
    """The configuration of a relay for the simulated network; a file to look at, with `--keep`."""
    seeds = ", ".join(f'"{url}"' for url in hosts)
    return f"""\
data_dir = "{place.folder / "data"}"

[listen]
api = "127.0.0.1:{place.api}"
metrics = "127.0.0.1:{place.metrics}"

[workers]
ingest = 1
serve = 1

[identity]
plc_url = "{plc_url}"

[hosts]
seeds = [{seeds}]
discover_from = []
allow_private = true
allow_insecure = true
trusted = ["localhost:*", "127.0.0.1:*"]
"""


def free_port(wanted: int) -> int:
    """`wanted` if it can be listened on, else a port the system chooses."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port to listen on")


async def _wait_ready(place: Place, stage: Stage) -> None:
    """Until the API answers and every host is subscribed to. Raises `DemoFailed` with the end of the relay's log."""
    client = HttpClient(Dialer(allow_private=True, allow_insecure=True), "relay-demo")
    try:
        with trio.fail_after(START_SECONDS_MAX):
            while not await _answers(client, place) or not all(host.connections for host in stage.hosts):  # noqa: ASYNC110 -- another process
                await trio.sleep(RETRY_SECONDS)
    except trio.TooSlowError:
        text = place.log.read_text(encoding="utf-8", errors="replace")
        raise DemoFailed(
            f"the relay did not start within {START_SECONDS_MAX:.0f} s; it said:\n{text[-3000:]}"
        ) from None
    finally:
        await client.aclose()


async def _answers(client: HttpClient, place: Place) -> bool:
    try:
        url = f"http://127.0.0.1:{place.api}/_health"
        return (await client.get(url, timeout_seconds=2.0, body_bytes_max=65_536)).status == 200
    except NetError:
        return False


async def _consume(
    place: Place, scorecard: Scorecard, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Read everything from the beginning; a connection that ends is opened again at the last seq."""
    opener = Dialer(allow_private=True, allow_insecure=True)
    started: Callable[[], None] | None = task_status.started
    while True:
        url = f"{place.stream}/xrpc/com.atproto.sync.subscribeRepos?cursor={scorecard.last_seq}"
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


class DemoFailed(Exception):  # noqa: N818 -- what the command prints, not an error of a caller
    """The demonstration could not even begin."""
