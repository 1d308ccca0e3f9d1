"""What speaks against our own clock, looked for once a minute: it was set, or most hosts seem to live in its future.

A clock that is behind by more than the tolerance of `rev` drops every commit of every host, and each drop looks like a
fault of that host. One host or a few with a wrong clock say nothing about ours: it takes more than half of those that
were heard in the same minutes. Owns that judgement; `/_ready` has the words (`relay.serve.pages`).
"""

from collections.abc import Callable, Mapping

from relay.app.hostwatch import Counts
from relay.observe.logs import get_logger
from relay.store.policy import CLOCK, ClockDoubt, encoded
from relay.store.store import Store

DOUBT_MS = 300_000  # for so long after it was seen, by a clock that nobody can set
STEP_MS_MAX = 60_000  # between two looks; what is below is no danger to any rev, whose tolerance is five minutes
FUTURE_SHARE = 0.5  # of the hosts that were heard: more of them than that in our future are no chance

_log = get_logger("clock")


class ClockWatch:
    """One look after the other. `now_ms` is the wall clock, `up_ms` one that nobody can set. Blocks: for a thread."""

    def __init__(self, store: Store, now_ms: Callable[[], int], up_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms
        self._up_ms = up_ms
        self._offset_ms = now_ms() - up_ms()
        self._stepped_ms = 0
        self._stepped_at = 0
        self._counts: Mapping[int, Counts] | None = None
        self._heard: dict[int, int] = {}  # host id -> when it last sent anything, by `up_ms`
        self._future: dict[int, int] = {}  # host id -> when it last sent something of our future

    def look(self, counts: Mapping[int, Counts]) -> None:
        """Judge by what was counted of each host up to now; write and log what is new. Raises `StoreError`."""
        up_ms = self._up_ms()
        self._see_step(up_ms)
        self._see_hosts(counts, up_ms)
        heard, future = len(self._heard), len(self._future)
        is_future = future > heard * FUTURE_SHARE
        doubt = ClockDoubt(future if is_future else 0, heard if is_future else 0, self._stepped_ms)
        with self._store.view() as view:
            before = view.policy(CLOCK, ClockDoubt, ClockDoubt())
        if is_future and not before.hosts:
            _log.warning("clock_behind_hosts", hosts=future, heard=heard, dropped_as="rev_in_future")
        if doubt != before:
            self._store.note_policy(CLOCK, encoded(doubt))

    def _see_step(self, up_ms: int) -> None:
        offset_ms = self._now_ms() - up_ms
        step_ms, self._offset_ms = offset_ms - self._offset_ms, offset_ms
        if abs(step_ms) > STEP_MS_MAX:
            self._stepped_ms, self._stepped_at = step_ms, up_ms
            _log.warning("clock_stepped", seconds=round(step_ms / 1_000))
        elif up_ms - self._stepped_at > DOUBT_MS:
            self._stepped_ms = 0

    def _see_hosts(self, counts: Mapping[int, Counts], up_ms: int) -> None:
        """Who sent something since the last look. The first look only learns what was counted before."""
        before, self._counts = self._counts, counts
        if before is None:
            return
        for host_id, now in counts.items():
            then = before.get(host_id, Counts(0, 0))
            if now.events > then.events:
                self._heard[host_id] = up_ms
            if now.in_future > then.in_future:
                self._future[host_id] = up_ms
        self._heard = _recent(self._heard, up_ms)
        self._future = _recent(self._future, up_ms)


def _recent(seen: Mapping[int, int], up_ms: int) -> dict[int, int]:
    return {host_id: at for host_id, at in seen.items() if up_ms - at <= DOUBT_MS}
