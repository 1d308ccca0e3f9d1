"""One host's messages on their way in: read, numbered, and judged at once or put into their lane.

The common case, key cached and nothing of that DID waiting, is straight-line synchronous code inside `take`: no task,
no channel. Whatever needs the network first (an unknown DID, a refresh) goes to the DID's lane, which a task of
`relay.ingest.waiting` works off; so does an append that was refused. What a verdict leads to is `relay.ingest.judge`.
"""

import time
from collections.abc import Sequence

import trio

from relay.crawl.host import ErrorFrameReceived
from relay.ingest.judge import Judge
from relay.ingest.lanes import Pending
from relay.ingest.pipeline import Unfit, read_message
from relay.ingest.place import HELD_SEQS_MAX
from relay.protocol.errors import FramingError
from relay.protocol.events import IdentityEvent
from relay.protocol.frame import ErrorFrame, MessageFrame
from relay.protocol.syntax import is_did
from relay.store.view import View
from relay.verify.verdict import Accept, Drop, Reason

PATIENCE_SECONDS = 0.5  # a batch makes room sooner than that: who stands longer stands behind lanes that wait


class HostStream:
    """What a subscription hands its messages to (`relay.crawl.host.Stream`)."""

    def __init__(self, judge: Judge) -> None:
        self.possible_gap = False
        self._newcomers = 0
        self._judge = judge
        self._desk = judge.desk
        self._place = judge.place
        self._books = judge.books

    @property
    def cursor(self) -> int | None:
        """Where to subscribe: what is in flight is held here, so the highest seq received; None before the first."""
        return self._place.cursor

    @property
    def in_flight(self) -> int:
        """Events received and not settled."""
        return self._place.in_flight

    @property
    def behind(self) -> int:
        """How many events in a row, up to the last, were at or below the cursor."""
        return self._place.behind

    @property
    def progress(self) -> int:
        """Events appended."""
        return self._books.progress

    def reconnected(self) -> None:
        """A new connection begins."""
        self._place.reconnected()

    def restart(self) -> None:
        """The host's seqs began anew: read from its beginning in a new epoch."""
        self._judge.restart()

    def take_newcomers(self) -> int:
        """How many events came since the last call by which an account would get a row."""
        newcomers, self._newcomers = self._newcomers, 0
        return newcomers

    def take(self, messages: Sequence[bytes]) -> None:
        """Receive whole messages, in order.

        Raises:
            FramingError: the stream cannot be trusted any further; what came before is kept.
            ErrorFrameReceived: the host said why it will close.
        """
        now_ms = self._desk.now_ms()
        self._books.last_event_ms = now_ms
        was_nowhere = self.cursor is None
        try:
            with self._desk.store.view() as view:
                for message in messages:
                    self._receive(message, view, now_ms)
        finally:
            # Without a place in its row, a host that is read from live on would be read from a later moment next time.
            self._desk.batcher.touch(self._judge, at_once=was_nowhere and self.cursor is not None)

    def count_unreadable(self, reason: Reason, detail: str = "") -> None:
        """A message that never became a frame: not binary, over the limit, or not to be decoded."""
        self._books.received("unreadable")
        self._books.dropped(reason)
        self._judge.note(Drop(reason, detail), None, "", 0, self._desk.now_ms())

    async def wait_for_room(self) -> None:
        """Wait until this stream and the batcher are below their bounds. A checkpoint always, so that others run.

        All accounts of the host wait here, so no lane may take its time meanwhile: not one that is full, and none at
        all when that does not make room.
        """
        await trio.lowlevel.checkpoint()
        await self._desk.batcher.wait_for_room()
        while self._is_full():
            self._judge.lanes.hurry(all_of_them=False)
            with trio.move_on_after(PATIENCE_SECONDS) as patience:
                await self._room()
            if patience.cancelled_caught:
                self._judge.lanes.hurry(all_of_them=True)

    async def _room(self) -> None:
        while self._is_full():
            await self._judge.wait_settled()

    def _is_full(self) -> bool:
        is_full = self._place.in_flight >= self._desk.settings.in_flight or self._place.held >= HELD_SEQS_MAX
        return is_full or self._judge.lanes.is_full

    def _receive(self, message: bytes, view: View, now_ms: int) -> None:
        started = time.perf_counter()
        try:
            read = read_message(message, allow_localhost=self._desk.allow_localhost)
        except FramingError as error:
            self.count_unreadable(Reason.FRAMING, str(error))
            raise
        if isinstance(read, Unfit):
            self._books.received(read.kind)
            self._receive_unfit(read, now_ms)
            return
        event, frame = read
        self._books.received(frame.type)
        reason = self._place.receive(event.seq)
        if reason is None:
            reads = self._desk.resolver.reads
            self._route(Pending(event, frame, len(message), reads), view, now_ms)
        else:
            self._books.dropped(reason)
        self._desk.metrics.ingest.verify_seconds.observe(time.perf_counter() - started)

    def _receive_unfit(self, unfit: Unfit, now_ms: int) -> None:
        """Count what holds no event; if it has a seq, that is settled with it, so that the cursor can pass it."""
        frame, seq, did = unfit.frame, 0, None
        self._books.dropped(unfit.drop.reason)
        if isinstance(frame, ErrorFrame):
            raise ErrorFrameReceived(frame.error)
        if isinstance(frame, MessageFrame):
            said = frame.payload.get("seq") if unfit.drop.reason is not Reason.UPSTREAM_INFO else None
            if type(said) is int:
                seq = said
                self._place.pass_over(seq)
            self.possible_gap |= frame.payload.get("name") == "OutdatedCursor"
            did = _did_in(frame)
        self._judge.note(unfit.drop, did, "", seq, now_ms)

    def _route(self, pending: Pending, view: View, now_ms: int) -> None:
        """Judge the event now, or let it wait behind the others of its DID."""
        judge, did = self._judge, pending.event.did
        if isinstance(pending.event, IdentityEvent):
            self._announce(did)
        if did in judge.lanes:
            judge.lanes[did].push(pending)
            return
        account = judge.account(did, view)
        verdict = judge.quota.turns_away(account) or judge.verdict(pending, account, now_ms, refreshed=False)
        self._newcomers += not account.version
        if isinstance(verdict, Accept | Drop):
            judge.carry_out(pending, verdict, account, now_ms)
        else:
            judge.lanes.open(did).push(pending)

    def _announce(self, did: str) -> None:
        """An `#identity` of the account's own host makes the document stale before anything else (checklist 184)."""
        resolver, hostname = self._desk.resolver, self._judge.host.hostname
        resolver.announced(did, hostname)
        identity = resolver.reread(did)
        if identity is not None and identity.host == hostname:
            resolver.mark_stale(did)


def _did_in(frame: MessageFrame) -> str | None:
    """Whose event it was to be, for a note: the store keeps none for a DID without a row."""
    said = frame.payload.get("repo" if frame.type == "#commit" else "did")
    return said if type(said) is str and is_did(said) else None
