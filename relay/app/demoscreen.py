"""What people see of `relay demo`: a line a second, redrawn in place on a terminal, and a summary at the end."""

import sys
from collections import Counter
from typing import NamedTuple, TextIO

from relay.app.scorecard import Scorecard

HEADINGS = ("time", "sent", "verified", "dropped", "stored", "received", "rate", "under way")


class Figures(NamedTuple):
    """The state of a demonstration at one moment. `dropped` is by reason; rates are events a second since the start."""

    seconds: float
    sent: int
    verified: int
    dropped: Counter[str]
    stored: int
    received: int
    under_way: int

    @classmethod
    def of(cls, exposition: str, scorecard: Scorecard, seconds: float) -> "Figures":
        """From a scrape of the relay and the scorecard of its consumer."""
        dropped: Counter[str] = Counter()
        stored = received_by_relay = 0.0
        for line in exposition.splitlines():
            name, _, value = line.rpartition(" ")
            if name.startswith("relay_ingest_events_dropped_total{"):
                dropped[name.split('reason="')[1].split('"')[0]] += int(float(value))
            elif name.startswith("relay_log_events_appended_total{"):
                stored += float(value)
            elif name.startswith("relay_ingest_frames_received_total{"):
                received_by_relay += float(value)
        return cls(
            seconds=seconds,
            sent=scorecard.events_sent,
            verified=int(received_by_relay) - dropped.total(),
            dropped=+dropped,  # without those that did not occur
            stored=int(stored),
            received=scorecard.events_received,
            under_way=scorecard.events_to_pass - scorecard.events_received,
        )


class Screen:
    """Writes to `stream`; redraws its table when that is a terminal."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self._redraws = stream.isatty()
        self._has_heading = False

    def say(self, text: str) -> None:
        """A line of its own."""
        print(text, file=self._stream, flush=True)

    def show(self, figures: Figures) -> None:
        """The figures of now."""
        if not self._has_heading:
            self.say("".join(f"{heading:>11}" for heading in HEADINGS))
            self._has_heading = True
        rate = figures.received / figures.seconds if figures.seconds else 0.0
        cells = (
            f"{figures.seconds:.0f} s",
            f"{figures.sent:,}",
            f"{figures.verified:,}",
            f"{figures.dropped.total():,}",
            f"{figures.stored:,}",
            f"{figures.received:,}",
            f"{rate:,.0f}/s",
            f"{figures.under_way:,}",
        )
        row = "".join(f"{cell:>11}" for cell in cells)
        print(row, end="\r" if self._redraws else "\n", file=self._stream, flush=True)

    def finish(self, figures: Figures, scorecard: Scorecard) -> None:
        """The summary."""
        must_not_pass = scorecard.events_sent - scorecard.events_to_pass
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in figures.dropped.most_common())
        in_order = "all in order, no gap in seq" if scorecard.is_complete else "NOT as sent"
        megabytes = scorecard.bytes_received / 1e6
        self.say("")
        self.say("")
        self.say(f"sent      {figures.sent:>9,}  by the simulated hosts; {must_not_pass:,} of them must not pass")
        self.say(f"verified  {figures.verified:>9,}  dropped {figures.dropped.total():,}: {reasons or 'none'}")
        self.say(f"stored    {figures.stored:>9,}  up to seq {scorecard.last_seq}")
        self.say(f"received  {figures.received:>9,}  by the consumer, {megabytes:,.1f} MB, {in_order}")
        for fault in scorecard.faults:
            self.say(f"  fault: {fault}")
        if scorecard.is_complete:
            self.say("OK: every event that must pass arrived, verified and in order.")
        else:
            self.say(f"FAILED: {figures.under_way:,} events missing, {len(scorecard.faults)} faults.")
