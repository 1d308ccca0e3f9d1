"""Rates: token buckets, sliding counts, and a bounded set of either by key.

Pure: `now` is any clock that does not run backwards, in seconds, passed to every call. Nothing here waits; a limit that
works by backpressure asks `delay_seconds` and sleeps itself (checklist 252).
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Limit = TypeVar("Limit")

# A wait of exactly `delay_seconds` must be enough although both it and the clock are floats.
_ROUNDING = 1e-6


class TokenBucket:
    """`rate` tokens a second, at most `burst` saved up; full at the start."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        assert rate > 0
        assert burst >= 1
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float, tokens: float = 1) -> bool:
        """Take the tokens if they are there; nothing is taken otherwise."""
        self._fill(now)
        if self._tokens < tokens - _ROUNDING:
            return False
        self._tokens -= tokens
        return True

    def delay_seconds(self, now: float, tokens: float = 1) -> float:
        """How long until `take` would succeed; 0.0 when it would now. `tokens` beyond the burst never come."""
        assert tokens <= self._burst
        self._fill(now)
        missing = tokens - self._tokens
        return missing / self._rate if missing > _ROUNDING else 0.0

    def reserve(self, now: float, tokens: float = 1) -> float:
        """Take the tokens, even ones that are still to come; how long until they are there, in seconds."""
        self._fill(now)
        self._tokens -= tokens
        return max(0.0, -self._tokens / self._rate)

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = max(self._at, now)


class SlidingCount:
    """At most `limit` in any `window_seconds`, estimated from two adjacent windows: constant memory for any limit.

    The window before counts in proportion to how much of it is still inside; exact when events come evenly.
    """

    __slots__ = ("_before", "_count", "_limit", "_start", "_window_seconds")

    def __init__(self, limit: float, window_seconds: float, now: float) -> None:
        assert limit >= 1
        assert window_seconds > 0
        self._limit = limit
        self._window_seconds = window_seconds
        self._start = now
        self._count = 0.0
        self._before = 0.0

    def take(self, now: float, amount: float = 1) -> bool:
        """Count `amount` if it stays within the limit; nothing is counted otherwise."""
        if self.count(now) + amount > self._limit + _ROUNDING:
            return False
        self._count += amount
        return True

    def count(self, now: float) -> float:
        """The estimated count of the window that ends now."""
        self._roll(now)
        inside = 1 - min(1.0, max(0.0, now - self._start) / self._window_seconds)
        return self._count + self._before * inside

    def delay_seconds(self, now: float, amount: float = 1) -> float:
        """How long until `take` would succeed if nothing else is counted; 0.0 when it would now."""
        assert amount <= self._limit
        room = self._limit - amount
        if self.count(now) <= room + _ROUNDING:
            return 0.0
        elapsed_seconds = max(0.0, now - self._start)
        if self._count <= room:
            return self._window_seconds * (1 - (room - self._count) / self._before) - elapsed_seconds
        return self._window_seconds * (2 - room / self._count) - elapsed_seconds

    def _roll(self, now: float) -> None:
        windows = int(max(0.0, now - self._start) // self._window_seconds)
        if windows:
            self._before = self._count if windows == 1 else 0.0
            self._count = 0.0
            self._start += windows * self._window_seconds


class Keyed(Generic[Limit]):
    """One limit per key, made at first use, at most `keys_max` of them.

    The key that was unused longest is forgotten first, which gives it a fresh limit: choose `keys_max` above the number
    of keys that can be busy within a window.
    """

    def __init__(self, make: Callable[[float], Limit], keys_max: int) -> None:
        """`make(now)` builds the limit of a new key."""
        assert keys_max >= 1
        self._make = make
        self._keys_max = keys_max
        self._limits: OrderedDict[str, Limit] = OrderedDict()

    def get(self, key: str, now: float) -> Limit:
        """The limit of this key."""
        limit = self._limits.get(key)
        if limit is None:
            limit = self._limits[key] = self._make(now)
            if len(self._limits) > self._keys_max:
                self._limits.popitem(last=False)
        else:
            self._limits.move_to_end(key)
        return limit

    def __len__(self) -> int:
        return len(self._limits)
