"""How fast a host is read: its rates as a debt that the reader pays by waiting. Pure; nothing is ever dropped.

Messages come in reads of many, so they are counted after they came and the next read waits until the limits have taken
all of them (checklist 252). A wait of more than 20 s ends the connection and keeps the cursor, as any stop of ours.
"""

from relay.crawl.limits import Limits
from relay.net.limiter import SlidingCount, TokenBucket

HOUR_SECONDS, DAY_SECONDS = 3_600.0, 86_400.0


class Pace:
    """The rates of one host. `now` is any clock in seconds that does not run backwards."""

    def __init__(self, limits: Limits, new_accounts_per_second: float, now: float) -> None:
        self._new_accounts_per_second = new_accounts_per_second
        self._owed = 0
        self._owed_accounts = 0
        self._limits = limits
        self._fill(limits, now)

    def change(self, limits: Limits, now: float) -> None:
        """Go by other limits from now on; counts begin anew, debts stay."""
        if limits != self._limits:
            self._limits = limits
            self._fill(limits, now)

    def spend(self, events: int, new_accounts: int) -> None:
        """So much was read."""
        self._owed += events
        if self._limits.is_stranger:
            self._owed_accounts += new_accounts

    def delay_seconds(self, now: float) -> float:
        """How long to wait before asking again; 0.0 when everything read so far is paid."""
        while self._owed:
            part = min(self._owed, self._part)
            delay = max(
                self._second.delay_seconds(now, part),
                self._hour.delay_seconds(now, part),
                self._day.delay_seconds(now, part),
            )
            if delay > 0:
                return delay
            for limit in (self._second, self._hour, self._day):
                limit.take(now, part)
            self._owed -= part
        while self._owed_accounts:
            if not self._accounts.take(now):
                return self._accounts.delay_seconds(now)
            self._owed_accounts -= 1
        return 0.0

    def usage(self, now: float) -> float:
        """The fullest of hour and day, 1.0 at the limit."""
        return max(self._hour.count(now) / self._limits.per_hour, self._day.count(now) / self._limits.per_day)

    def reason(self, now: float) -> str:
        """Which limit makes the reader wait, in words; "" when none does."""
        part = min(self._owed, self._part)
        if part and self._day.delay_seconds(now, part):
            return f"over its limit of {self._limits.per_day} events a day"
        if part and self._hour.delay_seconds(now, part):
            return f"over its limit of {self._limits.per_hour} events an hour"
        if part and self._second.delay_seconds(now, part):
            return f"over its limit of {self._limits.per_second} events a second"
        if self._owed_accounts:
            return f"over its limit of {self._new_accounts_per_second:g} new accounts a second"
        return ""

    def _fill(self, limits: Limits, now: float) -> None:
        self._second = TokenBucket(limits.per_second, limits.per_second, now)
        self._hour = SlidingCount(limits.per_hour, HOUR_SECONDS, now)
        self._day = SlidingCount(limits.per_day, DAY_SECONDS, now)
        self._part = min(limits.per_second, limits.per_hour, limits.per_day)
        rate = self._new_accounts_per_second
        self._accounts = TokenBucket(rate, max(1.0, rate), now)
