"""What `relay check` finds; each problem once planted, none on a fit machine."""

import mmap
import os
import re
import resource
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from relay.app import check
from relay.app.config import ConfigError, load
from relay.app.kinds import Address
from relay.app.listening import bind, bound_address
from relay.app.lock import at_rest, take_lock
from relay.app.run import prepare_store
from relay.app.settings import ListenSettings, RelaySettings
from relay.identity.settings import IdentitySettings
from relay.net.connection import Site
from relay.net.exchange import Request, Response
from relay.net.server import serve_http
from relay.store.env import open_env
from relay.store.errors import StoreError
from relay.store.layout import META, META_LAYOUT, STATE_DBS
from relay.store.settings import LogSettings
from tests.store.batches import three_segments

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
DATE_SECONDS = 1_792_567_680.0


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RelaySettings:
    """A private network with small needs, so that the machine of the test is fit for it; data_dir is a short path."""
    monkeypatch.chdir(tmp_path)
    environ = {
        "RELAY_DATA_DIR": "data",
        "RELAY_HOSTS_ALLOW_PRIVATE": "true",
        "RELAY_HOSTS_ALLOW_INSECURE": "true",
        "RELAY_CONSUMERS_MAX": "10",
    }
    fit = load(Path(os.devnull), environ, cores=64)
    any_port = Address("127.0.0.1", 0)
    return replace(fit, listen=ListenSettings(api=any_port, metrics=any_port))


def test_a_fit_machine_has_no_local_problem(settings: RelaySettings) -> None:
    assert list(check.data_dir_problems(settings)) == []
    assert list(check.limit_problems(settings)) == []
    assert list(check.listen_problems(settings)) == []


def test_nothing_is_left_on_the_disk(settings: RelaySettings, tmp_path: Path) -> None:
    list(check.data_dir_problems(settings))

    assert list(tmp_path.iterdir()) == []


def test_a_data_dir_below_a_file_is_found(settings: RelaySettings, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")

    (problem,) = check.data_dir_problems(settings)

    assert problem.startswith("data_dir: ")
    assert "cannot be written" in problem


def test_a_path_too_long_for_sockets_is_found(settings: RelaySettings, tmp_path: Path) -> None:
    (problem,) = check.data_dir_problems(replace(settings, data_dir=tmp_path / ("x" * 100)))

    assert "too long a path for sockets" in problem


def cut(data: Path, number: int) -> None:
    """Segment `number` becomes something else."""
    (sorted((data / "log").iterdir())[number] / "data.mdb").write_bytes(b"something else" * 1_000)


def lose(data: Path, number: int) -> None:
    """Segment `number` is gone."""
    shutil.rmtree(sorted((data / "log").iterdir())[number])


def another_layout(data: Path) -> None:
    env = open_env(data / "state", STATE_DBS, map_bytes=1 << 26)
    with env.begin(write=True) as txn:
        txn.put(META_LAYOUT, b"atproto-relay 99", db=env.db[META])
    env.close()


def stranger(data: Path) -> None:
    shutil.rmtree(data)
    data.mkdir()
    (data / "thesis.txt").write_text("mine")


def lose_all(data: Path) -> None:
    shutil.rmtree(data / "log")
    (data / "log").mkdir()


SPOILT: dict[str, Callable[[Path], object]] = {
    "another layout": another_layout,
    "a stranger's folder": stranger,
    "junk for a state": lambda data: (data / "state" / "data.mdb").write_bytes(b"something else" * 1_000),
    "a state that was cut off": lambda data: os.truncate(data / "state" / "data.mdb", 3 * mmap.PAGESIZE),
    "no first segment": lambda data: lose(data, 0),
    "no last segment": lambda data: lose(data, -1),
    "no segment": lose_all,
    "no log folder": lambda data: shutil.rmtree(data / "log"),
    "a log without its state": lambda data: shutil.rmtree(data / "state"),
    "junk for the last segment": lambda data: cut(data, -1),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def filled(settings: RelaySettings) -> RelaySettings:
    """With three segments in data_dir."""
    three_segments(settings.data_dir)
    return replace(settings, log=LogSettings(sync=False, state_map_bytes=1 << 26))


def test_data_that_a_start_takes_are_no_problem_and_stay_as_they_are(filled: RelaySettings) -> None:
    before = contents(filled.data_dir)

    assert list(check.data_dir_problems(filled)) == []

    assert contents(filled.data_dir) == before


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_data_that_a_start_would_refuse_are_found_in_its_words(
    filled: RelaySettings, spoil: Callable[[Path], object]
) -> None:
    spoil(filled.data_dir)
    before = contents(filled.data_dir)

    found = list(check.data_dir_problems(filled))

    assert contents(filled.data_dir) == before
    with pytest.raises(StoreError) as refused:
        prepare_store(filled)
    assert found == [f"data_dir: {refused.value.told}"]
    assert not re.search(r"MDB_|Errno|b'|[a-z][A-Z]", found[0])


def test_a_sealed_segment_that_cannot_be_read_is_found_before_a_consumer_comes_to_it(filled: RelaySettings) -> None:
    cut(filled.data_dir, 1)

    (problem,) = check.data_dir_problems(filled)

    assert "File is not an LMDB file" in problem


async def test_the_folder_of_a_running_relay_is_left_alone(filled: RelaySettings) -> None:
    lose(filled.data_dir, 0)
    held = await take_lock(filled.data_dir, 0)
    try:
        assert list(check.data_dir_problems(filled)) == []
    finally:
        os.close(held)

    assert len(list(check.data_dir_problems(filled))) == 1


async def test_no_relay_begins_while_its_folder_is_looked_at(filled: RelaySettings) -> None:
    os.close(await take_lock(filled.data_dir, 0))

    with at_rest(filled.data_dir) as is_at_rest:
        assert is_at_rest
        with pytest.raises(ConfigError, match="is in use"):
            await take_lock(filled.data_dir, 0)
    os.close(await take_lock(filled.data_dir, 0))


def test_a_window_larger_than_the_disk_is_found(settings: RelaySettings) -> None:
    by_bytes = replace(settings, log=LogSettings(window_bytes=1 << 55))
    public = replace(settings, hosts=replace(settings.hosts, allow_private=False), log=LogSettings(window_hours=87_600))

    assert any(problem.startswith("log.window_bytes: ") for problem in check.disk_problems(by_bytes))
    assert any(problem.startswith("log.window_hours: ") for problem in check.disk_problems(public))


@pytest.mark.parametrize(
    ("limit", "value", "named"), [("RLIMIT_NOFILE", 64, "open files"), ("RLIMIT_AS", 1 << 30, "address space")]
)
def test_limits_below_the_need_are_found(
    settings: RelaySettings, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, named: str
) -> None:
    real: Callable[[int], tuple[int, int]] = resource.getrlimit
    wanted = getattr(resource, limit)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (value, value) if which == wanted else real(which))

    (problem,) = check.limit_problems(settings)

    assert problem.startswith(f"{named}: ")


def test_seeds_that_run_would_refuse_are_found(settings: RelaySettings) -> None:
    hosts = replace(settings.hosts, allow_private=False, seeds=("pds.example-host.com", "1.2.3.4", "pds.com/path"))
    found = list(check.seed_problems(replace(settings, hosts=hosts)))

    assert len(found) == 2
    assert all(line.startswith("hosts.seeds: ") for line in found)


@pytest.mark.parametrize(
    ("url", "is_told"),
    [
        ("http://relay.example-relay.com", True),
        ("http://1.1.1.1:2470", True),
        ("http://[2606:4700::1111]", True),
        ("https://relay.example-relay.com", False),
        ("http://127.0.0.1:2470", False),
        ("http://[fd12::1]:2470", False),
        ("http://localhost:2470", False),
        ("http://relay-2.internal", False),
    ],
)
def test_a_sibling_that_is_told_the_password_in_the_clear_is_found(
    settings: RelaySettings, url: str, is_told: bool
) -> None:
    found = list(check.sibling_problems(replace(settings, siblings=(url,))))

    assert [line.startswith(f"siblings: {url} ") for line in found] == [True] * is_told


@pytest.mark.parametrize(("api", "metrics", "clash"), [("::", "127.0.0.1", True), ("127.0.0.1", "127.0.0.2", False)])
def test_two_listeners_on_one_port_are_found(settings: RelaySettings, api: str, metrics: str, clash: bool) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listen = replace(settings.listen, api=Address(api, port), metrics=Address(metrics, port))
    found = list(check.listen_problems(replace(settings, listen=listen)))

    assert ("is taken by listen.api" in "".join(found)) is clash


def test_an_address_in_use_is_found(settings: RelaySettings) -> None:
    (other,) = bind("listen.api", Address("127.0.0.1", 0), 1)
    with other:
        taken = replace(settings, listen=replace(settings.listen, metrics=bound_address(other)))

        (problem,) = check.listen_problems(taken)

    assert problem.startswith("listen.metrics: cannot listen on")


@pytest.mark.parametrize(
    ("date", "skew", "words"),
    [
        (DATE, 0, None),
        (DATE, 29, None),
        (DATE, 31, "31 s ahead of"),
        (DATE, -400, "400 s behind"),
        ("", 1e6, None),
        ("yesterday", 1e6, None),
    ],
)
def test_the_clock_is_compared_with_the_directory(date: str, skew: float, words: str | None) -> None:
    problem = check.clock_problem(date, DATE_SECONDS + skew)

    assert (problem is None) if words is None else (problem is not None and words in problem)


async def test_a_directory_that_answers_is_no_problem_and_lends_its_clock(
    settings: RelaySettings, nursery: trio.Nursery
) -> None:
    def directory(status: int) -> Site:
        async def answer(request: Request) -> Response:
            return Response(status, (("Date", DATE),))

        return Site(answer)

    async def problems(status: int, now: float) -> list[str]:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(serve_http, listeners, directory(status))
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        return await check.plc_problems(replace(settings, identity=IdentitySettings(plc_url=url)), lambda: now)

    assert await problems(200, DATE_SECONDS) == []
    assert await problems(404, DATE_SECONDS) == []
    assert (await problems(200, DATE_SECONDS + 100))[0].startswith("clock: 100 s ahead of")
    assert (await problems(503, DATE_SECONDS))[0].endswith("answers with HTTP status 503")
    nursery.cancel_scope.cancel()


async def test_a_directory_that_cannot_be_reached_is_found(settings: RelaySettings) -> None:
    (closed,) = bind("listen.api", Address("127.0.0.1", 0), 1)
    url = f"http://{bound_address(closed)}"
    closed.close()

    (problem,) = await check.plc_problems(replace(settings, identity=IdentitySettings(plc_url=url)))

    assert problem.startswith(f"identity.plc_url: {url} cannot be reached")
