"""`relay run` with two workers of each role beside a network of real software, and questions to it from outside."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import trio

from relay.app.assignment import control_path
from relay.net.control import ask
from relay.net.dial import Dialer
from relay.net.http import HttpClient
from relay.store.settings import LogSettings
from relay.store.store import Store
from tests.realpds.lab import (
    CONTROL_PORT_ABOVE,
    INGEST_WORKERS,
    Network,
    Pds,
    clean_environ,
    eventually,
    get_json,
)
from tests.support.until import until

# In the working folder of the test.
DATA_DIR, CONFIG, LOG = Path("data"), Path("relay.toml"), Path("relay.log")
STATE_MAP_BYTES = 1 << 30
READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30.0


class Books(NamedTuple):
    """What the workers that live now have counted."""

    received: int
    appended: int
    dropped: Counter[str]


class RunningRelay(NamedTuple):
    """A relay, its process and the places where it listens."""

    process: trio.Process
    api: int
    metrics: int

    @property
    def stream(self) -> str:
        """For consumers."""
        return f"ws://127.0.0.1:{self.api}"

    async def get(self, path: str) -> Any:
        """The JSON of an answer, whatever its status."""
        return await get_json(f"http://127.0.0.1:{self.api}{path}")

    async def settled_seq(self, host: Pds) -> int:
        """The seq of a host up to which everything is appended or dropped, -1 before the first."""
        status = await self.get(f"/xrpc/com.atproto.sync.getHostStatus?hostname={host.hostname}")
        return int(status.get("seq", -1))

    async def tip(self) -> int:
        """The newest seq."""
        return int((await self.get("/window"))["tipSeq"])

    async def worker(self, role: str, index: int) -> dict[str, Any]:
        """What the supervisor says of a worker."""
        answer = await ask(control_path(DATA_DIR, "supervisor"), "GET", "/workers", timeout_seconds=10)
        return next(item for item in json.loads(answer) if (item["role"], item["worker"]) == (role, index))

    async def kill_worker(self, role: str, index: int) -> None:
        """SIGKILL; returns when the supervisor has put another process in its place."""
        before = await self.worker(role, index)
        os.kill(before["pid"], signal.SIGKILL)

        async def replaced() -> bool:
            now = await self.worker(role, index)
            return bool(now["up"]) and now["pid"] != before["pid"]

        await eventually(replaced, f"{role} {index} is replaced", READY_SECONDS_MAX)

    async def books(self) -> Books:
        """From the metrics of all workers."""
        client = HttpClient(Dialer(allow_private=True, allow_insecure=True), "test")
        url = f"http://127.0.0.1:{self.metrics}/metrics"
        text = (await client.get(url, timeout_seconds=20, body_bytes_max=4 << 20)).body.decode()
        dropped = _by_label(text, "relay_ingest_events_dropped_total", "reason")
        received = _by_label(text, "relay_ingest_frames_received_total", "event")
        appended = _by_label(text, "relay_log_events_appended_total", "event", only='origin="host"')
        return Books(received.total(), appended.total(), dropped)


def _by_label(text: str, name: str, label: str, only: str = "") -> Counter[str]:
    found: Counter[str] = Counter()
    for labels, value in re.findall(rf"^{name}{{(.*)}} (\S+)$", text, re.MULTILINE):
        if only in labels:
            found[re.findall(rf'{label}="([^"]*)"', labels)[0]] += int(float(value))
    return +found


@asynccontextmanager
async def running_relay(network: Network, *, seeds: Sequence[Pds] = ()) -> AsyncIterator[RunningRelay]:
    """Run a relay for the network in the working folder; at the end of the block it has to drain and exit with 0."""
    api, metrics = network.relay_port, network.relay_port + CONTROL_PORT_ABOVE
    _write_config(api, metrics, network.plc, [host.url for host in seeds])
    with _log_file() as output:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "relay", "run", "--config", str(CONFIG)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=clean_environ(),
        )
    try:
        await until(lambda: '"relay_ready"' in logged() or process.poll() is not None, READY_SECONDS_MAX)
        assert process.poll() is None, logged()
        yield RunningRelay(process, api, metrics)
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(STOP_SECONDS_MAX):
            assert await process.wait() == 0, logged()[-3000:]
    finally:
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def logged() -> str:
    """What the relay said so far."""
    return LOG.read_text(encoding="utf-8")


def _log_file() -> BinaryIO:
    return LOG.open("wb")


def _write_config(api: int, metrics: int, plc: str, seeds: Sequence[str]) -> None:
    CONFIG.write_text(_config(api, metrics, plc, seeds), encoding="utf-8")


def _config(api: int, metrics: int, plc: str, seeds: Sequence[str]) -> str:
    return f"""\
data_dir = "{DATA_DIR}"

[listen]
api = "127.0.0.1:{api}"
metrics = "127.0.0.1:{metrics}"

[workers]
ingest = {INGEST_WORKERS}
serve = 2

[identity]
plc_url = "{plc}"

[hosts]
seeds = {json.dumps(list(seeds))}
allow_private = true
allow_insecure = true
trusted = ["localhost:*"]

[log]
state_map_bytes = {STATE_MAP_BYTES}

[logging]
format = "json"
"""


class AtRest(NamedTuple):
    """What a stopped relay has on disk: drops by reason for each host, and what an audit of the store found."""

    dropped: dict[str, dict[str, int]]
    frames: int
    findings: tuple[str, ...]


def at_rest() -> AtRest:
    """Look at the data of the relay that ran in the working folder."""
    store = Store.open(DATA_DIR, LogSettings(state_map_bytes=STATE_MAP_BYTES))
    try:
        audit = store.audit()
        with store.view() as view:
            dropped = {row.hostname: row.dropped for row in view.hosts(0, 100)}
    finally:
        store.close()
    return AtRest(dropped, audit.frames, audit.findings)
