"""What was sent against what was received: the judge of a demonstration.

Knows only what a consumer can see. For each account the types, revs and blocks have to come out in the order in which
they left its host; seqs have to rise by one; what must not pass has to stay away.
"""

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import trio

from relay.protocol.frame import MessageFrame, parse_frame
from relay.world.network import Emission

FAULTS_KEPT = 20


class _Key(NamedTuple):
    type: str
    word: str  # rev, or status of the account
    blocks: int  # their hash, so that a forgery under a true rev is noticed

    @classmethod
    def of(cls, kind: str, payload: Mapping[str, Any]) -> "_Key":
        """What an event is told by."""
        return cls(kind, payload.get("rev") or str(payload.get("status", "")), hash(payload.get("blocks", b"")))


class Scorecard:
    """Counts, and the events that are still under way."""

    def __init__(self) -> None:
        self.events_sent = 0
        self.events_to_pass = 0
        self.events_received = 0
        self.bytes_received = 0
        self.last_seq = 0
        self.faults: list[str] = []
        self._under_way: dict[str, deque[_Key]] = defaultdict(deque)
        self._changed = trio.Event()

    @property
    def is_complete(self) -> bool:
        """Whether everything that has to pass was received, and nothing was wrong."""
        return self.events_received == self.events_to_pass and not self.faults

    def sent(self, emission: Emission) -> None:
        """An event left its host."""
        self.events_sent += 1
        if emission.passes:
            message = emission.message
            self.events_to_pass += 1
            self._under_way[message.did].append(_Key.of(message.type, message.payload))

    def received(self, message: bytes) -> None:
        """A message came out of the relay."""
        frame = parse_frame(message)
        if not isinstance(frame, MessageFrame) or "seq" not in frame.payload:
            self._fault(f"not an event: {frame!r:.120}")
            return
        payload = frame.payload
        self.bytes_received += len(message)
        self.events_received += 1
        if self.last_seq and payload["seq"] != self.last_seq + 1:
            self._fault(f"seq {payload['seq']} after {self.last_seq}")
        self.last_seq = payload["seq"]
        did = payload.get("repo") or payload["did"]
        key = _Key.of(frame.type, payload)
        waiting = self._under_way[did]
        expected = waiting.popleft() if waiting else None
        if key != expected:
            self._fault(f"{did}: {key} where {expected} was due")
        if not waiting:
            del self._under_way[did]
        self._changed.set()

    async def wait_complete(self) -> None:
        """Until everything under way has arrived."""
        while self.events_received < self.events_to_pass:
            self._changed = trio.Event()
            await self._changed.wait()

    def _fault(self, text: str) -> None:
        if len(self.faults) < FAULTS_KEPT:
            self.faults.append(text)
