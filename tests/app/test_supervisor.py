"""Processes of a relay: started with their task, restarted, killed when silent, drained in order, never left behind."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
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
from relay.app.slot import START_SECONDS, WorkerContext, WorkerSpec, WorkerStatus
from relay.app.supervisor import Supervisor
from relay.net.control import ask
from relay.net.dial import Dialer
from relay.net.errors import NetError
from relay.net.http import HttpClient
from relay.observe.metrics import Metrics
from tests.app.fake_worker import Behaviour
from tests.support.logged import logged
from tests.support.until import until

FAKE = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))


class Running(NamedTuple):
    supervisor: Supervisor
    metrics: Metrics
    drain: trio.Event
    ended: trio.Event
    data_dir: Path
    renew: trio.MemorySendChannel[None]

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


@contextlib.asynccontextmanager
async def supervised(
    data_dir: Path,
    *crew: WorkerSpec,
    drain_seconds: float = 20,
    health_seconds: float = 10,
    start_seconds: float = START_SECONDS,
) -> AsyncIterator[Running]:
    lock_fd = await take_lock(data_dir, 0)
    logging = LoggingSettings(level="error")
    context = WorkerContext(data_dir, lock_fd, drain_seconds, logging, health_seconds, FAKE)
    metrics = Metrics()
    renew, renewals = trio.open_memory_channel[None](1)
    running = Running(
        Supervisor(crew, context, metrics, start_seconds=start_seconds),
        metrics,
        trio.Event(),
        trio.Event(),
        data_dir,
        renew,
    )

    async def run() -> None:
        await running.supervisor.run(running.drain, renewals)
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


async def test_a_worker_that_comes_back_is_said_to_once_and_not_at_the_first_start(data_dir: Path) -> None:
    with logged() as lines:
        async with supervised(data_dir, spec("ingest"), spec("serve")) as running:
            await running.all_up()
            os.kill(running.status("ingest-0").pid or 0, signal.SIGKILL)
            await until(lambda: running.status("ingest-0").restarts == 1)
            await running.all_up()
            pid = running.status("ingest-0").pid
            await until(lambda: '"event":"worker_ready"' in lines.getvalue())

    events = [json.loads(line) for line in lines.getvalue().splitlines()]
    told = [line["event"] for line in events if line["event"].startswith("worker_")]
    assert told == ["worker_died", "worker_ready"]
    assert [(line["name"], line["pid"]) for line in events if line["event"] == "worker_ready"] == [("ingest-0", pid)]


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


async def test_a_role_that_does_not_end_is_cancelled_before_its_worker_would_be_killed(data_dir: Path) -> None:
    """Each worker is told its own part of the time, and the supervisor waits a little longer than that."""
    crew = (spec("ingest", behaviour=Behaviour(stubborn=True)), spec("serve", behaviour=Behaviour(stubborn=True)))
    with logged() as lines:
        async with supervised(data_dir, *crew, drain_seconds=4) as running:
            await running.all_up()
            running.drain.set()
            with trio.fail_after(20):
                await running.ended.wait()

    assert running.journal()[2:] == ["ingest-0 draining", "serve-0 draining"]
    assert "drain_incomplete" not in lines.getvalue()


async def test_a_worker_that_was_asked_to_end_has_not_failed_and_is_never_there_twice(data_dir: Path) -> None:
    async with supervised(data_dir, spec("ingest")) as running:
        for turn in (1, 2, 3):
            await running.all_up()
            os.kill(running.status("ingest-0").pid or 0, signal.SIGTERM)
            await until(lambda: running.status("ingest-0").restarts == turn)  # noqa: B023 -- awaited at once
            assert not running.status("ingest-0").failing
        await running.all_up()

        assert running.status("ingest-0").last_exit == "it was asked to end"
        assert running.journal() == [
            "ingest-0 started",
            *3 * ["ingest-0 draining", "ingest-0 drained", "ingest-0 started"],
        ]
        line = 'relay_worker_restarts_total{outcome="drained",role="ingest",worker="0"} 3.0'
        assert line in running.metrics.render().decode()


async def test_a_renewal_goes_from_worker_to_worker_and_only_serve_workers_overlap(data_dir: Path) -> None:
    crew = (spec("housekeeping"), spec("serve", 0, 2), spec("serve", 1, 2), spec("ingest"))
    async with supervised(data_dir, *crew) as running:
        await running.all_up()
        before = {worker.pid for worker in running.supervisor.workers}
        journal = len(running.journal())
        running.renew.send_nowait(None)
        await until(lambda: sum(worker.restarts for worker in running.supervisor.workers) == 4)
        await running.all_up()

        assert running.journal()[journal:] == [
            *(f"ingest-0 {step}" for step in ("draining", "drained", "started")),
            *(f"serve-{index} {step}" for index in (0, 1) for step in ("started", "draining", "drained")),
            *(f"housekeeping-0 {step}" for step in ("draining", "drained", "started")),
        ]
        assert before.isdisjoint({worker.pid for worker in running.supervisor.workers})


async def test_a_serve_worker_goes_on_until_the_next_one_answers(data_dir: Path) -> None:
    """What was to take over never starts, and dies; the one after that takes over."""
    (socket,) = bind("listen.api", Address("127.0.0.1", 0), 1)
    address = bound_address(socket)
    crew = WorkerSpec("serve", 0, 1, msgspec.json.encode(asdict(Behaviour(mute_if="mute"))), (socket,))
    async with supervised(data_dir, crew) as running:
        await running.all_up()
        old = running.status("serve-0").pid
        (data_dir / "mute").touch()
        running.renew.send_nowait(None)
        await until(lambda: running.status("serve-0").pid not in (old, None))
        assert old
        for _ in range(10):
            assert await greeting(address) == b"serve-0 of 1"

        (data_dir / "mute").unlink()
        os.kill(running.status("serve-0").pid or 0, signal.SIGKILL)
        await until(lambda: not is_alive(old))
        await running.all_up()
        assert await greeting(address) == b"serve-0 of 1"

        running.drain.set()
        with trio.fail_after(20):
            await running.ended.wait()


async def test_a_renewal_ends_with_a_worker_that_does_not_come_back(data_dir: Path) -> None:
    """What would stop one worker would stop all of them."""
    crew = (spec("serve", 0, 2, Behaviour(mute_if="mute")), spec("serve", 1, 2))
    with logged() as lines:
        async with supervised(data_dir, *crew, drain_seconds=2, start_seconds=0) as running:
            await running.all_up()
            other = running.status("serve-1")
            (data_dir / "mute").touch()
            running.renew.send_nowait(None)
            await until(lambda: '"event":"restart_stopped"' in lines.getvalue())

            assert running.status("serve-1") == other


async def test_a_worker_that_keeps_dying_keeps_no_connections_from_the_others(data_dir: Path) -> None:
    """Asked while it waits for its fifth start; of 20 connections the kernel would give it half."""
    first, second = bind("listen.api", Address("127.0.0.1", 0), 2)
    address = bound_address(first)
    crew = (
        WorkerSpec("serve", 0, 2, msgspec.json.encode(asdict(Behaviour(dies=True))), (first,)),
        WorkerSpec("serve", 1, 2, b"{}", (second,)),
    )
    async with supervised(data_dir, *crew) as running:
        await until(lambda: running.status("serve-0").restarts == 4 and running.status("serve-1").up)
        answers = [await greeting(address) for _ in range(20)]

    assert answers == 20 * [b"serve-1 of 2"]


async def greeting(address: Address) -> bytes:
    """What a fake worker says; fails when nobody answers in two seconds."""
    client = HttpClient(Dialer(allow_private=True, allow_insecure=True), "test")
    return (await client.get(f"http://{address}/", timeout_seconds=2, body_bytes_max=100)).body


async def test_cancelling_leaves_no_process(data_dir: Path) -> None:
    """The second signal: stop at once, whatever workers do."""
    async with supervised(data_dir, spec("ingest", behaviour=Behaviour(stubborn=True)), spec("serve")) as running:
        await running.all_up()
        pids = [worker.pid for worker in running.supervisor.workers]

    assert not any(is_alive(pid) for pid in pids if pid)


async def test_each_serve_worker_accepts_on_the_socket_it_was_handed_also_after_one_was_killed(data_dir: Path) -> None:
    (socket,) = bind("listen.api", Address("127.0.0.1", 0), 1)
    address = bound_address(socket)
    crew = WorkerSpec("serve", 0, 1, b"{}", (socket,))
    async with supervised(data_dir, crew) as running:
        await running.all_up()
        assert await greeting(address) == b"serve-0 of 1"

        os.kill(running.status("serve-0").pid or 0, signal.SIGKILL)
        await until(lambda: running.status("serve-0").restarts == 1)
        await running.all_up()
        assert await greeting(address) == b"serve-0 of 1"

        running.drain.set()
        with trio.fail_after(20):
            await running.ended.wait()
    with pytest.raises(NetError):
        await greeting(address)


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
    assert [restart_seconds(failures) for failures in (1, 2, 3, 4)] == [0.0, 0.25, 0.5, 1.0]
    assert restart_seconds(100) == 30.0
