"""A network of real software on loopback: a PLC directory, two PDSes, those who write to them and those who listen.

Owns the processes and their ends: the network is stopped by its pid files, everything else by the process itself. What
is heard is recorded by the scripts' own WebSocket client, so that no fault of ours can hide on both sides of a
comparison.
"""

import json
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import trio

from relay.crawl.roster import owner_of
from relay.net.dial import Dialer
from relay.net.http import HttpClient
from relay.protocol.frame import MessageFrame, parse_frame
from tests.support.until import until

INGEST_WORKERS = 2
START_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 30.0
LOOK_EVERY_SECONDS = 0.2
CONTROL_PORT_ABOVE = 1_000  # where pds.mjs puts a PDS's control port
PORTS = range(20_011, 31_000, 7)  # below the ports that systems give to outgoing connections


class Pds(NamedTuple):
    """One PDS of a network. `worker` is the ingest worker whose it is."""

    hostname: str
    control: str
    worker: int

    @property
    def url(self) -> str:
        """As DID documents and seeds say it."""
        return f"http://{self.hostname}"

    @property
    def stream(self) -> str:
        """Where its events are."""
        return f"ws://{self.hostname}"

    async def seq(self) -> int:
        """The seq of its newest event."""
        return int((await get_json(f"{self.control}/info"))["seq"])


class Ports(NamedTuple):
    """Free ports; with each, the one `CONTROL_PORT_ABOVE` it is free as well."""

    plc: int
    hosts: tuple[int, int]
    relay: int


class Network(NamedTuple):
    """A running network. `file` describes it to the scripts; `relay_port` is where it expects the relay."""

    harness: Path
    file: Path
    plc: str
    hosts: tuple[Pds, ...]
    relay_port: int


@asynccontextmanager
async def network(harness: Path, folder: Path, *, announcing: bool = False) -> AsyncIterator[Network]:
    """A directory and two PDSes, one with K-256 and one with P-256 keys; `announcing` ones ask the relay to crawl."""
    ports = free_ports()
    run = folder / "network"
    specs = ",".join(f"{port}:{keys}" for port, keys in zip(ports.hosts, ("k256", "p256"), strict=True))
    command = ["./start_network.sh", "--run", str(run), "--plc", str(ports.plc), "--pds", specs]
    if announcing:
        command += ["--crawlers", f"http://localhost:{ports.relay}", "--crawl-with-port"]
    try:
        with trio.fail_after(START_SECONDS_MAX):
            await trio.run_process(command, cwd=harness, capture_stdout=True)
        hosts = tuple(
            Pds(name, f"http://localhost:{port + CONTROL_PORT_ABOVE}", owner_of(name, INGEST_WORKERS))
            for port in ports.hosts
            for name in (f"localhost:{port}",)
        )
        yield Network(harness, run / "network.json", f"http://localhost:{ports.plc}", hosts, ports.relay)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_SECONDS_MAX):
            await trio.run_process(["./stop_network.sh", "--run", str(run)], cwd=harness, capture_stdout=True)


def free_ports() -> Ports:
    """Ports for a network; the names of its PDSes fall to different ingest workers."""
    free = (port for port in PORTS if _is_free(port) and _is_free(port + CONTROL_PORT_ABOVE))
    plc, relay, first = next(free), next(free), next(free)
    owner = owner_of(f"localhost:{first}", INGEST_WORKERS)
    second = next(port for port in free if owner_of(f"localhost:{port}", INGEST_WORKERS) != owner)
    return Ports(plc, (first, second), relay)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def run_script(network: Network, script: str, *arguments: str, seconds_max: float) -> str:
    """Run a script to its end and return what it printed; a failure of it fails the test."""
    command = ["./lab", script, *arguments]
    with trio.fail_after(seconds_max):
        done = await trio.run_process(
            command, cwd=network.harness, capture_stdout=True, stderr=subprocess.STDOUT, check=False
        )
    assert done.returncode == 0, f"{script} ended with {done.returncode}:\n{done.stdout.decode()[-3000:]}"
    return done.stdout.decode()


class Listener(NamedTuple):
    """A script that reads a stream until it is told to stop, and what it printed."""

    process: trio.Process
    printed: Path

    async def stop(self) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        with trio.fail_after(STOP_SECONDS_MAX):
            return await self.process.wait()


@asynccontextmanager
async def listener(network: Network, printed: Path, script: str, *arguments: str) -> AsyncIterator[Listener]:
    """Start a script that listens; it is killed at the end of the block, if it has not ended before."""
    with printed.open("wb") as output:
        process = await trio.lowlevel.open_process(
            ["./lab", script, *arguments], cwd=network.harness, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield Listener(process, printed)
    finally:
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


class Recording:
    """A stream from cursor 0 on, as it is being recorded. `frames` are those of the last look."""

    def __init__(self, path: Path, heard: Listener) -> None:
        self.frames: list[MessageFrame] = []
        self._path = path
        self._heard = heard
        self._pending = b""
        self._offset = 0

    @property
    def last_seq(self) -> int:
        """Of the newest frame, 0 before the first."""
        self.look()
        return int(self.frames[-1].payload["seq"]) if self.frames else 0

    async def reach(self, seq: int, seconds_max: float) -> None:
        """Until that seq is the newest."""
        await until(lambda: self.last_seq == seq, seconds_max)

    async def hold(self, count: int, seconds_max: float) -> None:
        """Until there are so many frames."""
        await until(lambda: len(self.look()) >= count, seconds_max)

    def look(self) -> list[MessageFrame]:
        """All frames so far. A stream that ended, or holds anything but events, fails the test."""
        assert self._heard.process.poll() is None, f"the stream ended: {self._heard.printed.read_text()}"
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = self._pending + (new := file.read())
        self._offset += len(new)
        start = 0
        while len(data) >= start + 4:
            end = start + 4 + int.from_bytes(data[start : start + 4], "big")
            if end > len(data):
                break
            frame = parse_frame(data[start + 4 : end])
            assert isinstance(frame, MessageFrame), frame
            assert "seq" in frame.payload, frame
            self.frames.append(frame)
            start = end
        self._pending = data[start:]
        return self.frames


@asynccontextmanager
async def recording(network: Network, url: str, stem: Path) -> AsyncIterator[Recording]:
    """Record a stream from cursor 0; the connection is open when the block begins."""
    frames, printed = stem.with_suffix(".frames"), stem.with_suffix(".log")
    arguments = ("--url", url, "--out", str(frames), "--cursor", "0")
    async with listener(network, printed, "record.mjs", *arguments) as heard:
        await until(lambda: '"open":true' in printed.read_text() and frames.is_file(), START_SECONDS_MAX)
        yield Recording(frames, heard)


async def get_json(url: str) -> Any:
    """The JSON at a URL on loopback; an answer other than 200 is returned as it is, for it is JSON as well."""
    client = HttpClient(Dialer(allow_private=True, allow_insecure=True), "test")
    response = await client.get(url, timeout_seconds=20, body_bytes_max=1 << 20)
    return json.loads(response.body)


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, seconds_max: float) -> None:
    """Return once `condition` holds, which takes asking somebody; fails the test when it does not in time."""
    try:
        with trio.fail_after(seconds_max):
            while not await condition():  # noqa: ASYNC110 -- what is waited for is in another process
                await trio.sleep(LOOK_EVERY_SECONDS)
    except trio.TooSlowError:
        raise AssertionError(f"not within {seconds_max} s: {what}") from None


def clean_environ() -> dict[str, str]:
    """Ours without what would configure a relay."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
