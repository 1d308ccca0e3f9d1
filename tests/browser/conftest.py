"""A real relay with a small network around it, and headless Chromium to look at its pages.

Run by `make test-browser`, which installs Playwright. Needs Chromium, Debian's or the one that $CHROMIUM names. Without
either, and in `make test`, every test here is skipped with a line that says so. $SCREENSHOTS names a folder for what
the pages looked like.
"""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.log_writer import did_of
from tests.support.processes import RelayProcess
from tests.support.town import Town, town

PASSWORD = "a password for the browser tests"
HOSTS, ACCOUNTS, EVENTS_PER_SECOND = 4, 24, 40.0
READY_SECONDS_MAX = 60.0
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
UNKNOWN_DID = did_of(3)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.markexpr == "browser":
        return
    skip = pytest.mark.skip(reason="the pages are looked at in a browser by `make test-browser` only")
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(skip)


class Stage:
    """What the tests look at: a relay that is read from hosts that live, all in threads of their own."""

    def __init__(self, relay: RelayProcess) -> None:
        self.relay = relay
        self.url = f"http://127.0.0.1:{relay.api}"
        self.hostnames: list[str] = []
        self.did = ""
        self.repeating_hostname = ""
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._live, name="town")

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(READY_SECONDS_MAX), "the network did not come up"
        if self._failed is not None:
            raise self._failed

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _live(self) -> None:
        try:
            trio.run(self._play)
        except BaseException as error:  # noqa: BLE001 -- told to the test's thread
            self._failed = error
        finally:
            self._ready.set()

    async def _play(self) -> None:
        async with town(self.relay, hosts=HOSTS, accounts=ACCOUNTS, seed=5) as place, place.playing(EVENTS_PER_SECOND):
            self.hostnames = [place.hostname(number) for number in range(HOSTS)]
            self.did = place.network.writers[0].did
            await place.received(60)
            self._repeat(place)
            self._ready.set()
            while not self._stop.is_set():
                self._repeat(place)
                await trio.sleep(0.3)

    def _repeat(self, place: Town) -> None:
        """Something to drop: a commit that its host has sent before."""
        emission = place.network.write(place.network.writers[-1], _now_ms())
        place.send(emission)
        self.repeating_hostname = self.repeating_hostname or self.hostnames[emission.host]
        place.hosts[emission.host].emit(emission.message, _now_ms())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    relay = RelayProcess(
        tmp_path_factory.mktemp("browser"),
        RELAY_ADMIN_PASSWORD=PASSWORD,
        RELAY_WORKERS_INGEST="1",
        RELAY_WORKERS_SERVE="2",
        RELAY_CONSUMERS_PER_ADDRESS="100",
    )
    try:
        relay.start()
        made = Stage(relay)
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        relay.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: make test-browser")
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("there is no chromium on this machine: apt-get install chromium, or set CHROMIUM")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, headless=True, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: $SCREENSHOTS, or a temporary folder."""
    named = os.environ.get("SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
