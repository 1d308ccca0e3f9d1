"""What the end of a connection says about its host, and how long to leave it alone. Pure.

    active ──10 failures in a row, or 10 framing faults in a minute──▶ offline
      │ ▲                                                                │
      │ └────────────── connected ◀── probed for ever, 1 min … 1 h ──────┘
      └── FutureCursor ──▶ idle ── asked again every 5 min ──▶ (connected) active

`throttled` and `banned` are an operator's or a limit's word and are not touched here. Only progress, an event accepted,
makes the next delay short again; a bare connect does not (checklist 56).
"""

from collections import deque
from enum import StrEnum
from random import Random

from relay.net.backoff import Backoff

OFFLINE_AFTER_FAILURES = 10
FRAMING_FAULTS_MAX = 10
FRAMING_WINDOW_SECONDS = 60.0
RETRY_FIRST_SECONDS = 1.0
RETRY_SECONDS_MAX = 60.0
PROBE_SECONDS_MAX = 3_600.0
FUTURE_CURSOR_SECONDS = 300.0


class Ending(StrEnum):
    """Why a connection to a host ended, or did not come about; the label of `relay_crawl_reconnects_total`."""

    CLOSED = "closed"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    SILENT = "silent"
    FRAMING = "framing"
    FUTURE_CURSOR = "future_cursor"
    TOO_SLOW = "consumer_too_slow"
    ERROR_FRAME = "error_frame"
    OUR_STOP = "our_stop"


class HostHealth:
    """The memory between two connections of one host: failures in a row, framing faults, the next delay."""

    def __init__(self, rng: Random) -> None:
        self._retry = Backoff(rng, first_seconds=RETRY_FIRST_SECONDS, seconds_max=RETRY_SECONDS_MAX)
        self._probe = Backoff(rng, first_seconds=RETRY_SECONDS_MAX, seconds_max=PROBE_SECONDS_MAX)
        self._framing: deque[float] = deque(maxlen=FRAMING_FAULTS_MAX)
        self.status = "active"

    def connected(self) -> None:
        """The subscription is open."""
        self.status = "active"

    def progress(self) -> None:
        """An event of the host was accepted."""
        self._retry.progress()
        self._probe.progress()

    def ended(self, ending: Ending, now: float) -> float:
        """Take note of an ending at `now` (seconds, any clock); returns how long to wait before the next connection."""
        if ending is Ending.OUR_STOP:
            return 0.0
        if ending is Ending.FRAMING:
            self._framing.append(now)
        if ending is Ending.FUTURE_CURSOR:
            self.status = "idle"
            return FUTURE_CURSOR_SECONDS
        flooded = len(self._framing) == FRAMING_FAULTS_MAX and now - self._framing[0] < FRAMING_WINDOW_SECONDS
        delay = self._retry.next_seconds()
        if not flooded and self._retry.failures < OFFLINE_AFTER_FAILURES:
            return delay
        self.status = "offline"
        return self._probe.next_seconds()
