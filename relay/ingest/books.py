"""What is counted of one host's events: for its row, mark by mark, and for the metrics of this process.

The books balance for each stream (design invariant 10): received = appended + Σ dropped{reason} + in flight. Decides
nothing and has no clock; which seqs those are is `relay.ingest.place`.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from relay.ingest.pipeline import CHAIN_BREAK, UNPROVEN
from relay.observe.metrics import Metrics
from relay.protocol.frame import MessageFrame
from relay.store.batch import HostMark
from relay.verify.facts import HostView
from relay.verify.verdict import Reason

BACKLOG_SECONDS = 15.0  # without an event for so long, whatever there was is read


class Books:
    """The counts of one host. `progress` is how many of its events were appended, `last_event_ms` when it last sent."""

    def __init__(self, metrics: Metrics) -> None:
        self.progress = 0
        self.last_event_ms = 0
        self._metrics = metrics
        self._age_seconds = 0.0
        self._accepted = 0  # these two since the last mark
        self._dropped: Counter[str] = Counter()

    def received(self, kind: str) -> None:
        """One more message: its event type, "error", "unknown" or "unreadable"."""
        self._metrics.ingest.frames_received.labels(kind).inc()

    def dropped(self, reason: Reason) -> None:
        """One more that is not passed on."""
        self._dropped[reason] += 1
        self._metrics.ingest.events_dropped.labels(reason).inc()

    def accepted(self) -> None:
        """One more is part of a batch on its way; the store corrects the row's count if it is refused."""
        self._accepted += 1

    def appended(self, frame: MessageFrame, remarks: Sequence[str], now_ms: int) -> None:
        """One more is in the log: the frame as it came, and what there was to remark on it."""
        self.progress += 1
        self._metrics.append.events_appended.labels(frame.type, "host").inc()
        age_seconds = age_of(frame, now_ms)
        if age_seconds is not None:
            self._metrics.ingest.lag_seconds.observe(age_seconds)
            self._age_seconds = age_seconds
        if UNPROVEN in remarks:
            self._metrics.ingest.events_unproven.inc()
        if CHAIN_BREAK in remarks:
            self._metrics.ingest.chain_breaks.inc()

    def backlog_seconds(self, now_ms: int) -> float:
        """How old what is read now is; 0.0 when nothing was read for a while, so that there is nothing left."""
        return self._age_seconds if now_ms - self.last_event_ms < BACKLOG_SECONDS * 1_000 else 0.0

    def take_mark(self, host: HostView, low_water: int, *, proven: bool) -> HostMark:
        """How far the host is settled, and what was counted since the last call."""
        mark = HostMark(
            host_id=host.host_id,
            epoch=host.epoch,
            low_water=low_water,
            last_event_ms=self.last_event_ms,
            accepted=self._accepted,
            dropped=dict(self._dropped),
            proven=proven,
        )
        self._accepted = 0
        self._dropped.clear()
        return mark


def age_of(frame: MessageFrame, now_ms: int) -> float | None:
    """Seconds since the event's own `time`, never below 0; None for one that is no moment (it may be any text)."""
    try:
        moment = datetime.fromisoformat(frame.payload["time"])
    except ValueError:
        return None
    return max(0.0, now_ms / 1000 - moment.timestamp()) if moment.tzinfo else None
