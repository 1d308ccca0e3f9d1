"""What becomes of workers when the supervisor is killed, and of the next start meanwhile."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from relay.app.config import ConfigError
from relay.app.lock import take_lock, write_holders
from tests.app.test_supervisor import is_alive, until

SUPERVISOR = Path(__file__).with_name("fake_supervisor.py")


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    with contextlib.chdir(tmp_path):
        Path("data/run").mkdir(parents=True)
        yield Path("data")


@pytest.fixture
def supervisor(data_dir: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, str(SUPERVISOR), str(data_dir)], stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def worker_pid(supervisor: "subprocess.Popen[bytes]") -> int:
    assert supervisor.stdout is not None
    return int(supervisor.stdout.readline())


async def test_workers_drain_and_end_when_the_supervisor_is_killed(
    supervisor: "subprocess.Popen[bytes]", data_dir: Path
) -> None:
    pid = worker_pid(supervisor)
    supervisor.kill()

    await until(lambda: not is_alive(pid))

    assert "serve-0 drained" in (data_dir / "journal").read_text()


async def test_a_start_waits_for_the_last_worker_of_a_dead_supervisor(
    supervisor: "subprocess.Popen[bytes]", data_dir: Path
) -> None:
    """The worker is stopped so that it holds the inherited lock; the start goes on when it is gone, not before."""
    pid = worker_pid(supervisor)
    os.kill(pid, signal.SIGSTOP)
    supervisor.kill()
    supervisor.wait()

    with pytest.raises(ConfigError, match=rf"in use by pid {pid} \(serve-0\)"):
        await take_lock(data_dir, 0.3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wake_up, pid)
        os.close(await take_lock(data_dir, 20))

    assert not is_alive(pid)


async def wake_up(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


async def test_a_start_beside_a_running_relay_names_its_supervisor(
    supervisor: "subprocess.Popen[bytes]", data_dir: Path
) -> None:
    worker_pid(supervisor)

    with pytest.raises(ConfigError, match=rf"in use by pid {supervisor.pid} \(supervisor\), pid \d+ \(serve-0\)"):
        await take_lock(data_dir, 0)


async def test_a_holder_that_is_gone_is_not_named(data_dir: Path) -> None:
    held = await take_lock(data_dir, 0)
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    write_holders(held, {"supervisor": gone.pid, "ingest-0": os.getpid()})

    with pytest.raises(ConfigError, match=rf"in use by pid {os.getpid()} \(ingest-0\)$"):
        await take_lock(data_dir, 0)
    os.close(held)


async def test_a_data_dir_that_cannot_be_made_is_a_configuration_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="data_dir: .* cannot be used"):
        await take_lock(tmp_path / "file" / "data", 0)
