"""What `relay run` says when it cannot run: a code, a line for each problem, and nothing touched."""

import hashlib
import mmap
import re
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
import trio

from relay.store.errors import LayoutMismatch
from relay.store.settings import LogSettings
from relay.store.store import Store
from tests.store.batches import three_segments
from tests.support.disks import mounted
from tests.support.processes import DEVELOPMENT, RELAY, environ

pytestmark = pytest.mark.slow

SETTINGS = {**DEVELOPMENT, "RELAY_LISTEN_API": "127.0.0.1:0", "RELAY_LISTEN_METRICS": "127.0.0.1:0"}
MAP_BYTES = 256 << 20


async def run(folder: Path, **changes: str) -> tuple[int, list[str]]:
    """The exit code and what was said, of a relay that does not start."""
    with trio.fail_after(30):
        ended = await trio.run_process(
            [*RELAY, "run"], capture_stderr=True, check=False, cwd=folder, env=environ({**SETTINGS, **changes})
        )
    return ended.returncode, ended.stderr.decode().splitlines()


def contents(folder: Path) -> dict[str, str]:
    """Everything below a folder: names, and hashes of files."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


async def test_every_problem_of_the_configuration_is_a_line_and_the_code_2(tmp_path: Path) -> None:
    code, said = await run(
        tmp_path,
        RELAY_DATA_DIR="data",
        RELAY_LISTEN_API="nowhere",
        RELAY_LOG_BATCH_MS="0",
        RELAY_HOSTS_ALLOW_PRIVATE="perhaps",
        RELAY_COLOUR="blue",
    )

    assert code == 2
    assert len(said) == 4
    for key, line in zip(("RELAY_COLOUR", "hosts.allow_private", "listen.api", "log.batch_ms"), said, strict=True):
        assert line.startswith(f"relay: {key}: "), line
    assert contents(tmp_path) == {}


def of_somebody_else(data: Path) -> None:
    (data / "photos").mkdir(parents=True)
    (data / "photos" / "cat.jpg").write_bytes(b"meow")


def of_another_program_on_lmdb(data: Path) -> None:
    (data / "state").mkdir(parents=True)
    with lmdb.open(str(data / "state"), max_dbs=1) as env:
        env.open_db(b"meta")


def of_another_layout(data: Path) -> None:
    Store.open(data, LogSettings(state_map_bytes=MAP_BYTES), create=True, now_ms=1).close()
    with lmdb.open(str(data / "state"), max_dbs=10, map_size=MAP_BYTES) as env, env.begin(write=True) as txn:
        txn.put(b"layout", b"atproto-relay 99", db=env.open_db(b"meta", txn=txn))


def of_a_later_version(data: Path) -> None:
    """Where that version ran, which leaves its lock."""
    of_another_layout(data)
    (data / "lock").write_text("1 supervisor\n")
    (data / "run").mkdir()


def of_a_log_without_its_state(data: Path) -> None:
    (data / "log" / "0000000000000001").mkdir(parents=True)


@pytest.mark.parametrize(
    "make",
    [of_somebody_else, of_another_program_on_lmdb, of_another_layout, of_a_later_version, of_a_log_without_its_state],
)
async def test_a_folder_with_another_layout_is_told_and_not_touched(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "data")
    before = contents(tmp_path)

    code, said = await run(tmp_path, RELAY_DATA_DIR="data")

    assert code == 2
    assert len(said) == 1
    assert said[0].startswith("relay: data_dir: data")
    assert said[0].endswith(f": {LayoutMismatch.remedy}")
    assert not re.search(r"LayoutMismatch|MDB_|b'", said[0])
    assert contents(tmp_path) == before


@pytest.mark.parametrize("number", [0, 1, 3], ids=["state", "sealed segment", "active segment"])
async def test_a_file_that_was_cut_off_is_told_by_name_with_what_to_do(number: int, tmp_path: Path) -> None:
    """And not with SIGBUS. Nothing that is left of the data is changed."""
    files = three_segments(tmp_path / "data")
    with files[number].open("r+b") as data:
        data.truncate(3 * mmap.PAGESIZE)
    before = [file.read_bytes() for file in files]

    code, said = await run(tmp_path, RELAY_DATA_DIR="data")

    assert code == 2
    assert len(said) == 1
    assert said[0].startswith(f"relay: data_dir: {files[number].relative_to(tmp_path)} was cut off, ")
    assert "move data_dir away to begin with an empty log" in said[0]
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize("data_dir", ["file", "file/data", "/proc/nobody/data"])
async def test_a_data_dir_that_cannot_be_written_is_told(data_dir: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    code, said = await run(tmp_path, RELAY_DATA_DIR=data_dir)

    assert code == 2
    assert len(said) == 1
    assert said[0].startswith(f"relay: data_dir: {data_dir} cannot be used: ")


async def test_a_data_dir_on_a_read_only_file_system_is_told(tmp_path: Path) -> None:
    with mounted("ro") as disk:
        code, said = await run(tmp_path, RELAY_DATA_DIR=str(disk))

    assert (code, said) == (2, [f"relay: data_dir: {disk} cannot be used: Read-only file system"])
