"""What connections and their ends say about a host: its status, how long to leave it alone, when to probe it. Pure.

            ┌────────── stood 10 s, or an event accepted ──────────┐
            ▼                                                      │
    active ──10 failures in a row, or 10 framing faults a minute──▶ offline   probed for ever, every 1 min … 1 h
      │ ▲ ▲                                                           ▲
      │ │ └────────── stood 10 s, or an event accepted ──┐            │ 10 failures in a row
      │ └── the limit lets us read on ── throttled       │            │
      │                                     ▲            │            │
      ├── we stopped reading for a limit ───┘            │            │
      └── FutureCursor, seqs that went back, a relay ──▶ idle ────────┘
                     asked again every 5 min (a relay: every hour)

A host begins as idle and untried, and its first connection makes it active. `banned` is an operator's word and lies
outside: a banned host is not followed at all. A requestCrawl ends any wait. A bare connect changes nothing for a host
that became idle or offline, since such hosts often take a connection only to end it; and only progress, an event
accepted, makes the next delay short again (checklist 56).

A host that restarted its seqs answers our cursor with FutureCursor, or sends seqs that we are past. When three
connections over ten minutes or more ended so, the next one is a probe (`relay.crawl.probe`), at most once a day
(design section 4).
"""

from collections import deque
from enum import StrEnum
from math import inf
from random import Random

from relay.net.backoff import Backoff

OFFLINE_AFTER_FAILURES = 10
FRAMING_FAULTS_MAX = 10
FRAMING_WINDOW_SECONDS = 60.0
RETRY_FIRST_SECONDS = 1.0
RETRY_SECONDS_MAX = 60.0
PROBE_SECONDS_MAX = 3_600.0
FUTURE_CURSOR_SECONDS = 300.0
RELAY_SECONDS = 3_600.0
RESTART_CONNECTIONS = 3
RESTART_SECONDS_MIN = 600.0
RESTART_PROBE_INTERVAL_SECONDS = 86_400.0


class Ending(StrEnum):
    """Why a connection to a host ended, or did not come about; the label of `relay_crawl_reconnects_total`."""

    CLOSED = "closed"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    SILENT = "silent"
    FRAMING = "framing"
    FUTURE_CURSOR = "future_cursor"
    SEQ_BEHIND = "seq_behind"
    TOO_SLOW = "consumer_too_slow"
    ERROR_FRAME = "error_frame"
    RELAY = "relay"
    OUR_STOP = "our_stop"
    THROTTLED = "throttled"


_OURS = frozenset({Ending.OUR_STOP, Ending.THROTTLED})
_CURSOR_AHEAD = frozenset({Ending.FUTURE_CURSOR, Ending.SEQ_BEHIND})


class HostHealth:
    """The memory between two connections of one host. `now` is any clock in seconds that only rises.

    `status` is where it begins, `untried` says that no connection led there; `probed` is when it was last probed on
    that clock, which may be before it began.
    """

    def __init__(self, rng: Random, *, status: str = "active", untried: bool = False, probed: float = -inf) -> None:
        self._retry = Backoff(rng, first_seconds=RETRY_FIRST_SECONDS, seconds_max=RETRY_SECONDS_MAX)
        self._probe = Backoff(rng, first_seconds=RETRY_SECONDS_MAX, seconds_max=PROBE_SECONDS_MAX)
        self._framing: deque[float] = deque(maxlen=FRAMING_FAULTS_MAX)
        self._ahead: list[float] = []  # when connections ended because our cursor is ahead of the host, in a row
        self._probed = probed
        self._untried = untried
        self.status = status if status in ("idle", "offline") else "active"

    def connected(self) -> None:
        """The subscription is open."""
        if self.status == "throttled" or (self.status == "idle" and self._untried):
            self.status = "active"
        self._untried = False

    def stood(self) -> None:
        """The connection has lasted: nobody hung up, and no error came."""
        self.status = "active"

    def progress(self) -> None:
        """An event of the host was accepted."""
        self.status = "active"
        self._retry.progress()
        self._probe.progress()
        self._ahead.clear()

    def wants_probe(self, now: float) -> bool:
        """Whether the next connection should find out if the host's seqs began anew."""
        enough = len(self._ahead) >= RESTART_CONNECTIONS and self._ahead[-1] - self._ahead[0] >= RESTART_SECONDS_MIN
        return enough and now - self._probed >= RESTART_PROBE_INTERVAL_SECONDS

    def probed(self, now: float) -> None:
        """It was asked; whatever came of it, the evidence is used up."""
        self._probed = now
        self._ahead.clear()

    def ended(self, ending: Ending, now: float, retry_after_seconds: float = 0.0) -> float:
        """Take note of an ending; returns how long to wait before the next connection.

        `retry_after_seconds` is what the host asked for, and is kept up to an hour.
        """
        if ending in _OURS:
            self.status = "throttled" if ending is Ending.THROTTLED else self.status
            return 0.0
        if ending in _CURSOR_AHEAD:
            self._ahead.append(now)
            del self._ahead[1:-RESTART_CONNECTIONS]  # the first says since when, the rest is bounded
            self.status = "idle"
            return FUTURE_CURSOR_SECONDS
        if ending is Ending.RELAY:
            self.status = "idle"
            return RELAY_SECONDS
        if ending is Ending.FRAMING:
            self._framing.append(now)
        flooded = len(self._framing) == FRAMING_FAULTS_MAX and now - self._framing[0] < FRAMING_WINDOW_SECONDS
        delay = self._retry.next_seconds()
        if flooded or self.status == "offline" or self._retry.failures >= OFFLINE_AFTER_FAILURES:
            self.status = "offline"
            delay = self._probe.next_seconds()
        return max(delay, min(retry_after_seconds, PROBE_SECONDS_MAX))
