"""`relay inspect`: what it says and its exit codes; what `--deep` finds is in tests/e2e/test_backup.py as well."""

import mmap
from pathlib import Path

import pytest

from relay.app import cli, inspect
from relay.app.config import ConfigError
from relay.app.lock import alone
from relay.store.errors import LayoutMismatch
from relay.store.layout import u64
from relay.store.segments import Segments
from tests.store.batches import FIRST_SEQ, open_store, settings, three_segments
from tests.support.log_writer import LogWriter


def run(*words: str) -> int:
    return inspect.run(cli.parser_of(cli.COMMANDS).parse_args(["inspect", *words]))


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Three events of an account in one segment."""
    store = open_store(tmp_path / "data")
    LogWriter(store).append(3)
    store.close()
    return tmp_path / "data"


@pytest.mark.parametrize("words", [(), ("--deep",)])
def test_a_sound_store_is_two_lines_and_the_code_0(
    data_dir: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(data_dir), *words) == 0

    said = capsys.readouterr()
    assert said.out.splitlines() == ["log: 3 events in 1 chunks, 1 segments", "state: 1 accounts, 1 hosts"]
    assert said.err == ""


def test_each_finding_is_a_line_and_the_code_1(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    segments = Segments(data_dir / "log", settings(), readonly=False)
    with segments.borrowed(FIRST_SEQ, active=True) as env, env.begin(write=True) as txn:
        txn.delete(u64(FIRST_SEQ), db=env.db[b"chunks"])
    segments.close()

    assert run(str(data_dir)) == 1

    assert capsys.readouterr().err == f"problem: seq {FIRST_SEQ}: effects without a chunk\n"


def test_a_state_that_cannot_be_opened_is_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state, *_ = three_segments(tmp_path)
    with state.open("r+b") as data:
        data.truncate(3 * mmap.PAGESIZE)

    assert run(str(tmp_path)) == 1

    assert capsys.readouterr().err.startswith(f"problem: {state} was cut off")


def test_a_folder_in_use_or_of_somebody_else_is_no_finding(data_dir: Path, tmp_path: Path) -> None:
    with alone(data_dir), pytest.raises(ConfigError, match=r"^DATA_DIR: a relay is at work in "):
        run(str(data_dir))
    with pytest.raises(LayoutMismatch):
        run(str(tmp_path / "nothing"))


def test_the_bar_ends_its_line_when_all_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    for done in range(3):
        inspect._show(done, 2)

    assert capsys.readouterr().err == (
        f"\r[{' ' * 40}] 0 of 2 segments\r[{'#' * 20}{' ' * 20}] 1 of 2 segments\r[{'#' * 40}] 2 of 2 segments\n"
    )
