"""`relay backup`: where it puts a copy, what it says, and its exit codes."""

from pathlib import Path

import pytest

from relay.app import backup, cli
from relay.app.config import ConfigError
from tests.store.batches import three_segments


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data of a relay, to which the configuration points."""
    three_segments(tmp_path / "data")
    monkeypatch.setenv("RELAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("RELAY_LOG_STATE_MAP_BYTES", "256MiB")
    return tmp_path / "data"


def run(*words: str) -> int:
    return backup.run(cli.parser_of(cli.COMMANDS).parse_args(["backup", *words]))


def test_what_was_copied_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(tmp_path / "copy")) == 0
    assert run(str(tmp_path / "bare"), "--no-log") == 0

    whole, bare = capsys.readouterr().out.splitlines()
    assert whole == f"{tmp_path / 'copy'}: a state of 0.1 MiB, a log of 0.3 MiB in 3 segments"
    assert bare == f"{tmp_path / 'bare'}: a state of 0.1 MiB, no log"


@pytest.mark.parametrize(("place", "why"), [("data", "is not empty"), ("data/state/data.mdb", "cannot be used")])
def test_a_place_that_holds_something_is_refused_before_anything_is_copied(
    tmp_path: Path, place: str, why: str
) -> None:
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(ConfigError, match=f"^DEST: {tmp_path / place} {why}"):
        run(str(tmp_path / place))

    assert sorted(tmp_path.rglob("*")) == before


def test_a_copy_that_cannot_be_made_is_a_line_and_the_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")

    assert run(str(tmp_path / "file" / "copy")) == 1

    said = capsys.readouterr().err
    assert said.startswith(f"relay: DEST: {tmp_path / 'file' / 'copy'}: ")
    assert said.count("\n") == 1
