"""Order for each DID: events of one host that wait, behind those of the same DID only. Plain data, no tasks.

A **lane** holds the events of one DID from one host that cannot be judged yet, in their order; while it holds any,
later events of that DID queue behind them and every other DID goes on (design section 4).
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import trio

from relay.protocol.events import AccountScoped
from relay.protocol.frame import MessageFrame

PENDING_OVERHEAD_BYTES = 1_000  # what a decoded frame costs beside its bytes, roughly


class Pending(NamedTuple):
    """An event that is received and not settled. `frame_bytes` is its size.

    `reads` is how many DID documents had been asked for until then: one that was asked for later holds all that was
    announced before this event.
    """

    event: AccountScoped
    frame: MessageFrame
    frame_bytes: int
    reads: int


class Lane:
    """The waiting events of one DID from one host, oldest first.

    `hurried` is set when the host's other accounts wait for this one: from then on, until it is empty, its task takes
    no time that it could do without.
    """

    def __init__(self) -> None:
        self.hurried = trio.Event()
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


class Lanes:
    """The lanes of one host, by DID. `start` is called with the DID of each that opens, to have it worked off."""

    def __init__(self, start: Callable[[str], None], items_max: int, bytes_max: int) -> None:
        self._start = start
        self._items_max = items_max
        self._bytes_max = bytes_max
        self._lanes: dict[str, Lane] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    def __contains__(self, did: str) -> bool:
        return did in self._lanes

    def __getitem__(self, did: str) -> Lane:
        return self._lanes[did]

    def open(self, did: str) -> Lane:
        """The lane of a DID, a new one if it has none."""
        lane = self._lanes.get(did)
        if lane is None:
            lane = self._lanes[did] = Lane()
            self._start(did)
        return lane

    def close(self, did: str) -> None:
        """The lane is empty: the DID's events are judged as they come again."""
        assert not self._lanes[did], "a lane is closed empty"
        del self._lanes[did]

    @property
    def is_full(self) -> bool:
        """Whether a lane has reached its bound."""
        return any(map(self._is_at_bound, self._lanes.values()))

    def hurry(self, *, all_of_them: bool) -> None:
        """Hurry the lanes that have reached their bound, or all."""
        for lane in self._lanes.values():
            if all_of_them or self._is_at_bound(lane):
                lane.hurried.set()

    def _is_at_bound(self, lane: Lane) -> bool:
        return len(lane) >= self._items_max or lane.bytes >= self._bytes_max
