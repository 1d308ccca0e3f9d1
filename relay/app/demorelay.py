"""The relay under demonstration: its folder, its ports, its configuration, and `relay run` as a child of this process.

Owns starting it, finding out that it cannot start, and stopping it. Owns neither what it is fed with nor what is made
of what it says.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import trio

from relay.app.config import ConfigError
from relay.net.dial import Dialer
from relay.net.errors import NetError
from relay.net.http import HttpClient

API_PORT_WANTED = 2470
PORT_TRIES = 5
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 30.0
RETRY_SECONDS = 0.1
_LOG_CHARS_SHOWN = 3_000
_CONFIG, _LOG, _DATA = "relay.toml", "relay.log", "data"
_IN_USE = ": cannot listen on "  # what `relay.app.listening` says of an address that somebody else has


class DemoFailed(Exception):  # noqa: N818 -- what the command prints, not an error of a caller
    """The demonstration could not even begin."""


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
        return self.folder / _LOG


def make_folder(keep: Path | None) -> Path:
    """The folder of a demonstration: `keep`, or a temporary one. Raises ConfigError for one that cannot be had.

    What an earlier one left is never added to: its events were sent by hosts that are gone, and it may still run.
    """
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="atproto-relay-demo-"))
    try:
        keep.mkdir(parents=True, exist_ok=True)
        if any((keep / name).exists() for name in (_CONFIG, _LOG, _DATA)):
            raise ConfigError(f"--keep: {keep} holds the data of a demo already; name another folder")
        (keep / _CONFIG).touch(exist_ok=False)
    except OSError as error:
        raise ConfigError(f"--keep: {keep} cannot be used: {error.strerror}") from error
    return keep


def places(folder: Path) -> Iterator[Place]:
    """Where the relay may be tried, one after the other."""
    for _ in range(PORT_TRIES):
        yield Place(folder, free_port(API_PORT_WANTED), free_port(0))


@asynccontextmanager
async def ready_relay(
    candidates: Iterable[Place], hosts: Sequence[str], plc_url: str, is_followed: Callable[[], bool]
) -> AsyncIterator[Place]:
    """The relay at the first of `candidates` whose ports nobody took meanwhile, once it reads its hosts.

    `is_followed` says whether it does. Raises DemoFailed with the end of the relay's log.
    """
    for place in candidates:
        async with running_relay(place, hosts, plc_url) as process:
            if await _is_ready(place, process, is_followed):
                yield place
                return
    raise DemoFailed("other programs took every port that was tried")


@asynccontextmanager
async def running_relay(place: Place, hosts: Sequence[str], plc_url: str) -> AsyncIterator["subprocess.Popen[bytes]"]:
    """`relay run` as a child process, stopped with SIGTERM at the end of the block, or by the kernel if we are killed.

    Started from this thread, because the kernel watches the thread that starts a process, and trio's own way of
    starting one uses another.
    """
    config = place.folder / _CONFIG
    config.write_text(config_of(place, hosts, plc_url), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    command = [sys.executable, "-m", "relay", "run", "--end-with-parent", "--config", str(config)]
    with place.log.open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220, S603 -- see above; it returns at once, and the command is ours
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, process_group=0
        )
    try:
        yield process
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
data_dir = "{place.folder / _DATA}"

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
    """`wanted` if it can be listened on, else a port the system chooses.

    Judged as the relay does it: connections that ended a moment ago do not keep a port.
    """
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no port to listen on")


async def _is_ready(place: Place, process: "subprocess.Popen[bytes]", is_followed: Callable[[], bool]) -> bool:
    """Wait until the API answers and every host is read; False when somebody took a port. Raises DemoFailed."""
    client = HttpClient(Dialer(allow_private=True, allow_insecure=True), "relay-demo")
    try:
        with trio.fail_after(START_SECONDS_MAX):
            while process.poll() is None:
                if is_followed() and await _answers(client, place):
                    return True
                await trio.sleep(RETRY_SECONDS)
    except trio.TooSlowError:
        raise DemoFailed(f"the relay did not start within {START_SECONDS_MAX:g} s; it said:\n{_said(place)}") from None
    finally:
        await client.aclose()
    said = _said(place)
    if _IN_USE in said:
        return False
    raise DemoFailed(f"the relay ended with exit code {process.returncode}; it said:\n{said}")


async def _answers(client: HttpClient, place: Place) -> bool:
    try:
        url = f"http://127.0.0.1:{place.api}/_health"
        return (await client.get(url, timeout_seconds=2.0, body_bytes_max=65_536)).status == 200
    except NetError:
        return False


def _said(place: Place) -> str:
    return place.log.read_text(encoding="utf-8", errors="replace")[-_LOG_CHARS_SHOWN:].rstrip()
