"""`relay pull-hosts` as a process of its own: what it prints for people and for scripts, and its exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from relay.net.connection import Site
from relay.net.exchange import Request, Response, error_response, json_response
from relay.store.settings import LogSettings
from relay.store.store import Store
from relay.world.loopback import origin, serve_on_loopback

LOG = LogSettings(sync=False, state_map_bytes=64 << 20)
NOW_MS = 1_760_000_000_000
HOSTS = [{"hostname": f"h{number}.example.com", "seq": 9, "status": "active"} for number in range(3)]


async def pull(folder: Path, source: str, *argv: str) -> "subprocess.CompletedProcess[bytes]":
    """Run it on the store in `folder`, which is made when it is not there."""
    Store.open(folder / "data", LOG, create=True, now_ms=NOW_MS).close()
    named = {"DATA_DIR": str(folder / "data"), "LOG_SYNC": "false"}
    named |= {"HOSTS_ALLOW_PRIVATE": "true", "HOSTS_ALLOW_INSECURE": "true"}
    environ = {**os.environ, **{f"RELAY_{name}": value for name, value in named.items()}}
    command = [sys.executable, "-m", "relay", "pull-hosts", source, *argv]
    return await trio.run_process(command, env=environ, check=False, capture_stdout=True, capture_stderr=True)


async def lists(request: Request) -> Response:
    await trio.lowlevel.checkpoint()
    assert request.path == "/xrpc/com.atproto.sync.listHosts"
    return json_response(200, {"hosts": HOSTS})


async def fails(_request: Request) -> Response:
    await trio.lowlevel.checkpoint()
    return error_response(502, "Bad", "gateway")


async def test_the_outcome_is_a_line_for_people_and_json_for_scripts(tmp_path: Path, nursery: trio.Nursery) -> None:
    """And nothing else: what is logged on the way would be between the lines."""
    url = origin(await nursery.start(serve_on_loopback, Site(lists), 0))
    done = await pull(tmp_path, url)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == f"3 hosts listed by {url}, 3 of them new here\n"

    again = await pull(tmp_path, url, "--json")
    assert (again.returncode, again.stderr) == (0, b"")
    assert json.loads(again.stdout) == {"source": url, "listed": 3, "added": 0, "error": None}
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("argv", [(), ("--json",)])
async def test_a_list_that_is_not_read_to_its_end_is_a_problem(
    argv: tuple[str, ...], tmp_path: Path, nursery: trio.Nursery
) -> None:
    url = origin(await nursery.start(serve_on_loopback, Site(fails), 0))
    done = await pull(tmp_path, url, *argv)

    assert (done.returncode, done.stderr, b"502" in done.stdout) == (1, b"", True)
    nursery.cancel_scope.cancel()
