"""`relay run` as real processes for tests: one data folder, fixed ports, started and killed as often as a test likes.

Owns the child processes and the ports; knows nothing of what the relay is fed with (`tests.support.town`).
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import trio

from tests.support.serving import Reply, request
from tests.support.until import until

RELAY = (sys.executable, "-m", "relay")
START_SECONDS_MAX = 40.0
END_SECONDS_MAX = 10.0
LOOK_EVERY_SECONDS = 0.05
DEVELOPMENT = {
    "RELAY_HOSTS_ALLOW_PRIVATE": "true",
    "RELAY_HOSTS_ALLOW_INSECURE": "true",
    "RELAY_HOSTS_DISCOVER_FROM": "",
    "RELAY_HOSTS_TRUSTED": "localhost:*,127.0.0.1:*",  # no rates and limits of strangers
    "RELAY_LOG_STATE_MAP_BYTES": "256MiB",
    "RELAY_LOGGING_FORMAT": "json",
}

_SAMPLE = re.compile(r"(?P<name>\w+)\{(?P<labels>[^}]*)\} (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Sample(NamedTuple):
    """One line of a scrape."""

    name: str
    labels: dict[str, str]
    value: float


class Scrape:
    """What `/metrics` answered."""

    def __init__(self, text: str) -> None:
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        found = [_SAMPLE.fullmatch(line) for line in lines]
        assert all(found), "every series has labels: role and worker at least"
        self.samples = [
            Sample(match["name"], dict(_LABEL.findall(match["labels"])), float(match["value"]))
            for match in found
            if match is not None
        ]

    def total(self, name: str, **labels: str) -> float:
        """The sum over all series of that name that carry these labels."""
        wanted = labels.items()
        return sum(sample.value for sample in self.samples if sample.name == name and wanted <= sample.labels.items())

    def names(self, role: str) -> set[str]:
        """The names that workers of a role expose."""
        return {sample.name for sample in self.samples if sample.labels["role"] == role}

    def dropped(self) -> Counter[str]:
        """Drops by reason, over all workers."""
        counts: Counter[str] = Counter()
        for sample in self.samples:
            if sample.name == "relay_ingest_events_dropped_total":
                counts[sample.labels["reason"]] += int(sample.value)
        return +counts


class RelayProcess:
    """One relay. Ports stay reserved for its life, so that nothing else can take them between two starts."""

    def __init__(self, folder: Path, *, data_dir: Path | None = None, **environ: str) -> None:
        self.folder = folder
        self.data_dir = data_dir or folder / "data"
        self.log = folder / "relay.log"
        self._reserved: list[socket.socket] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._read_from = 0
        self.api, self.metrics, self.plc = self.reserve(), self.reserve(), self.reserve()
        self._environ = {
            **DEVELOPMENT,
            "RELAY_DATA_DIR": os.path.relpath(self.data_dir, folder),  # short, for sockets below it
            "RELAY_LISTEN_API": f"127.0.0.1:{self.api}",
            "RELAY_LISTEN_METRICS": f"127.0.0.1:{self.metrics}",
            "RELAY_IDENTITY_PLC_URL": f"http://localhost:{self.plc}",
            **environ,
        }

    def reserve(self) -> int:
        """A port of loopback, kept from everybody who does not ask for this very one (with SO_REUSEADDR)."""
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        self._reserved.append(holder)
        return int(holder.getsockname()[1])

    # Its life.

    def start(self) -> None:
        """Start it and wait until all workers answered. Blocks; `restart` is for tests that play meanwhile."""
        self.spawn()
        give_up = time.monotonic() + START_SECONDS_MAX
        while not self.is_ready():
            assert time.monotonic() < give_up, self.told()
            time.sleep(LOOK_EVERY_SECONDS)

    async def restart(self) -> None:
        """Start it again, after it ended."""
        self.spawn()
        await until(self.is_ready, START_SECONDS_MAX)

    def spawn(self) -> None:
        """Start it and return at once."""
        assert self._process is None or self._process.poll() is not None, "it still runs"
        self._read_from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*RELAY, "run"], stdin=subprocess.DEVNULL, stderr=log, cwd=self.folder, env=environ(self._environ)
            )

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The supervisor that was started last."""
        assert self._process is not None
        return self._process

    async def ended(self, seconds: float = 30.0) -> int:
        """The supervisor's exit code, once it ended."""
        await until(lambda: self.process.poll() is not None, seconds)
        return int(self.process.returncode)

    async def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    def end(self) -> None:
        """No process is left afterwards. It can be started again: what the log holds stays, what was in flight goes."""
        pids = self.pids()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for pid in pids.values():
            with contextlib.suppress(ProcessLookupError):
                if _is_worker(pid):
                    os.kill(pid, signal.SIGKILL)
        give_up = time.monotonic() + END_SECONDS_MAX
        while any(map(_is_worker, pids.values())):
            assert time.monotonic() < give_up, "a killed worker does not end"
            time.sleep(LOOK_EVERY_SECONDS)

    def close(self) -> None:
        """No process is left afterwards, and the ports are free."""
        self.end()
        for holder in self._reserved:
            holder.close()

    # What it says about itself.

    def lines(self, event: str = "") -> Iterator[dict[str, Any]]:
        """What was logged since the last start; of `event` alone, if given."""
        for line in self.told().splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # the last one may be half written
                record = json.loads(line)
                if not event or record["event"] == event:
                    yield record

    def told(self) -> str:
        """The log since the last start, as text."""
        return self.log.read_bytes()[self._read_from :].decode(errors="replace")

    def is_ready(self) -> bool:
        """Whether every worker answered since the start; fails the test at once when that will not happen."""
        if any(self.lines("relay_ready")):
            return True
        assert self.process.poll() is None, self.told()
        assert not list(self.lines("worker_keeps_dying")), self.told()
        return False

    def pids(self) -> dict[str, int]:
        """The processes of the relay by name: `supervisor`, `ingest-0` ..."""
        try:
            holders = (self.data_dir / "lock").read_text().splitlines()
        except FileNotFoundError:
            return {}
        found = (line.partition(" ") for line in holders)
        return {name: int(pid) for pid, _, name in found if pid.isdecimal()}  # the end may be of an older, longer text

    def kill(self, name: str) -> int:
        """SIGKILL for one process; its pid."""
        pid = self.pids()[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    async def get(self, target: str) -> Reply:
        """`GET` on the API."""
        return await request(self.api, "GET", target)

    async def query(self, name: str, **parameters: str) -> Reply:
        """An XRPC query of com.atproto.sync."""
        text = "&".join(f"{key}={value}" for key, value in parameters.items())
        return await self.get(f"/xrpc/com.atproto.sync.{name}?{text}")

    async def request_crawl(self, hostname: str) -> Reply:
        """As a PDS asks for it."""
        body = json.dumps({"hostname": hostname}).encode()
        return await request(
            self.api, "POST", "/xrpc/com.atproto.sync.requestCrawl", body, {"Content-Type": "application/json"}
        )

    async def window(self) -> tuple[int, int]:
        """First and last seq of the log; the first is one above the last when it is empty."""
        answer = (await self.get("/window")).json
        return answer["floorSeq"], answer["tipSeq"]

    async def scrape(self) -> Scrape:
        """All metrics."""
        return Scrape((await request(self.metrics, "GET", "/metrics")).body.decode())


def environ(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: ours without any RELAY_ variable, and `settings`."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}, **settings}


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
    """As `until`, for a condition that has to ask somebody."""
    try:
        with trio.fail_after(seconds):
            while not await condition():  # noqa: ASYNC110 -- what is asked is another process
                await trio.sleep(LOOK_EVERY_SECONDS)
    except trio.TooSlowError:
        raise AssertionError(f"not within {seconds} s: {condition}") from None


def _is_worker(pid: int) -> bool:
    """Whether a pid is still that of a worker, on systems that can tell."""
    try:
        return b"relay.app.worker_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return sys.platform != "linux"
