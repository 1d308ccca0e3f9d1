"""The operator's commands against a real serve worker: what they do, what they print, and how they fail."""

import json
import re
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.app import cli
from relay.app.adminclient import OperationFailed, password_of
from relay.serve.admin.hostviews import SORTS
from relay.world.host import SimulatedHost
from tests.support.log_writer import HOSTNAME
from tests.support.operating import DID, PASSWORD, Desk, operating

Command = Callable[..., Awaitable[tuple[int, str, str]]]

_LOG_LINES = re.compile(r"^\d{4}-\d\d-\d\d .*\[(?:info|warning) .*\n", re.MULTILINE)  # of the worker in this process


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run `relay ARGV --url ...` in a thread, beside the worker; exit code, what was printed, what was complained."""
    monkeypatch.setenv("RELAY_ADMIN_PASSWORD", f"{PASSWORD},x")

    async def run(desk: Desk, *argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        call = partial(exit_code_of, [*argv, "--url", f"http://127.0.0.1:{desk.serving.port}"])
        code = await trio.to_thread.run_sync(call)
        printed, complained = capsys.readouterr()
        return code, _LOG_LINES.sub("", printed), _LOG_LINES.sub("", complained)

    return run


def exit_code_of(argv: list[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert isinstance(caught.value.code, int)
    return caught.value.code


async def test_hosts_are_listed_for_people_and_for_scripts(tmp_path: Path, command: Command) -> None:
    async with operating(tmp_path) as desk:
        desk.add("other.example.org")
        code, table, _ = await command(desk, "hosts", "list")
        head, *rows = table.splitlines()
        assert code == 0
        assert head.split()[:4] == ["HOST", "STATUS", "ACCOUNTS", "LIMIT"]
        assert head.endswith("LAST ERROR")
        assert [row.split()[:2] for row in rows] == [["other.example.org", "idle"], [HOSTNAME, "active"]]

        _, text, _ = await command(desk, "hosts", "list", "other", "--json")
        assert [host["hostname"] for host in json.loads(text)] == ["other.example.org"]
        _, text, _ = await command(desk, "hosts", "list", "--status", "banned", "--json")
        assert json.loads(text) == []
        _, text, _ = await command(desk, "hosts", "list", "--sort", "firstSeen", "--reverse", "--limit", "1", "--json")
        assert len(json.loads(text)) == 1


async def test_a_host_is_shown_banned_limited_and_read_anew(tmp_path: Path, command: Command) -> None:
    changes: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        (("block", HOSTNAME), {"status": "banned"}),
        (("unblock", HOSTNAME), {"status": "idle"}),
        (("limit", HOSTNAME, "--accounts", "7", "--per-second", "3"), {"account_limit": 7, "rates": {"per_second": 3}}),
        (("limit", HOSTNAME, "--accounts", "default", "--per-second", "default"), {"account_limit": None, "rates": {}}),
        (("limit", HOSTNAME, "--tier", "trusted"), {"tier": "trusted"}),
        (("mode", HOSTNAME, "lenient"), {"mode": "lenient"}),
        (("mode", HOSTNAME, "default"), {"mode": ""}),
        (("reset-cursor", HOSTNAME, "--cursor", "77"), {"cursor": 77, "epoch": 1}),
    ]
    async with operating(tmp_path) as desk:
        for argv, fields in changes:
            assert (await command(desk, "hosts", *argv))[0] == 0
            assert {name: getattr(desk.host(), name) for name in fields} == fields
        reconnect_ms = desk.host().reconnect_ms
        await command(desk, "hosts", "reconnect", HOSTNAME)
        assert desk.host().reconnect_ms > reconnect_ms
        code, shown, _ = await command(desk, "hosts", "show", HOSTNAME)

    assert code == 0
    assert re.search(r"^cursor +77$", shown, re.MULTILINE)


async def test_a_host_is_added(tmp_path: Path, command: Command, nursery: trio.Nursery) -> None:
    host = SimulatedHost()
    await nursery.start(host.serve)
    async with operating(tmp_path) as desk:
        assert (await command(desk, "hosts", "add", host.url))[:2] == (0, "done\n")
        assert desk.host(host.url.removeprefix("http://")) is not None
    nursery.cancel_scope.cancel()


async def test_an_account_is_shown_taken_down_and_restored(tmp_path: Path, command: Command) -> None:
    async with operating(tmp_path) as desk:
        assert (await command(desk, "accounts", "takedown", DID))[0] == 0
        assert desk.account().local_status == "takendown"
        _, listed, _ = await command(desk, "accounts", "list", "--local", "takendown", "--json")
        assert [account["did"] for account in json.loads(listed)] == [DID]
        _, shown, _ = await command(desk, "accounts", "show", DID)
        assert re.search(r"^status +takendown$", shown, re.MULTILINE)
        _, said, _ = await command(desk, "accounts", "takedown", DID, "--purge")
        assert "done" not in said
        assert said.splitlines()[-1] == f"  relay accounts show {DID}"
        _, shown, _ = await command(desk, "accounts", "show", DID)
        assert re.search(r"^purge +begins in a moment$", shown, re.MULTILINE)
        assert (await command(desk, "accounts", "restore", DID))[0] == 0
        assert desk.account().local_status == ""
        _, table, _ = await command(desk, "accounts", "list", "--host", HOSTNAME)

    assert table.splitlines()[1].split()[:2] == [DID, "yes"]


async def test_domains_are_banned_and_freed(tmp_path: Path, command: Command) -> None:
    async with operating(tmp_path) as desk:
        assert (await command(desk, "domains", "ban", "example.com"))[0] == 0
        _, table, _ = await command(desk, "domains", "list")
        assert table.splitlines()[1].split()[0] == "example.com"
        assert desk.host().status == "banned"
        assert (await command(desk, "domains", "unban", "example.com"))[0] == 0
        assert desk.host().status == "idle"


async def test_consumers_are_listed_and_sent_away(tmp_path: Path, command: Command) -> None:
    async with operating(tmp_path) as desk, desk.serving.connect() as consumer:
        _, text, _ = await command(desk, "consumers", "list", "--json")
        (listed,) = json.loads(text)
        _, table, _ = await command(desk, "consumers", "list")
        assert table.splitlines()[1].split()[0] == str(listed["id"])
        assert (await command(desk, "consumers", "kick", str(listed["id"])))[0] == 0
        assert (await consumer.receive()).code == 1008  # type: ignore[union-attr]  # the end, not a frame


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (("hosts", "show", "nobody.example.net"), "does not know the host"),
        (("hosts", "block", "http://1.2.3.4/x"), "not a host name"),
        (("accounts", "show", "did:plc:" + "z" * 24), "does not know the account"),
        (("domains", "unban", "example.net"), "is not banned"),
        (("consumers", "kick", "99"), "no worker has this consumer"),
        (("hosts", "limit", HOSTNAME), "nothing to change"),
    ],
)
async def test_a_refusal_is_one_line_and_exit_code_1(
    argv: tuple[str, ...], complaint: str, tmp_path: Path, command: Command
) -> None:
    async with operating(tmp_path) as desk:
        code, printed, complained = await command(desk, *argv)

    assert (code, printed) == (1, "")
    assert re.fullmatch(rf"relay: .*{complaint}.* \(HTTP \d+\)\n", complained)


async def test_a_wrong_password_or_none_and_a_relay_that_is_not_there(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with operating(tmp_path) as desk:
        monkeypatch.setenv("RELAY_ADMIN_PASSWORD", "wrong one")
        code, _, complained = await command(desk, "hosts", "list")
        assert (code, "wrong user or password" in complained, "wrong one" in complained) == (1, True, False)
        monkeypatch.delenv("RELAY_ADMIN_PASSWORD")
        code, _, complained = await command(desk, "hosts", "list")
        assert (code, "set RELAY_ADMIN_PASSWORD" in complained) == (1, True)
    monkeypatch.setenv("RELAY_ADMIN_PASSWORD", PASSWORD)
    code, _, complained = await command(desk, "hosts", "list")
    assert (code, "does not answer" in complained) == (1, True)


@pytest.mark.parametrize(
    "argv",
    [
        ("hosts",),
        ("hosts", "mode", "x", "odd"),
        ("hosts", "limit", "x", "--accounts", "-1"),
        ("hosts", "list", "--limit", "-1"),
        ("hosts", "list", "--limit", "0"),
        ("hosts", "list", "--sort", "bogus"),
        ("accounts", "list", "--limit", "0"),
        ("accounts", "show"),
    ],
)
def test_wrong_usage_is_2(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(list(argv)) == 2


def test_help_names_every_order_of_hosts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    assert exit_code_of(["hosts", "list", "--help"]) == 0
    assert ", ".join(SORTS) in capsys.readouterr().out
    assert {"cursor", "behind"} <= set(SORTS)


def test_the_password_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first\nsecond\n")

    assert password_of({"RELAY_ADMIN_PASSWORD_FILE": str(file)}) == "first"
    assert password_of({"RELAY_ADMIN_PASSWORD": " a , b "}) == "a"
    for environ in ({}, {"RELAY_ADMIN_PASSWORD": " , "}, {"RELAY_ADMIN_PASSWORD_FILE": str(tmp_path / "none")}):
        with pytest.raises(OperationFailed):
            password_of(environ)
