"""One host's place in its stream: which upstream seqs came, which are settled, where to resume. Plain data, no tasks.

The **low-water mark** is the host cursor: the highest upstream seq up to which everything is settled (design section
4). A new connection of this worker resumes at the highest seq received instead, since what is in flight is held here.
"""

import heapq

from relay.verify.verdict import Reason

HELD_SEQS_MAX = 65_536  # seqs remembered above the oldest unsettled one of a host: beyond it, its reader stops
UNFIT_SEQ_JUMP_MAX = 1_000_000  # how far an event that is none may move the cursor: its seq may be as wrong as the rest


class Place:
    """Received and settled seqs of one host, from `cursor` on; None for a host that was never read.

    `behind` is how many events in a row, up to the last, were at or below the cursor. Settling may come in any order.
    """

    def __init__(self, cursor: int | None) -> None:
        self.behind = 0
        self._received = -1 if cursor is None else cursor
        self._connection_begins = True
        self._open: list[int] = []  # a heap of all seqs from the oldest unsettled one on
        self._settled: set[int] = set()  # those of them that are settled

    @property
    def cursor(self) -> int | None:
        """The highest seq received, None before the first."""
        return self._received if self._received >= 0 else None

    @property
    def mark(self) -> int:
        """The host cursor: everything up to here is settled. -1 when nothing was ever read."""
        while self._open and self._open[0] in self._settled:
            self._settled.discard(heapq.heappop(self._open))
        return self._open[0] - 1 if self._open else self._received

    @property
    def held(self) -> int:
        """How many seqs are remembered: all from the oldest unsettled one on."""
        return len(self._open)

    @property
    def in_flight(self) -> int:
        """Received and not settled."""
        return len(self._open) - len(self._settled)

    def reconnected(self) -> None:
        """A new connection begins: its first message may repeat our cursor (checklist 48)."""
        self._connection_begins = True
        self.behind = 0

    def restart(self) -> None:
        """The host's seqs began anew, and are received from the beginning."""
        assert not self.in_flight, "seqs of two epochs do not mix"
        self._received = 0
        self._open.clear()
        self._settled.clear()

    def receive(self, seq: int) -> Reason | None:
        """Note the seq of an event, in flight from now on; a reason, if it is not new on this stream and is dropped."""
        begins, self._connection_begins = self._connection_begins, False
        if seq <= self._received:
            repeats_cursor = begins and seq == self._received
            self.behind += not repeats_cursor
            return Reason.REPLAYED if repeats_cursor else Reason.SEQ_NOT_INCREASING
        self.behind = 0
        self._received = seq
        heapq.heappush(self._open, seq)
        return None

    def pass_over(self, seq: int) -> None:
        """Note the seq of what holds no event, settled at once. One that does not rise, or leaps, is not believed."""
        if 0 < seq - self._received <= UNFIT_SEQ_JUMP_MAX:
            self._connection_begins = False
            self._received = seq
            heapq.heappush(self._open, seq)
            self._settled.add(seq)

    def settle(self, seq: int) -> None:
        """A received seq is appended or finally dropped."""
        self._settled.add(seq)

    def reopen(self, seq: int) -> None:
        """A settled seq turns out not to be: its append was refused, and it waits again."""
        if seq in self._settled:
            self._settled.discard(seq)
        else:
            heapq.heappush(self._open, seq)
