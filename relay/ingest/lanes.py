"""Order for each DID, and how far a host's stream is settled: plain data structures, no tasks.

A **lane** holds the events of one DID from one host that cannot be judged yet, in their order; while it holds any,
later events of that DID queue behind them and every other DID goes on. The **low-water mark** is the host cursor: the
highest upstream seq below which everything is settled (design section 4).
"""

import heapq
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from relay.protocol.events import AccountScoped
from relay.protocol.frame import MessageFrame

HELD_SEQS_MAX = 65_536  # seqs remembered above the oldest unsettled one of a host: beyond it, its reader stops
PENDING_OVERHEAD_BYTES = 1_000  # what a decoded frame costs beside its bytes, roughly


class Pending(NamedTuple):
    """An event that is received and not settled. `since` is the loop's clock when it came, `frame_bytes` its size."""

    event: AccountScoped
    frame: MessageFrame
    frame_bytes: int
    since: float


class LowWater:
    """Received and settled upstream seqs of one host. Settling may come in any order; receiving rises."""

    def __init__(self, start: int) -> None:
        self.received = start
        self._open: list[int] = []
        self._settled: set[int] = set()

    def receive(self, seq: int) -> None:
        """Note a seq as received and unsettled; it must be above every one before."""
        assert seq > self.received, "upstream seqs rise on one stream"
        self.received = seq
        heapq.heappush(self._open, seq)

    def settle(self, seq: int) -> None:
        """Note a received seq as appended or finally dropped."""
        self._settled.add(seq)

    def reopen(self, seq: int) -> None:
        """A settled seq turns out not to be: its append was refused, and it waits again."""
        if seq in self._settled:
            self._settled.discard(seq)
        else:
            heapq.heappush(self._open, seq)

    @property
    def mark(self) -> int:
        """The host cursor: everything up to here is settled."""
        while self._open and self._open[0] in self._settled:
            self._settled.discard(heapq.heappop(self._open))
        return self._open[0] - 1 if self._open else self.received

    @property
    def held(self) -> int:
        """How many seqs are remembered: all from the oldest unsettled one on."""
        return len(self._open)

    @property
    def in_flight(self) -> int:
        """Received and not settled."""
        return len(self._open) - len(self._settled)


class Lane:
    """The waiting events of one DID from one host, oldest first."""

    def __init__(self) -> None:
        self._waiting: deque[Pending] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def head(self) -> Pending:
        """The event that has to be judged next."""
        return self._waiting[0]

    def push(self, pending: Pending) -> None:
        """Queue behind the others."""
        self._waiting.append(pending)
        self.bytes += pending.frame_bytes + PENDING_OVERHEAD_BYTES

    def put_back(self, refused: Iterable[Pending]) -> None:
        """Return refused events, oldest first, to the head."""
        for pending in reversed(list(refused)):
            self._waiting.appendleft(pending)
            self.bytes += pending.frame_bytes + PENDING_OVERHEAD_BYTES

    def pop(self) -> Pending:
        """Take the head."""
        pending = self._waiting.popleft()
        self.bytes -= pending.frame_bytes + PENDING_OVERHEAD_BYTES
        return pending
