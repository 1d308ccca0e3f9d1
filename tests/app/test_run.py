"""`relay run` as an operator meets it: real processes of all roles, signals, exit codes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, chdir
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import trio

from relay.app.assignment import control_path, write_reason
from relay.app.config import load
from relay.app.lock import take_lock, write_holders
from relay.app.run import bound, clear_run_folder, crew_of, prepare_store
from relay.app.settings import RelaySettings
from relay.crawl.settings import HostSettings
from relay.net.control import ask
from relay.net.dial import Dialer
from relay.net.http import HttpClient, HttpResponse
from relay.serve.settings import ServeRoleSettings
from relay.store.settings import LogSettings
from relay.store.store import Store

COMMAND = (sys.executable, "-m", "relay", "run")
PRIVATE = {
    "RELAY_LISTEN_API": "127.0.0.1:0",
    "RELAY_LISTEN_METRICS": "127.0.0.1:0",
    "RELAY_HOSTS_ALLOW_PRIVATE": "true",
    "RELAY_HOSTS_ALLOW_INSECURE": "true",
    "RELAY_LOG_SYNC": "false",
    "RELAY_LOG_STATE_MAP_BYTES": "256MiB",
    "RELAY_LOGGING_FORMAT": "json",
    "RELAY_START_WAIT_SECONDS": "0",
}


class Relay(NamedTuple):
    """A running `relay run`, and the lines it logged so far."""

    process: trio.Process
    lines: list[dict[str, Any]]

    async def logged(self, event: str) -> dict[str, Any]:
        """The first line of that event; more are read until it comes."""
        with trio.fail_after(60):
            while True:
                for line in self.lines:
                    if line["event"] == event:
                        return line
                await trio.sleep(0.01)

    async def get(self, key: str, path: str) -> HttpResponse:
        address = (await self.logged("relay_starting"))[key]
        client = HttpClient(Dialer(allow_private=True, allow_insecure=True), "test")
        return await client.get(f"http://{address}{path}", timeout_seconds=10, body_bytes_max=1 << 20)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The working folder of the relay; its data_dir is `./data`, short enough for Unix sockets."""
    with chdir(tmp_path):
        yield tmp_path


@asynccontextmanager
async def running(*, stdin: int = subprocess.DEVNULL, **environ: str) -> AsyncIterator[Relay]:
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            COMMAND, stdin=stdin, stderr=subprocess.PIPE, env=clean_environ(environ)
        )
        relay = Relay(process, [])
        nursery.start_soon(collect, process, relay.lines)
        try:
            yield relay
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            nursery.cancel_scope.cancel()


async def collect(process: trio.Process, lines: list[dict[str, Any]]) -> None:
    assert process.stderr is not None
    pending = b""
    async for data in process.stderr:
        *complete, pending = (pending + data).split(b"\n")
        lines.extend(json.loads(line) for line in complete)


def clean_environ(environ: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    return {**inherited, **PRIVATE, **environ}


async def test_a_relay_starts_answers_and_drains_on_sigterm(folder: Path) -> None:
    async with running() as relay:
        await relay.logged("relay_ready")
        assert (await relay.get("api", "/_health")).status == 200
        metrics = (await relay.get("metrics", "/metrics")).body.decode()
        workers = json.loads(await ask(control_path(Path("data"), "supervisor"), "GET", "/workers", timeout_seconds=10))

        relay.process.send_signal(signal.SIGTERM)
        with trio.fail_after(25):
            code = await relay.process.wait()

    assert code == 0
    assert relay.lines[-1]["event"] == "relay_stopped"
    starting = await relay.logged("relay_starting")
    assert (starting["config"], starting["data_dir"]) == ("none", str(folder / "data"))
    assert names_in(folder / "data" / "run") == ["session.key"]
    roles = {"housekeeping", "ingest", "serve"}
    assert {worker["role"] for worker in workers if worker["up"]} == roles
    for role in roles:
        assert f'relay_worker_up{{role="{role}",worker="0"}} 1.0' in metrics
        assert f'process_cpu_seconds_total{{role="{role}",worker="0"}}' in metrics


async def test_a_second_relay_on_the_same_data_dir_names_the_first_and_exits_2(folder: Path) -> None:
    async with running() as relay:
        await relay.logged("relay_ready")

        second = await trio.run_process(COMMAND, capture_stderr=True, check=False, env=clean_environ({}))

    assert second.returncode == 2
    assert f"data_dir: data is in use by pid {relay.process.pid} (supervisor)" in second.stderr.decode()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_while_another_relay_is_waited_for_is_like_any_other(folder: Path, stop: signal.Signals) -> None:
    """It says that it waits and for whom, then that it stops; the exit code is that of a relay that ran.

    SIGHUP, which is for workers, is nothing to it until there are some.
    """
    held = await take_lock(Path("data"), 0)
    write_holders(held, {"supervisor": os.getpid()})
    try:
        async with running(RELAY_START_WAIT_SECONDS="60") as relay:
            waiting = await relay.logged("data_dir_in_use")
            relay.process.send_signal(signal.SIGHUP)
            relay.process.send_signal(stop)
            with trio.fail_after(10):
                assert await relay.process.wait() == 0
            await relay.logged("relay_stopped")
    finally:
        os.close(held)

    assert waiting["by"] == f"pid {os.getpid()} (supervisor)"
    assert [line["event"] for line in relay.lines] == ["data_dir_in_use", "relay_draining", "relay_stopped"]
    assert names_in(folder / "data") == ["lock"]


async def test_on_a_terminal_a_hangup_is_a_stop(folder: Path) -> None:
    """A terminal that is closed sends it, and nobody wants workers restarted then."""
    terminal, end = os.openpty()
    try:
        async with running(stdin=end) as relay:
            await relay.logged("relay_ready")
            relay.process.send_signal(signal.SIGHUP)
            with trio.fail_after(25):
                assert await relay.process.wait() == 0
            await relay.logged("relay_stopped")
    finally:
        os.close(terminal)
        os.close(end)


async def test_an_address_in_use_is_told_in_a_line_and_exits_2(folder: Path) -> None:
    async with running() as relay:
        taken = (await relay.logged("relay_starting"))["api"]
        environ = clean_environ({"RELAY_LISTEN_API": taken, "RELAY_DATA_DIR": "other"})

        second = await trio.run_process(COMMAND, capture_stderr=True, check=False, env=environ)

    assert second.returncode == 2
    assert f"relay: listen.api: cannot listen on {taken}: Address already in use\n" in second.stderr.decode()


async def test_a_folder_that_holds_something_else_is_told_in_a_line_and_left_alone(folder: Path) -> None:
    (folder / "data" / "state").mkdir(parents=True)
    (folder / "data" / "state" / "data.mdb").write_bytes(b"not ours")

    run = await trio.run_process(COMMAND, capture_stderr=True, check=False, env=clean_environ({}))

    assert run.returncode == 2
    assert run.stderr.startswith(b"relay: data_dir: data/state is not a relay's: ")
    assert (folder / "data" / "state" / "data.mdb").read_bytes() == b"not ours"


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_a_path_too_long_for_sockets_is_told_before_anything_is_made(folder: Path) -> None:
    environ = clean_environ({"RELAY_DATA_DIR": "x" * 90})

    run = await trio.run_process(COMMAND, capture_stderr=True, check=False, env=environ)

    assert run.returncode == 2
    assert b"too long a path for sockets" in run.stderr
    assert names_in(folder) == []


async def test_the_configuration_file_is_named_in_the_log(folder: Path) -> None:
    (folder / "config").mkdir()
    (folder / "config" / "relay.toml").write_text('contact = "us@example.org"')

    async with running() as relay:
        assert (await relay.logged("relay_starting"))["config"] == str(folder / "config" / "relay.toml")


def test_what_a_worker_said_as_it_died_stays_when_the_rest_of_a_stop_is_cleared_away(tmp_path: Path) -> None:
    for name in ("supervisor.sock", "serve-0.sock"):
        (tmp_path / name).touch()
    write_reason(tmp_path / "serve-0.died", "")
    write_reason(tmp_path / "ingest-0.died", "no space left")

    clear_run_folder(tmp_path)
    clear_run_folder(tmp_path / "missing")

    assert names_in(tmp_path) == ["ingest-0.died"]


def test_a_seed_below_a_banned_domain_is_not_added(tmp_path: Path) -> None:
    """The operator banned it since; the others are."""
    hosts = HostSettings(seeds=("a.banned.org", "b.allowed.org"))
    settings = RelaySettings(data_dir=tmp_path, hosts=hosts, log=LogSettings(sync=False, state_map_bytes=1 << 26))
    prepare_store(replace(settings, hosts=HostSettings()))
    store = Store.open(tmp_path, settings.log)
    store.ban_domain("banned.org", now_ms=1)
    store.close()

    prepare_store(settings)

    store = Store.open(tmp_path, settings.log)
    with store.view() as view:
        assert [row.hostname for row in view.hosts(0, 10)] == ["b.allowed.org"]
    store.close()


def test_each_serve_worker_is_handed_its_own_sockets_api_first() -> None:
    environ = {**PRIVATE, "RELAY_LISTEN_ADMIN": "127.0.0.1:0", "RELAY_WORKERS_SERVE": "2", "RELAY_WORKERS_INGEST": "3"}
    settings = load(Path(os.devnull), environ, cores=1)
    with bound(settings) as sockets:
        crew = crew_of(settings, sockets)

        assert [(spec.role, spec.index, spec.count) for spec in crew] == [
            ("housekeeping", 0, 1),
            ("ingest", 0, 3),
            ("ingest", 1, 3),
            ("ingest", 2, 3),
            ("serve", 0, 2),
            ("serve", 1, 2),
        ]
        assert [spec.sockets for spec in crew[4:]] == list(zip(sockets.api, sockets.admin, strict=True))
        assert all(not spec.sockets for spec in crew[:4])
        assert msgspec.json.decode(crew[4].settings, type=ServeRoleSettings).log == settings.log
