"""Delays between tries: bounds, growth, and what makes them short again."""

from random import Random

from relay.net.backoff import Backoff


def test_delays_double_to_the_cap_and_stay_in_the_upper_half_of_their_step() -> None:
    backoff = Backoff(Random(7), first_seconds=1.0, seconds_max=10.0)
    delays = [backoff.next_seconds() for _ in range(6)]

    for delay, step in zip(delays, [1, 2, 4, 8, 10, 10], strict=True):
        assert step / 2 <= delay <= step
    assert backoff.failures == 6


def test_progress_starts_over() -> None:
    backoff = Backoff(Random(7), first_seconds=1.0, seconds_max=10.0)
    for _ in range(5):
        backoff.next_seconds()
    backoff.progress()

    assert backoff.failures == 0
    assert backoff.next_seconds() <= 1.0


def test_the_same_seed_gives_the_same_delays_and_peers_spread() -> None:
    def delays(seed: int) -> list[float]:
        backoff = Backoff(Random(seed), first_seconds=1.0, seconds_max=60.0)
        return [backoff.next_seconds() for _ in range(8)]

    assert delays(1) == delays(1)
    assert len({delays(seed)[7] for seed in range(50)}) == 50


def test_a_thousand_failures_neither_overflow_nor_pass_the_cap() -> None:
    backoff = Backoff(Random(7), first_seconds=0.5, seconds_max=60.0)
    assert max(backoff.next_seconds() for _ in range(1000)) <= 60.0
