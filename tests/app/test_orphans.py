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
from tests.app.test_supervisor import is_alive
from tests.support.until import until

SUPERVISOR = Path(__file__).with_name("fake_supervisor.py")


@contextlib.contextmanager
def supervisor_of_one(data_dir: Path, behaviour: str = "{}") -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A supervisor process, and the process id of its only worker."""
    command = [sys.executable, str(SUPERVISOR), str(data_dir), behaviour]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


async def test_workers_drain_and_end_when_the_supervisor_is_killed(data_dir: Path) -> None:
    with supervisor_of_one(data_dir) as (supervisor, pid):
        supervisor.kill()

        await until(lambda: not is_alive(pid))

    assert "serve-0 drained" in (data_dir / "journal").read_text()


async def test_a_start_waits_for_the_last_worker_of_a_dead_supervisor(data_dir: Path) -> None:
    """The worker uses its two seconds to the end, holding the lock; a start that waits long enough then has it."""
    with supervisor_of_one(data_dir, '{"stubborn": true}') as (supervisor, pid):
        supervisor.kill()
        supervisor.wait()

        with pytest.raises(ConfigError, match=rf"in use by pid {pid} \(serve-0\)"):
            await take_lock(data_dir, 0.1)
        os.close(await take_lock(data_dir, 20))

        await until(lambda: not is_alive(pid))


async def test_a_supervisor_that_dies_before_it_hears_that_a_worker_leaves_is_like_any_other(data_dir: Path) -> None:
    """The worker still has its two seconds: word of it that nobody read is no error to it."""
    with supervisor_of_one(data_dir, '{"stubborn": true}') as (supervisor, pid):
        supervisor.send_signal(signal.SIGSTOP)
        os.kill(pid, signal.SIGTERM)
        await until(lambda: "serve-0 draining" in (data_dir / "journal").read_text())
        supervisor.kill()
        supervisor.wait()

        with pytest.raises(ConfigError, match=rf"in use by pid {pid} \(serve-0\)"):
            await take_lock(data_dir, 1)
        await until(lambda: not is_alive(pid))


async def test_a_start_beside_a_running_relay_names_its_supervisor(data_dir: Path) -> None:
    with supervisor_of_one(data_dir) as (supervisor, pid):
        expected = rf"in use by pid {supervisor.pid} \(supervisor\), pid {pid} \(serve-0\)"
        with pytest.raises(ConfigError, match=expected):
            await take_lock(data_dir, 0)


async def test_a_holder_that_is_gone_is_not_named(data_dir: Path) -> None:
    held = await take_lock(data_dir, 0)
    gone = await trio.run_process([sys.executable, "-c", "import os; print(os.getpid())"], capture_stdout=True)
    write_holders(held, {"supervisor": int(gone.stdout), "ingest-0": os.getpid()})

    with pytest.raises(ConfigError, match=rf"in use by pid {os.getpid()} \(ingest-0\)$"):
        await take_lock(data_dir, 0)
    os.close(held)


async def test_a_data_dir_that_cannot_be_made_is_a_configuration_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match=r"data_dir: .* cannot be used"):
        await take_lock(tmp_path / "file" / "data", 0)
