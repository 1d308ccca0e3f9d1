"""The consumers of a worker as a whole: who is there, how many may be, and who has stopped taking anything.

Owns the limits per worker and per address, the samples and totals that become metrics, and the orders that concern
consumers from outside their own loop: kick, stall, shutdown. Does not own what a consumer is sent.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import NamedTuple

import trio

from relay.net.proxies import address_group
from relay.observe.metrics import ServeMetrics
from relay.serve.consumer import Consumer, End
from relay.serve.settings import ConsumerSettings, places_share
from relay.serve.tail import Tail

SAMPLE_SECONDS = 1.0
_LAG_EVERY = 5  # samples
GRACE_SECONDS = 3.0  # for an orderly end, of a consumer that is kicked or took nothing for too long


class Visitor(NamedTuple):
    """Who a consumer is, as far as its request says. `connected_ms` is unix time."""

    address: str
    user_agent: str
    connected_ms: int


class Seat:
    """A place among the consumers of this worker, taken from before the handshake until the connection is gone."""

    def __init__(self, number: int, visitor: Visitor) -> None:
        self.number = number
        self.visitor = visitor
        self.consumer: Consumer | None = None  # None until the handshake is done
        self.scope = trio.CancelScope()  # the whole connection
        self.cut_as: End | None = None  # why `scope` was cancelled
        self.leaving_as: End | None = None  # why it was asked to end
        self.cut_at = 0.0  # trio time at which that turns into a cut
        self.counted_bytes = 0
        self.counted_frames = 0

    def leave(self, reason: End) -> None:
        """Ask for an orderly end, once; `watch` makes it a cut when it takes too long."""
        if self.leaving_as is None:
            self.leaving_as = reason
            self.cut_at = trio.current_time() + GRACE_SECONDS
            if self.consumer is not None:
                self.consumer.end(reason)

    def cut(self, reason: End) -> None:
        """End the connection in whatever state it is; nothing more can be said to the consumer then."""
        self.cut_as = self.cut_as or reason
        self.scope.cancel()


class Audience:
    """All seats of a worker."""

    def __init__(
        self, settings: ConsumerSettings, *, index: int, workers: int, tail: Tail, metrics: ServeMetrics
    ) -> None:
        self._seats: dict[int, Seat] = {}
        self._addresses: dict[str, int] = {}
        self._numbers = count(workers + index, workers)  # no two workers of a relay give the same number
        self._empty = trio.Event()
        self._settings = settings
        self._places = places_share(settings.max, workers)
        self._places_per_address = places_share(settings.per_address, workers)
        self._tail = tail
        self._metrics = metrics
        self.closing = False

    def __len__(self) -> int:
        return len(self._seats)

    def refusal(self, address: str) -> str | None:
        """Why one more consumer from there is too many just now; None when it is not."""
        if len(self._seats) >= self._places:
            return f"this relay has its limit of {self._settings.max} consumers"
        if self._addresses.get(address_group(address), 0) >= self._places_per_address:
            return f"your address has its limit of {self._settings.per_address} consumers"
        return None

    @contextmanager
    def seat(self, visitor: Visitor) -> Iterator[Seat]:
        """Count a consumer in, and out again whatever happens to it."""
        group = address_group(visitor.address)
        seat = Seat(next(self._numbers), visitor)
        self._seats[seat.number] = seat
        self._addresses[group] = self._addresses.get(group, 0) + 1
        self._metrics.consumers.set(len(self._seats))
        try:
            yield seat
        finally:
            self._count(seat)
            del self._seats[seat.number]
            self._addresses[group] -= 1
            if not self._addresses[group]:
                del self._addresses[group]
            self._metrics.consumers.set(len(self._seats))
            if not self._seats and self.closing:
                self._empty.set()

    async def watch(self) -> None:
        """Take samples of every consumer for ever, and end those that are stalled or flood us."""
        sample = 0
        while True:
            await trio.sleep(SAMPLE_SECONDS)
            sample += 1
            now = trio.current_time()
            for seat in tuple(self._seats.values()):
                self._count(seat)
                if sample % _LAG_EVERY == 0 and (lag := self.lag_seconds(seat)) is not None:
                    self._metrics.consumer_lag_seconds.observe(lag)
                self._judge(seat, now)

    def _judge(self, seat: Seat, now: float) -> None:
        """Send away who takes nothing or floods us, and cut who was asked to leave and did not."""
        if seat.leaving_as is not None and now >= seat.cut_at:
            seat.cut(seat.leaving_as)
        elif seat.consumer is not None and seat.consumer.stalled_seconds(now) >= self._settings.stall_seconds:
            seat.leave(End.STALLED)
        elif seat.consumer is not None and seat.consumer.is_flooding:
            seat.leave(End.FLOODING)

    def count_all(self) -> None:
        """Bring the counters up to date, before a scrape."""
        for seat in self._seats.values():
            self._count(seat)

    def lag_seconds(self, seat: Seat) -> float | None:
        """By how much log time the consumer is behind the tip; None while it is behind and got nothing yet."""
        consumer = seat.consumer
        if consumer is None:
            return None
        if consumer.position >= self._tail.hot.tip_seq:
            return 0.0
        if not consumer.position_ms:
            return None
        return max(0.0, (self._tail.tip_time_ms - consumer.position_ms) / 1000)

    def describe(self) -> list[dict[str, object]]:
        """Every consumer for an operator, oldest first. The first keys are those of the reference relay's list."""
        self.count_all()
        return [
            {
                "id": seat.number,
                "remote_addr": seat.visitor.address,
                "user_agent": seat.visitor.user_agent,
                "events_consumed": consumer.frames_sent if consumer else 0,
                "connected_at": seat.visitor.connected_ms,
                "bytes_sent": consumer.bytes_sent if consumer else 0,
                "position": consumer.position if consumer else None,
                "lag_seconds": self.lag_seconds(seat),
            }
            for seat in self._seats.values()
            for consumer in (seat.consumer,)
        ]

    def kick(self, number: int) -> bool:
        """Send a consumer away: politely after its present batch, by force when that takes too long."""
        seat = self._seats.get(number)
        if seat is None:
            return False
        seat.leave(End.KICKED)
        return True

    async def close(self) -> None:
        """End everybody with 1001 once they have what is in memory, and wait until all are gone."""
        self.closing = True
        await self._end_all(flush=True)

    async def dismiss(self) -> None:
        """End everybody with 1001 behind what is being sent, without the rest, and wait until all are gone."""
        await self._end_all(flush=False)

    def cut_all(self) -> None:
        """End whoever is still there."""
        for seat in tuple(self._seats.values()):
            seat.cut(End.SHUTDOWN)

    async def _end_all(self, *, flush: bool) -> None:
        for seat in tuple(self._seats.values()):
            if seat.consumer is not None:
                seat.consumer.end(End.SHUTDOWN, flush=flush)
        if self._seats:
            await self._empty.wait()

    def _count(self, seat: Seat) -> None:
        if seat.consumer is None:
            return
        frames, sent = seat.consumer.frames_sent, seat.consumer.bytes_sent
        self._metrics.frames_sent.inc(frames - seat.counted_frames)
        self._metrics.bytes_sent.inc(sent - seat.counted_bytes)
        seat.counted_frames, seat.counted_bytes = frames, sent
