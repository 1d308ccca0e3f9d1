"""The command as people call it: help, exit codes, one line a problem."""

import re
from pathlib import Path

import pytest

from relay.app import cli
from relay.app.cli import COMMANDS, Command
from relay.app.config import ConfigError
from relay.store.errors import Corrupt, LayoutMismatch


def exit_code(*argv: str, commands: tuple[Command, ...] = COMMANDS) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv, commands)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def raising(error: BaseException) -> tuple[Command, ...]:
    def run(_arguments: cli.Arguments) -> int:
        raise error

    return (Command("fail", "fails", lambda _parser: None, run),)


def test_help_has_a_line_for_each_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    assert exit_code("--help") == 0

    text = capsys.readouterr().out
    for command in COMMANDS:
        assert re.search(rf"^ +{command.name} +{re.escape(command.help)}$", text, re.MULTILINE)


@pytest.mark.parametrize(
    "argv", [(), ("dance",), ("run", "--colour"), ("tail", "ws://x", "--since", "2h", "--cursor", "5")]
)
def test_wrong_usage_is_2(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*argv) == 2
    assert "usage: relay" in capsys.readouterr().err


def test_every_problem_of_the_configuration_is_a_line_and_the_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("drain_seconds = -1\nx = 1\n")

    for command in ("run", "check"):
        assert exit_code(command, "--config", str(file)) == 2
        assert capsys.readouterr().err.splitlines() == [
            f"relay: drain_seconds: takes a number from 0 to 600, not -1 (from {file})",
            f"relay: x: there is no such key (from {file})",
        ]


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ConfigError("a: takes b", "c: takes d"), 2, "relay: a: takes b\nrelay: c: takes d\n"),
        (Corrupt("a page is damaged"), 2, f"relay: data_dir: a page is damaged: {Corrupt.remedy}\n"),
        (LayoutMismatch("it is not ours"), 2, f"relay: data_dir: it is not ours: {LayoutMismatch.remedy}\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_an_operator_can_mend_is_told_in_lines(
    error: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("fail", commands=raising(error)) == code
    assert capsys.readouterr().err == told


def test_a_bug_of_ours_is_not_hidden() -> None:
    with pytest.raises(AssertionError):
        cli.main(["fail"], raising(AssertionError()))
