"""How long a host is left alone, what it is called meanwhile, and when it is asked whether its seqs began anew."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.crawl.hoststate import (
    FRAMING_FAULTS_MAX,
    FUTURE_CURSOR_SECONDS,
    OFFLINE_AFTER_FAILURES,
    PROBE_SECONDS_MAX,
    RELAY_SECONDS,
    RESTART_PROBE_INTERVAL_SECONDS,
    RETRY_SECONDS_MAX,
    Ending,
    HostHealth,
)

OURS = (Ending.OUR_STOP, Ending.THROTTLED)
FAILURES = [ending for ending in Ending if ending not in OURS]


@given(st.lists(st.sampled_from(FAILURES), max_size=60), st.integers())
def test_every_ending_is_followed_by_a_bounded_wait(endings: list[Ending], seed: int) -> None:
    health = HostHealth(Random(seed))
    now = 0.0
    for ending in endings:
        delay = health.ended(ending, now)
        assert 0 < delay <= PROBE_SECONDS_MAX
        assert health.status in {"active", "idle", "offline"}
        now += delay


def test_a_dead_host_goes_offline_and_is_probed_for_ever_at_a_growing_interval() -> None:
    """Checklist 256, 257."""
    health = HostHealth(Random(1))
    early = [health.ended(Ending.UNREACHABLE, 0.0) for _ in range(OFFLINE_AFTER_FAILURES - 1)]
    assert max(early) <= RETRY_SECONDS_MAX
    assert health.status == "active"

    probes = [health.ended(Ending.UNREACHABLE, 0.0) for _ in range(12)]
    assert health.status == "offline"
    assert PROBE_SECONDS_MAX / 2 <= probes[-1] <= PROBE_SECONDS_MAX


def test_progress_makes_the_next_wait_short_again_and_a_bare_connect_does_not() -> None:
    """Checklist 56."""
    health = HostHealth(Random(1))
    for _ in range(8):
        health.ended(Ending.CLOSED, 0.0)
    health.connected()
    health.stood()
    assert health.ended(Ending.CLOSED, 0.0) > 20
    health.progress()
    assert health.ended(Ending.CLOSED, 0.0) <= 1.0


@pytest.mark.parametrize("status", ["idle", "offline"])
def test_a_host_left_alone_is_active_once_a_connection_lasts_or_an_event_comes(status: str) -> None:
    """A host that takes a connection only to end it does not flap between two states."""
    health = HostHealth(Random(1), status=status)
    health.connected()
    assert health.status == status
    health.stood()
    assert health.status == "active"
    again = HostHealth(Random(1), status=status)
    again.progress()
    assert again.status == "active"


def test_a_host_that_was_never_tried_is_active_once_it_takes_a_connection() -> None:
    """Once: when it sends us away after that, it is like any other."""
    health = HostHealth(Random(1), status="idle", untried=True)
    health.ended(Ending.UNREACHABLE, 0.0)
    assert health.status == "idle"
    health.connected()
    assert health.status == "active"
    health.ended(Ending.FUTURE_CURSOR, 0.0)
    health.connected()
    assert health.status == "idle"


def test_a_host_that_another_relay_calls_offline_has_to_show_more_than_a_connection() -> None:
    health = HostHealth(Random(1), status="offline", untried=True)
    health.connected()
    assert health.status == "offline"


def test_a_host_that_was_offline_at_a_restart_is_not_hammered() -> None:
    health = HostHealth(Random(1), status="offline")
    assert health.ended(Ending.UNREACHABLE, 0.0) >= RETRY_SECONDS_MAX / 2
    assert health.status == "offline"


def test_repeated_framing_faults_within_a_minute_are_offline() -> None:
    health = HostHealth(Random(1))
    for count in range(FRAMING_FAULTS_MAX):
        assert health.status == "active"
        health.progress()
        health.ended(Ending.FRAMING, float(count))
    assert health.status == "offline"


def test_framing_faults_spread_over_time_are_not() -> None:
    health = HostHealth(Random(1))
    for count in range(3 * FRAMING_FAULTS_MAX):
        health.progress()
        health.ended(Ending.FRAMING, count * 10.0)
    assert health.status == "active"


def test_future_cursor_makes_a_host_idle_and_keeps_it_waiting() -> None:
    """Checklist 53."""
    health = HostHealth(Random(1))
    assert health.ended(Ending.FUTURE_CURSOR, 0.0) == FUTURE_CURSOR_SECONDS
    assert health.status == "idle"


@pytest.mark.parametrize("ending", [Ending.FUTURE_CURSOR, Ending.SEQ_BEHIND])
def test_three_connections_over_ten_minutes_are_evidence_for_one_probe_a_day(ending: Ending) -> None:
    """Design section 4; asking often does not make it sooner."""
    health = HostHealth(Random(1))
    for now in (0.0, 1.0, 2.0, 3.0, 599.0):
        health.ended(ending, now)
        assert not health.wants_probe(now)
    health.ended(ending, 600.0)
    assert health.wants_probe(600.0)
    health.probed(600.0)
    for now in (900.0, 1_200.0, 1_500.0):
        health.ended(ending, now)
        assert not health.wants_probe(now)
    later = 600.0 + RESTART_PROBE_INTERVAL_SECONDS
    health.ended(ending, later)
    assert health.wants_probe(later)


def test_progress_takes_the_evidence_away_and_a_probe_of_an_earlier_life_counts() -> None:
    health = HostHealth(Random(1))
    for now in (0.0, 300.0, 600.0):
        health.ended(Ending.FUTURE_CURSOR, now)
    health.progress()
    assert not health.wants_probe(600.0)
    again = HostHealth(Random(1), probed=-1_000.0)
    for now in (0.0, 300.0, 600.0):
        again.ended(Ending.FUTURE_CURSOR, now)
    assert not again.wants_probe(600.0)


def test_a_relay_is_left_alone_for_long() -> None:
    """Checklist 262."""
    health = HostHealth(Random(1))
    assert health.ended(Ending.RELAY, 0.0) == RELAY_SECONDS
    assert health.status == "idle"


def test_a_host_may_ask_for_more_time_but_not_for_ever() -> None:
    health = HostHealth(Random(1))
    assert health.ended(Ending.REFUSED, 0.0, retry_after_seconds=120.0) == 120.0
    assert health.ended(Ending.REFUSED, 0.0, retry_after_seconds=10.0**9) == PROBE_SECONDS_MAX


def test_our_own_stop_is_not_held_against_the_host_and_a_limit_of_ours_is_told() -> None:
    health = HostHealth(Random(1))
    assert health.ended(Ending.OUR_STOP, 0.0) == 0.0
    assert health.status == "active"
    assert health.ended(Ending.THROTTLED, 0.0) == 0.0
    assert health.status == "throttled"
    health.connected()
    assert health.status == "active"
