"""A relay that is stopped while a consumer takes nothing: it ends by itself, in time, and says goodbye."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from relay.store.settings import LogSettings
from relay.store.store import Store
from tests.support.fake_consumer import PATH, Closed, upgrade
from tests.support.log_writer import LogWriter
from tests.support.processes import RelayProcess, eventually

pytestmark = pytest.mark.slow

DRAIN_SECONDS = 6
BATCHES, EVENTS, EVENT_BYTES = 30, 40, 8_000  # more than the kernel takes for a client that does not read


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelayProcess]:
    made = RelayProcess(
        tmp_path, RELAY_WORKERS_INGEST="1", RELAY_WORKERS_SERVE="1", RELAY_DRAIN_SECONDS=str(DRAIN_SECONDS)
    )
    try:
        made.start()
        yield made
    finally:
        made.close()


def filled(relay: RelayProcess) -> LogWriter:
    """What is in the log from now on, less than a worker keeps in memory."""
    store = Store.open(relay.data_dir, LogSettings(sync=False, state_map_bytes=256 << 20))
    try:
        log = LogWriter(store)
        for _ in range(BATCHES):
            log.append(EVENTS, pad_bytes=EVENT_BYTES)
    finally:
        store.close()
    return log


async def test_a_stop_waits_for_nobody_who_takes_nothing_and_kills_nobody(relay: RelayProcess) -> None:
    """The serve worker ends within its part of the time. What the kernel took ends between two frames, with 1001."""
    start = (await relay.window())[1]
    async with await trio.open_tcp_stream("127.0.0.1", relay.api) as stream:
        silent = await upgrade(stream, f"{PATH}?cursor={start}")
        log = filled(relay)
        await eventually(lambda: is_behind(relay))

        began = trio.current_time()
        assert await relay.terminate() == 0
        assert trio.current_time() - began < DRAIN_SECONDS

        frames, closed = await silent.rest()
    assert closed == Closed(1001, "the relay is going away")
    assert frames == log.after(start)[: len(frames)]
    assert len(frames) < BATCHES * EVENTS
    assert [line["role"] for line in relay.lines("consumers_cut")] == ["serve"]
    assert list(relay.lines("drain_incomplete")) == []


async def is_behind(relay: RelayProcess) -> bool:
    """Whether the worker has handed the kernel something, so that the rest of the log waits for the consumer."""
    return (await relay.scrape()).total("relay_serve_bytes_sent_total") > 0
