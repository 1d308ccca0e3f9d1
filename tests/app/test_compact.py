"""`relay compact`: only at rest, only on the data of a relay."""

from pathlib import Path

import pytest

from relay.app import cli, compact
from relay.app.config import ConfigError
from relay.app.lock import alone
from relay.store.errors import LayoutMismatch
from tests.store.batches import three_segments


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, to which the configuration points."""
    monkeypatch.setenv("RELAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("RELAY_LOG_STATE_MAP_BYTES", "256MiB")
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def run() -> int:
    return compact.run(cli.parser_of(cli.COMMANDS).parse_args(["compact"]))


def test_the_sizes_before_and_after_are_told(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    three_segments(data_dir)

    assert run() == 0

    assert capsys.readouterr().out == f"{data_dir}: the state has 0.0 MiB, it had 0.1 MiB\n"


def test_a_folder_in_use_is_left_as_it_is(data_dir: Path) -> None:
    state, *_ = three_segments(data_dir)
    before = state.read_bytes()

    with alone(data_dir), pytest.raises(ConfigError, match=f"^data_dir: {data_dir} is in use by "):
        run()

    assert state.read_bytes() == before


def test_a_folder_that_is_no_relays_gets_no_lock(data_dir: Path) -> None:
    (data_dir / "thesis.txt").write_text("mine")

    with pytest.raises(LayoutMismatch):
        run()

    assert [path.name for path in data_dir.iterdir()] == ["thesis.txt"]
