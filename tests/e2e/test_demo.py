"""`relay demo` as a newcomer meets it."""

import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from subprocess import PIPE, CompletedProcess

import pytest
import trio

from relay.app.demorelay import DemoFailed, Place, free_port, ready_relay
from tests.support.processes import RELAY, environ

pytestmark = pytest.mark.slow

OK = "OK: every event that must pass arrived, verified and in order."
NO_DIRECTORY = "http://127.0.0.1:1"
SUMMARY = re.compile(
    r"sent +(?P<sent>[\d,]+)  by the simulated hosts; (?P<wrong>[\d,]+) of them must not pass\n"
    r"verified +(?P<verified>[\d,]+)  dropped (?P<dropped>[\d,]+): (?P<reasons>.+)\n"
    r"stored +(?P<stored>[\d,]+)  up to seq \d+\n"
    r"received +(?P<received>[\d,]+)  by the consumer, .* MB, all in order, no gap in seq\n"
)


async def relay(*argv: str, **settings: str) -> CompletedProcess[bytes]:
    with trio.fail_after(20):
        return await trio.run_process(
            [*RELAY, *argv], capture_stdout=True, capture_stderr=True, check=False, env=environ(settings)
        )


def check_summary(text: str) -> None:
    """The four figures agree with each other, and there was something to refuse."""
    found = SUMMARY.search(text)
    assert found is not None, text
    figure = {name: int(value.replace(",", "")) for name, value in found.groupdict().items() if name != "reasons"}
    assert figure["sent"] > 100
    assert figure["wrong"] == figure["dropped"] >= 6
    assert figure["verified"] == figure["stored"] == figure["received"] == figure["sent"] - figure["wrong"]
    assert {"block_hash_mismatch", "rev_not_newer"} <= set(re.findall(r"[a-z_]+", found["reasons"]))
    assert text.splitlines()[-1] == OK


async def test_the_demo_ends_by_itself_and_its_figures_agree() -> None:
    run = await relay("demo", "--seconds", "2")

    assert run.returncode == 0, (run.stdout, run.stderr)
    check_summary(run.stdout.decode())


@asynccontextmanager
async def endless_demo(*argv: str) -> AsyncIterator[tuple[trio.Process, str]]:
    """A demo without end, once its relay runs, and the URL it names; killed if it still runs afterwards."""
    command = [*RELAY, "demo", "--seconds", "0", *argv]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, command, stdout=PIPE, check=False, env=environ({})))
        try:
            said = b""
            with trio.fail_after(20):
                while not (named := re.search(rb"relay tail (\S+) ", said)):
                    more = await process.stdout.receive_some()
                    assert more, said
                    said += more
            yield process, named[1].decode()
        finally:
            nursery.cancel_scope.cancel()


async def rest_of(process: trio.Process) -> str:
    """What it still says until it ends."""
    assert process.stdout is not None
    said = b""
    with trio.fail_after(20):
        async for more in process.stdout:
            said += more
        await process.wait()
    return said.decode()


async def test_a_demo_without_end_beside_others(tmp_path: Path) -> None:
    """The wanted port is busy, a consumer reads, a second demo wants the same folder, Ctrl-C ends it."""
    kept = tmp_path / "kept"
    with socket.socket() as busy:
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # then somebody else has it, which is as good
            busy.bind(("127.0.0.1", 2470))
            busy.listen()
        async with endless_demo("--keep", str(kept)) as (process, url):
            assert not url.endswith(":2470")
            tail = await relay("tail", url, "--cursor", "0", "--count", "100", "--contiguous")
            assert (tail.returncode, len(tail.stdout.splitlines())) == (0, 100), tail.stderr

            config, log = (kept / "relay.toml").read_bytes(), (kept / "relay.log").read_bytes()
            second = await relay("demo", "--keep", str(kept))
            assert second.returncode == 2
            told = f"relay: --keep: {kept} holds the data of a demo already; name another folder\n"
            assert second.stderr.decode() == told
            assert (kept / "relay.toml").read_bytes() == config
            assert (kept / "relay.log").read_bytes().startswith(log)

            process.send_signal(signal.SIGINT)
            check_summary(await rest_of(process))
            assert process.returncode == 0


async def test_a_relay_that_dies_at_once_is_told_at_once(tmp_path: Path) -> None:
    """Here because sockets have no place in so long a path: exit 1 with its own words, long before patience ends."""
    long = tmp_path / ("x" * 100)
    long.mkdir()

    run = await relay("demo", "--seconds", "1", TMPDIR=str(long))

    assert run.returncode == 1
    assert b"relay: the relay ended with exit code 2; it said:\n" in run.stderr
    assert b"too long a path for sockets" in run.stderr
    assert not list(long.iterdir())


async def test_a_port_that_somebody_takes_meanwhile_is_given_up_for_another(tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        taken = busy.getsockname()[1]
        candidates = [Place(tmp_path, taken, free_port(0)), Place(tmp_path, free_port(0), free_port(0))]
        with trio.fail_after(20):
            async with ready_relay(candidates, [], NO_DIRECTORY, lambda: True) as place:
                assert place == candidates[1]
            with pytest.raises(DemoFailed, match="every port"):
                async with ready_relay(candidates[:1], [], NO_DIRECTORY, lambda: True):
                    pass
