"""Token buckets and sliding counts against a clock of the test."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.net.limiter import Keyed, SlidingCount, TokenBucket

steps = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 3)), max_size=60)


def test_a_bucket_starts_full_and_refills_at_its_rate() -> None:
    bucket = TokenBucket(rate=2, burst=3, now=100.0)

    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.delay_seconds(100.0) == pytest.approx(0.5)
    assert not bucket.take(100.4)
    assert bucket.take(100.5)
    assert [bucket.take(200.0) for _ in range(4)] == [True, True, True, False]


def test_a_refused_take_takes_nothing() -> None:
    bucket = TokenBucket(rate=1, burst=2, now=0.0)

    assert not bucket.take(0.0, 3)
    assert bucket.take(0.0, 2)


def test_a_clock_that_stands_still_or_steps_back_gives_no_tokens() -> None:
    bucket = TokenBucket(rate=1, burst=1, now=50.0)

    assert bucket.take(50.0)
    assert not bucket.take(10.0)
    assert not bucket.take(50.0)
    assert bucket.take(51.0)


@given(steps, st.floats(0.1, 100), st.integers(3, 20))
def test_a_bucket_never_gives_more_than_burst_plus_rate(
    taken: list[tuple[float, int]], rate: float, burst: int
) -> None:
    bucket = TokenBucket(rate, burst, now=0.0)
    now = 0.0
    total = 0
    for pause, tokens in taken:
        now += pause
        total += tokens if bucket.take(now, tokens) else 0

    assert total <= burst + now * rate + 0.01


@given(steps, st.floats(0.1, 100), st.integers(3, 20))
def test_a_bucket_keeps_its_word_about_the_delay(taken: list[tuple[float, int]], rate: float, burst: int) -> None:
    bucket = TokenBucket(rate, burst, now=0.0)
    now = 0.0
    for pause, tokens in taken:
        now += pause + bucket.delay_seconds(now + pause, tokens)
        assert bucket.take(now, tokens)


def test_a_count_is_exact_within_the_first_window_and_slides_over_the_next() -> None:
    count = SlidingCount(limit=10, window_seconds=60, now=0.0)

    assert [count.take(1.0) for _ in range(11)] == [True] * 10 + [False]
    assert not count.take(60.0)
    assert count.count(90.0) == pytest.approx(5)
    assert [count.take(90.0) for _ in range(6)] == [True] * 5 + [False]
    assert count.count(150.0) == pytest.approx(2.5)
    assert count.count(1000.0) == 0


@given(steps, st.integers(3, 20))
def test_a_count_never_passes_twice_its_limit_in_a_window(taken: list[tuple[float, int]], limit: int) -> None:
    count = SlidingCount(limit, window_seconds=60, now=0.0)
    now = 0.0
    times: list[tuple[float, int]] = []
    for pause, amount in taken:
        now += pause
        if count.take(now, amount):
            times.append((now, amount))
        assert sum(amount for at, amount in times if at > now - 60) < 2 * limit


@given(steps, st.integers(3, 20))
def test_a_count_keeps_its_word_about_the_delay(taken: list[tuple[float, int]], limit: int) -> None:
    count = SlidingCount(limit, window_seconds=60, now=0.0)
    now = 0.0
    for pause, amount in taken:
        delay = count.delay_seconds(now + pause, amount)
        assert delay < 121
        if delay > 0.01:
            assert count.delay_seconds(now + pause + delay - 0.01, amount) > 0
        now += pause + delay
        assert count.take(now, amount)


def test_keys_have_limits_of_their_own_and_the_longest_unused_is_forgotten() -> None:
    limits = Keyed(lambda now: TokenBucket(rate=0.001, burst=1, now=now), keys_max=2)

    assert limits.get("a", 0.0).take(0.0)
    assert limits.get("b", 0.0).take(0.0)
    assert not limits.get("a", 0.0).take(0.0)
    limits.get("c", 0.0)
    assert len(limits) == 2
    assert not limits.get("a", 0.0).take(0.0)
    assert limits.get("b", 0.0).take(0.0)


def test_a_count_of_a_long_silence_costs_no_loop() -> None:
    count = SlidingCount(limit=5, window_seconds=1, now=0.0)
    count.take(0.0, 5)

    assert count.count(1e12) == 0
    assert math.isclose(count.delay_seconds(1e12), 0.0)


def test_tokens_still_to_come_can_be_reserved_one_after_the_other() -> None:
    bucket = TokenBucket(rate=2.0, burst=2, now=0.0)

    assert [bucket.reserve(0.0) for _ in range(4)] == [0.0, 0.0, 0.5, 1.0]
    assert not bucket.take(1.0)
    assert bucket.take(1.5)
