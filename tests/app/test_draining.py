"""The parts of the time of a stop fit into each other, whatever time there is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.app.draining import EXIT_SECONDS, ROLE_SHARES, consumer_times, role_seconds, worker_seconds
from relay.app.settings import RelaySettings, serve_role

DRAIN_SECONDS = st.floats(min_value=0.001, max_value=600)


@given(DRAIN_SECONDS)
def test_the_roles_together_take_the_time_of_a_stop(drain_seconds: float) -> None:
    assert sum(role_seconds(role, drain_seconds) for role in ROLE_SHARES) == pytest.approx(drain_seconds)


@given(DRAIN_SECONDS, st.sampled_from(list(ROLE_SHARES)))
def test_a_worker_ends_before_the_supervisor_gives_it_up(drain_seconds: float, role: str) -> None:
    """By at least the time that a process takes to end, or by half of what little there is."""
    waits = role_seconds(role, drain_seconds)
    ends = worker_seconds(role, drain_seconds)

    assert 0 < ends < waits
    assert waits - ends == pytest.approx(EXIT_SECONDS) or ends == pytest.approx(waits / 2)


@given(DRAIN_SECONDS)
def test_consumers_are_gone_before_their_worker_is_cancelled(drain_seconds: float) -> None:
    times = consumer_times(drain_seconds)

    assert min(times) > 0
    assert sum(times) < worker_seconds("serve", drain_seconds)


def test_a_serve_worker_is_handed_its_part_of_the_time() -> None:
    role = serve_role(RelaySettings(drain_seconds=4.0))

    assert (role.flush_seconds, role.farewell_seconds) == consumer_times(4.0)


def test_no_time_at_all_is_shared_out_too() -> None:
    assert consumer_times(0) == (0, 0)
    assert {role_seconds(role, 0) for role in ROLE_SHARES} == {0}
