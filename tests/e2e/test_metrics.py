"""`/metrics` of a real relay: every fixed name of interface.md, by the role that records it, and figures that move."""

import pytest
import trio

from relay.world.messages import account_message
from tests.support.fake_consumer import connect
from tests.support.processes import RelayProcess, Scrape, eventually
from tests.support.town import Books, Town, town

pytestmark = pytest.mark.slow

PROCESS = {"process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes"}
NAMES = {
    "supervisor": PROCESS | {"relay_build_info"},
    "ingest": PROCESS
    | {
        "relay_worker_up",
        "relay_build_info",
        "relay_ingest_frames_received_total",
        "relay_ingest_events_dropped_total",
        "relay_ingest_verify_seconds_count",
        "relay_ingest_lag_seconds_count",
        "relay_ingest_in_flight",
        "relay_ingest_batch_seconds_count",
        "relay_ingest_batch_items_count",
        "relay_ingest_events_unproven_total",
        "relay_ingest_chain_breaks_total",
        "relay_ingest_lanes_waiting",
        "relay_log_events_appended_total",
        "relay_log_lock_wait_seconds_count",
        "relay_log_lock_held_seconds_count",
        "relay_log_commit_seconds_count",
        "relay_crawl_hosts",
        "relay_crawl_reconnects_total",
        "relay_identity_lookups_total",
        "relay_identity_lookups_seconds_count",
    },
    "serve": PROCESS
    | {
        "relay_worker_up",
        "relay_build_info",
        "relay_serve_consumers",
        "relay_serve_consumer_lag_seconds_count",
        "relay_serve_frames_sent_total",
        "relay_serve_bytes_sent_total",
        "relay_serve_disconnects_total",
        "relay_serve_append_to_send_seconds_count",
        "relay_http_requests_total",
        "relay_http_requests_seconds_count",
        "relay_http_faults_total",
    },
    "housekeeping": PROCESS
    | {
        "relay_worker_up",
        "relay_build_info",
        "relay_log_tip_seq",
        "relay_log_floor_seq",
        "relay_log_tip_time_seconds",
        "relay_log_bytes",
        "relay_log_segments",
        "relay_state_bytes",
        "relay_state_map_bytes",
        "relay_state_free_pages",
        "relay_state_oldest_reader_seconds",
        "relay_disk_free_bytes",
    },
}
# What one accepted commit of a new account, sent to one consumer, has to move.
MOVING = (
    "relay_ingest_frames_received_total",
    "relay_ingest_verify_seconds_count",
    "relay_ingest_lag_seconds_count",
    "relay_ingest_batch_seconds_count",
    "relay_ingest_batch_items_sum",
    "relay_log_events_appended_total",
    "relay_log_lock_wait_seconds_count",
    "relay_log_lock_held_seconds_count",
    "relay_log_commit_seconds_count",
    "relay_identity_lookups_total",
    "relay_identity_lookups_seconds_count",
    "relay_serve_frames_sent_total",
    "relay_serve_bytes_sent_total",
    "relay_serve_append_to_send_seconds_count",
    "relay_http_requests_total",
    "relay_http_requests_seconds_count",
    "relay_log_tip_seq",
    "relay_log_tip_time_seconds",
)


async def everything_happened_once(made: Town) -> None:
    """A drop, a disconnect, a fault, a request."""
    stranger = made.network.writers[1]
    made.hosts[0].emit(account_message(stranger.did, "deleted"), 0)
    async with connect(made.relay.api):
        pass
    async with await trio.open_tcp_stream("127.0.0.1", made.relay.api) as stranger_to_http:
        await stranger_to_http.send_all(b"no request\r\n\r\n")
        await stranger_to_http.receive_some()
    made.write(made.network.writers[0])
    await made.caught_up()


async def test_every_fixed_name_is_there_with_role_and_worker_and_moves(relay: RelayProcess) -> None:
    async with town(relay, hosts=2, accounts=2, seed=31) as made:
        await everything_happened_once(made)
        await eventually(lambda: exposes_all(relay))
        before = await relay.scrape()
        made.create_account()
        await made.caught_up()
        await relay.get("/_health")
        after = await relay.scrape()

        assert all({"role", "worker"} <= sample.labels.keys() for sample in after.samples)
        assert [name for name in MOVING if after.total(name) <= before.total(name)] == []
        assert after.total("relay_log_tip_seq") == (await relay.window())[1]
        assert after.total("relay_log_floor_seq") == (await relay.window())[0]
        assert after.total("relay_worker_up") == 3
        await made.judge()


async def exposes_all(relay: RelayProcess) -> bool:
    scrape = await relay.scrape()
    return all(names <= scrape.names(role) for role, names in NAMES.items())


async def test_the_books_balance_with_events_in_flight(relay: RelayProcess) -> None:
    """Invariant 10: received = appended + dropped + in flight, here while a new account waits for its document."""
    async with town(relay, hosts=1, accounts=3, seed=32) as made:
        made.network.directory.lag()
        sent = made.scorecard.events_sent
        made.create_account(host=0)
        waiting = made.scorecard.events_sent - sent
        for account in made.network.writers[:3]:
            made.write(account)
        await made.received(3)

        await eventually(lambda: balances(relay, waiting))
        scrape = await relay.scrape()

        assert scrape.total("relay_ingest_lanes_waiting") == 1
        made.network.directory.catch_up()
        await made.judge()


async def balances(relay: RelayProcess, in_flight: int) -> bool:
    books = Books.of(await relay.scrape())
    return books.in_flight == in_flight and books.received == books.appended + books.dropped + in_flight


def test_a_missing_name_is_noticed() -> None:
    scrape = Scrape('relay_worker_up{role="ingest",worker="0"} 1.0\n')

    assert not NAMES["ingest"] <= scrape.names("ingest")
