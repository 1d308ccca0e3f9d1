"""How long a host is left alone, and what it is called meanwhile."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from relay.crawl.hoststate import (
    FRAMING_FAULTS_MAX,
    FUTURE_CURSOR_SECONDS,
    OFFLINE_AFTER_FAILURES,
    PROBE_SECONDS_MAX,
    RETRY_SECONDS_MAX,
    Ending,
    HostHealth,
)

FAILURES = [ending for ending in Ending if ending is not Ending.OUR_STOP]


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
    assert health.ended(Ending.CLOSED, 0.0) > 20
    health.progress()
    assert health.ended(Ending.CLOSED, 0.0) <= 1.0


def test_an_offline_host_that_connects_is_active() -> None:
    health = HostHealth(Random(1))
    for _ in range(OFFLINE_AFTER_FAILURES):
        health.ended(Ending.UNREACHABLE, 0.0)
    health.connected()
    assert health.status == "active"


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


def test_our_own_stop_is_not_held_against_the_host() -> None:
    health = HostHealth(Random(1))
    assert health.ended(Ending.OUR_STOP, 0.0) == 0.0
    assert health.status == "active"
