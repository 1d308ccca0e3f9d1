"""Figures over time for operators: every few seconds a look at all host rows, and what follows from two looks.

Owns the samples of this worker: totals of the last hour, and a short series for each host. They begin when the worker
does; rates of the whole backfill window come out of the log itself. Counts in host rows are totals since the host was
first seen, so a rate is the difference of two looks.
"""

from array import array
from collections import deque
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple

import trio

from relay.store.hosts import HostRow
from relay.store.store import Store

SAMPLE_SECONDS = 5.0
FRESH_SECONDS = 1.0
SAMPLES_KEPT = 720  # an hour
SERIES_KEPT = 61  # sixty rates, five minutes
HOSTS_MAX = 20_000  # rows held in memory; about 1 kB each
ROWS_PER_TXN = 128
_RATE_LOOKS = 7  # half a minute between the first and the last


class Sample(NamedTuple):
    """Totals over all hosts at a moment: events accepted, drops by reason."""

    time_ms: int
    accepted: int
    dropped: Mapping[str, int]


class Series:
    """One host's accepted events at the last looks. May be asked in a thread: each answer is out of one copy."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts = array("q")

    def add(self, accepted: int) -> None:
        """Take one look's count; the oldest goes when there are too many."""
        self.counts.append(accepted)
        if len(self.counts) > SERIES_KEPT:
            del self.counts[0]

    def rates(self) -> list[float]:
        """Events a second between the looks, oldest first."""
        counts = self.counts[:]
        return [round(max(0, after - before) / SAMPLE_SECONDS, 2) for before, after in pairwise(counts)]

    def rate(self) -> float:
        """Events a second over the last `_RATE_LOOKS` looks; 0 while there were no two."""
        counts = self.counts[-_RATE_LOOKS:]
        if len(counts) < 2:
            return 0.0
        return round(max(0, counts[-1] - counts[0]) / (len(counts) - 1) / SAMPLE_SECONDS, 2)


class Figures:
    """What the last looks showed. `now_ms` is the wall clock."""

    def __init__(self, store: Store, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms
        self._series: dict[int, Series] = {}
        self._looked_at = float("-inf")
        self._generation = -1
        self._looking = trio.Lock()
        self.rows: dict[int, HostRow] = {}
        self.samples: deque[Sample] = deque(maxlen=SAMPLES_KEPT)

    async def run(self) -> None:
        """Take samples until cancelled. Raises `StoreError`."""
        while True:
            await self.look()
            self.samples.append(await self._sample())
            await trio.sleep(SAMPLE_SECONDS)

    async def fresh(self) -> Mapping[int, HostRow]:
        """All hosts by id, at most a second old and never older than what an operator did. Raises `StoreError`."""
        with self._store.view() as view:
            generation = view.generation()
        if generation != self._generation or trio.current_time() - self._looked_at > FRESH_SECONDS:
            await self.look()
        return self.rows

    def rates(self, host_id: int) -> list[float]:
        """Events a second of a host over the last minutes, oldest first; empty while there were no two looks."""
        series = self._series.get(host_id)
        return series.rates() if series is not None else []

    def rate(self, host_id: int) -> float:
        """Events a second of a host over the last half minute."""
        series = self._series.get(host_id)
        return series.rate() if series is not None else 0.0

    async def look(self) -> Mapping[int, HostRow]:
        """All hosts by id, as they are now. Raises `StoreError`."""
        async with self._looking:
            rows: dict[int, HostRow] = {}
            after_id = 0
            with self._store.view() as view:
                generation = view.generation()
            while len(rows) < HOSTS_MAX:
                with self._store.view() as view:
                    page = view.hosts(after_id, ROWS_PER_TXN)
                if not page:
                    break
                rows |= {row.host_id: row for row in page}
                after_id = page[-1].host_id
                await trio.lowlevel.checkpoint()
            self.rows = rows
            self._generation = generation
            self._looked_at = trio.current_time()
        return self.rows

    async def _sample(self) -> Sample:
        """Totals, and each host's count into its series."""
        dropped: dict[str, int] = {}
        accepted = 0
        for place, row in enumerate(self.rows.values()):
            if place % ROWS_PER_TXN == 0:
                await trio.lowlevel.checkpoint()
            self._series.setdefault(row.host_id, Series()).add(row.accepted)
            accepted += row.accepted
            for reason, count in row.dropped.items():
                dropped[reason] = dropped.get(reason, 0) + count
        return Sample(self._now_ms(), accepted, dropped)
