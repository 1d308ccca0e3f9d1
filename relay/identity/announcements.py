"""Which hosts sent an `#identity` of which DIDs a moment ago, while the directory may not show yet what changed."""

from collections import OrderedDict
from math import inf

ANNOUNCEMENTS_MAX = 50_000
LAG_SECONDS_MAX = 30.0


class Announcements:
    """`now` is any clock in seconds, passed to every call."""

    def __init__(self) -> None:
        self._at: OrderedDict[tuple[str, str], float] = OrderedDict()

    def add(self, did: str, host: str, now: float) -> None:
        """The host announces a change; the oldest announcement goes when there are too many."""
        self._at[did, host] = now
        self._at.move_to_end((did, host))
        if len(self._at) > ANNOUNCEMENTS_MAX:
            self._at.popitem(last=False)

    def seen(self, did: str, host: str) -> None:
        """The directory showed a change that names this host."""
        self._at.pop((did, host), None)

    def may_lag(self, did: str, host: str, now: float) -> bool:
        """Whether the host announced something so short ago that the directory may not show it yet."""
        return now - self._at.get((did, host), -inf) < LAG_SECONDS_MAX
