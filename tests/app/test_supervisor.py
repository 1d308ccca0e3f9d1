"""Processes of a relay: started with their task, restarted, killed when silent, drained in order, never left behind."""

import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import trio

from relay.app.assignment import control_path
from relay.app.children import restart_seconds
from relay.app.kinds import Address
from relay.app.listening import bind, bound_address
from relay.app.lock import take_lock
from relay.app.reporting import Reporting
from relay.app.settings import LoggingSettings
from relay.app.supervisor import Supervisor, Surroundings, WorkerSpec, WorkerStatus
from relay.net.control import ask
from relay.net.dial import Dialer
from relay.net.http import HttpClient
from relay.observe.metrics import Metrics
from tests.app.fake_worker import Behaviour
from tests.support.until import until

FAKE = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))


class Running(NamedTuple):
    supervisor: Supervisor
    metrics: Metrics
    drain: trio.Event
    ended: trio.Event
    data_dir: Path

    def status(self, name: str) -> WorkerStatus:
        return next(worker for worker in self.supervisor.workers if f"{worker.role}-{worker.worker}" == name)

    def journal(self) -> list[str]:
        path = self.data_dir / "journal"
        return path.read_text().splitlines() if path.exists() else []

    async def all_up(self) -> None:
        await until(lambda: all(worker.up for worker in self.supervisor.workers))


def spec(role: str, index: int = 0, count: int = 1, behaviour: Behaviour | None = None) -> WorkerSpec:
    return WorkerSpec(role, index, count, msgspec.json.encode(asdict(behaviour or Behaviour())))


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that ended and waits to be reaped by an idle init does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or ") Z " not in status.read_text()


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """Short enough for Unix sockets wherever pytest keeps its folders."""
    with contextlib.chdir(tmp_path):
        Path("data/run").mkdir(parents=True)
        yield Path("data")


@contextlib.asynccontextmanager
async def supervised(
    data_dir: Path, *crew: WorkerSpec, drain_seconds: float = 20, health_seconds: float = 10
) -> AsyncIterator[Running]:
    lock_fd = await take_lock(data_dir, 0)
    logging = LoggingSettings(level="error")
    around = Surroundings(data_dir, lock_fd, drain_seconds, logging, health_seconds, FAKE)
    metrics = Metrics()
    running = Running(Supervisor(crew, around, metrics), metrics, trio.Event(), trio.Event(), data_dir)

    async def run() -> None:
        await running.supervisor.run(running.drain)
        running.ended.set()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            yield running
            nursery.cancel_scope.cancel()
    finally:
        os.close(lock_fd)


async def test_every_worker_of_the_crew_comes_up_and_all_end_when_drained(data_dir: Path) -> None:
    crew = (spec("housekeeping"), spec("ingest", 0, 2), spec("ingest", 1, 2), spec("serve"))
    async with supervised(data_dir, *crew) as running:
        await running.all_up()
        pids = [worker.pid for worker in running.supervisor.workers]

        running.drain.set()
        with trio.fail_after(20):
            await running.ended.wait()

        assert not any(is_alive(pid) for pid in pids if pid)
        assert sum(line.endswith(" drained") for line in running.journal()) == 4


async def test_who_appends_is_drained_before_who_sends(data_dir: Path) -> None:
    """Consumers still get what ingest workers append in their last moment."""
    async with supervised(data_dir, spec("serve"), spec("housekeeping"), spec("ingest")) as running:
        await running.all_up()
        running.drain.set()
        with trio.fail_after(20):
            await running.ended.wait()

        stopping = [line for line in running.journal() if "drain" in line]
        assert stopping == [
            f"{name} {step}" for name in ("ingest-0", "serve-0", "housekeeping-0") for step in ("draining", "drained")
        ]


async def test_a_killed_worker_comes_back_and_is_counted(data_dir: Path) -> None:
    async with supervised(data_dir, spec("ingest"), spec("serve")) as running:
        await running.all_up()
        first = running.status("ingest-0")
        other = running.status("serve-0")
        assert first.pid is not None

        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: running.status("ingest-0").restarts == 1)
        await running.all_up()

        again = running.status("ingest-0")
        assert again.pid != first.pid
        assert again.last_exit == "ended by SIGKILL"
        assert not again.failing
        assert running.status("serve-0") == other
        line = 'relay_worker_restarts_total{outcome="killed",role="ingest",worker="0"} 1.0'
        assert line in running.metrics.render().decode()


async def test_a_worker_that_keeps_dying_is_said_to_with_its_reason(data_dir: Path) -> None:
    async with supervised(data_dir, spec("ingest", behaviour=Behaviour(dies=True)), spec("serve")) as running:
        await until(lambda: running.status("ingest-0").failing)

        status = running.status("ingest-0")
        assert status.restarts == 3
        assert status.last_exit == "exit code 1: ValueError: on purpose"
        assert 'relay_worker_up{role="ingest",worker="0"} 0.0' in running.metrics.render().decode()
        await until(lambda: running.status("serve-0").up)


async def test_a_worker_whose_loop_is_stuck_is_killed_and_started_again(data_dir: Path) -> None:
    async with supervised(data_dir, spec("ingest"), health_seconds=1) as running:
        await running.all_up()
        stuck = running.status("ingest-0").pid
        assert stuck is not None

        os.kill(stuck, signal.SIGSTOP)
        await until(lambda: running.status("ingest-0").restarts == 1)
        await running.all_up()

        assert running.status("ingest-0").last_exit == "no answer for 1 s"
        assert not is_alive(stuck)


async def test_a_worker_that_does_not_drain_is_ended_when_the_time_is_over(data_dir: Path) -> None:
    crew = (spec("ingest", behaviour=Behaviour(stubborn=True)), spec("serve"))
    async with supervised(data_dir, *crew, drain_seconds=1) as running:
        await running.all_up()
        pid = running.status("ingest-0").pid
        assert pid is not None
        running.drain.set()
        with trio.fail_after(20):
            await running.ended.wait()

        assert not is_alive(pid)
        assert "ingest-0 draining" in running.journal()
        assert "serve-0 drained" in running.journal()


async def test_cancelling_leaves_no_process(data_dir: Path) -> None:
    """The second signal: stop at once, whatever workers do."""
    async with supervised(data_dir, spec("ingest", behaviour=Behaviour(stubborn=True)), spec("serve")) as running:
        await running.all_up()
        pids = [worker.pid for worker in running.supervisor.workers]

    assert not any(is_alive(pid) for pid in pids if pid)


async def test_each_serve_worker_accepts_on_the_socket_it_was_handed(data_dir: Path) -> None:
    (socket,) = bind("listen.api", Address("127.0.0.1", 0), 1)
    address = bound_address(socket)
    crew = WorkerSpec("serve", 0, 1, b"{}", (socket,))
    client = HttpClient(Dialer(allow_private=True, allow_insecure=True), "test")
    async with supervised(data_dir, crew) as running:
        await running.all_up()
        response = await client.get(f"http://{address}/", timeout_seconds=10, body_bytes_max=100)
        assert response.body == b"serve-0 of 1"

        running.drain.set()
        with trio.fail_after(20):
            await running.ended.wait()
    assert socket.fileno() == -1


async def test_one_scrape_over_all_workers_names_each(data_dir: Path) -> None:
    async with supervised(data_dir, spec("ingest", 0, 2), spec("ingest", 1, 2), spec("serve")) as running:
        await running.all_up()
        reporting = Reporting(lambda: running.supervisor.workers, running.metrics, data_dir)

        lines = (await reporting.scrape()).decode().splitlines()

    assert [line for line in lines if line.startswith("relay_ingest_in_flight{")] == [
        'relay_ingest_in_flight{role="ingest",worker="0"} 0.0',
        'relay_ingest_in_flight{role="ingest",worker="1"} 1.0',
        'relay_ingest_in_flight{role="serve",worker="0"} 0.0',
    ]
    assert 'relay_worker_up{role="serve",worker="0"} 1.0' in lines
    assert any(line.startswith('process_cpu_seconds_total{role="supervisor"') for line in lines)
    assert sum(line.startswith("relay_build_info{") for line in lines) == 3


async def test_control_sockets_are_for_this_user_only(data_dir: Path) -> None:
    async with supervised(data_dir, spec("serve")) as running:
        await running.all_up()
        path = control_path(data_dir, "serve-0")

        assert path.stat().st_mode & 0o777 == 0o600
        assert await ask(path, "GET", "/health", timeout_seconds=10) == b"ok"


def read(path: str) -> bytes:
    if not Path("/proc/self").exists():
        pytest.skip("this system has no /proc")
    return Path(path).read_bytes()


async def test_secrets_are_neither_in_arguments_nor_in_the_environment_of_a_worker(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_ADMIN_PASSWORD", "hunter2")
    async with supervised(data_dir, spec("serve")) as running:
        await running.all_up()
        pid = running.status("serve-0").pid
        seen = b"".join(read(f"/proc/{pid}/{part}") for part in ("environ", "cmdline"))

        assert b"fake_worker" in seen
        assert b"hunter2" not in seen


def test_the_wait_before_a_restart_doubles_up_to_a_bound() -> None:
    assert [restart_seconds(failures) for failures in (1, 2, 3, 4)] == [0.25, 0.5, 1.0, 2.0]
    assert restart_seconds(100) == 30.0
