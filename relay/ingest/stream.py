"""One host's stream in this worker: its place, its lanes, its bounds and its books.

The common case, key cached and nothing of that DID waiting, is straight-line synchronous code inside `take`: no task,
no channel. Whatever needs the network first (an unknown DID, a refresh) goes to the DID's lane, which a task of
`relay.ingest.waiting` works off; so does an append that was refused.

The books balance for each stream (design invariant 10): received = appended + Σ dropped{reason} + in flight.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

import trio

from relay.crawl.repostatus import StatusChecks
from relay.crawl.subscription import ErrorFrameReceived
from relay.identity.resolver import Resolver
from relay.ingest.batcher import Batcher, Entry
from relay.ingest.lanes import HELD_SEQS_MAX, Lane, LowWater, Pending
from relay.ingest.ownwords import OwnWords
from relay.ingest.pipeline import CHAIN_BREAK, UNPROVEN, Unfit, judge_event, read_message, remarks_on
from relay.ingest.quota import Quota, outgoing_frame
from relay.ingest.settings import IngestSettings
from relay.observe.metrics import Metrics
from relay.protocol.errors import FramingError
from relay.protocol.events import CommitEvent, IdentityEvent, SyncEvent
from relay.protocol.frame import ErrorFrame, MessageFrame
from relay.protocol.limits import MESSAGE_BYTES_MAX
from relay.store.batch import DropNote, HostMark, Item
from relay.store.store import Store
from relay.store.view import View
from relay.verify.chain import NO_ACCOUNT, AccountState, HostView
from relay.verify.modes import RATCHET, STRICT
from relay.verify.verdict import Accept, Drop, Reason, Recheck, Verdict

NO_LIMIT = 1 << 62
BACKLOG_SECONDS = 15.0  # without an event for so long, whatever there was is read
UNFIT_SEQ_JUMP_MAX = 1_000_000  # how far an event that is none may move the cursor: its seq may be as wrong as the rest
NORMAL_LIFE = frozenset(
    {Reason.REPLAYED, Reason.SEQ_NOT_INCREASING, Reason.UNKNOWN_OP, Reason.UNKNOWN_TYPE, Reason.UPSTREAM_INFO},
)


class Desk(NamedTuple):
    """What all streams of one worker share."""

    store: Store
    resolver: Resolver
    batcher: Batcher
    words: OwnWords
    statuses: StatusChecks
    metrics: Metrics
    settings: IngestSettings
    hold_seconds: float
    now_ms: Callable[[], int]
    start_lane: Callable[["HostStream", str], None]


class HostStream:
    """The stream of one upstream host inside this worker. `cursor` is where it resumes, None before its first event."""

    def __init__(self, host: HostView, cursor: int | None, desk: Desk, account_limit: int = NO_LIMIT) -> None:
        self.host = host
        self.progress = 0
        self.behind = 0
        self.possible_gap = False
        self.is_banned = False
        self.quota = Quota(desk.store, host.host_id, account_limit)
        self._newcomers = 0
        self._age_seconds = 0.0
        self.desk = desk
        self._first = True
        self._water = LowWater(-1 if cursor is None else cursor)
        self._lanes: dict[str, Lane] = {}
        self._settled = trio.Event()
        self._accepted = 0
        self._dropped: Counter[str] = Counter()
        self._last_event_ms = 0
        self._proven = False

    # What a subscription calls.

    @property
    def cursor(self) -> int | None:
        """Where to subscribe: what is in flight is held here, so the highest seq received; None before the first."""
        return self._water.received if self._water.received >= 0 else None

    @property
    def in_flight(self) -> int:
        """Events received and not settled."""
        return self._water.in_flight

    @property
    def lanes_waiting(self) -> int:
        """DIDs whose events wait."""
        return len(self._lanes)

    def reconnected(self) -> None:
        """A new connection begins: its first message may repeat our cursor (checklist 48)."""
        self._first = True
        self.behind = 0

    def restart(self) -> None:
        """The host's seqs began anew: read from its beginning in a new epoch (design section 4)."""
        assert not self._water.in_flight, "seqs of two epochs do not mix"
        self.host = self.host._replace(epoch=self.host.epoch + 1)
        self._water = LowWater(0)
        self.desk.batcher.touch(self)

    def take_newcomers(self) -> int:
        """How many events came since the last call by which an account would get a row."""
        newcomers, self._newcomers = self._newcomers, 0
        return newcomers

    def backlog_seconds(self, now_ms: int) -> float:
        """How old what is read now is; 0.0 when nothing was read for a while, so that there is nothing left."""
        return self._age_seconds if now_ms - self._last_event_ms < BACKLOG_SECONDS * 1_000 else 0.0

    def take(self, messages: Sequence[bytes]) -> None:
        """Receive whole messages, in order.

        Raises:
            FramingError: the stream cannot be trusted any further; what came before is kept.
            ErrorFrameReceived: the host said why it will close.
        """
        now_ms = self.desk.now_ms()
        self._last_event_ms = now_ms
        try:
            with self.desk.store.view() as view:
                for message in messages:
                    self._receive(message, view, now_ms)
        finally:
            self.desk.batcher.touch(self)

    def count_unreadable(self, reason: Reason) -> None:
        """A message that never became a frame: not binary, or over the limit."""
        self.desk.metrics.ingest.frames_received.labels("unreadable").inc()
        self._count_drop(reason)

    async def wait_for_room(self) -> None:
        """Wait until this stream and the batcher are below their bounds. A checkpoint always, so that others run."""
        await trio.lowlevel.checkpoint()
        await self.desk.batcher.wait_for_room()
        while self._is_full():
            self._settled = trio.Event()
            await self._settled.wait()

    # What the batcher calls (`relay.ingest.batcher.Origin`).

    def settle(self, seq: int) -> None:
        """The event is part of a batch on its way. The mark of that batch counts it; the store corrects a refusal."""
        self._water.settle(seq)
        self._accepted += 1

    def reopen(self, seq: int) -> None:
        """The batch refused it."""
        self._water.reopen(seq)

    def refuse(self, refused: Sequence[Pending]) -> None:
        """Refused events of one DID go back to the head of their lane, in order."""
        did = refused[0].event.did
        self.quota.settled(did)
        self._lane(did).put_back(refused)

    def appended(self, entry: Entry) -> None:
        """The item is in the log: it counts as progress of the host."""
        self.progress += 1
        self.quota.settled(entry.item.did)
        self.desk.metrics.append.events_appended.labels(entry.pending.frame.type, "host").inc()
        age_seconds = age_of(entry.pending.frame, self.desk.now_ms())
        if age_seconds is not None:
            self.desk.metrics.ingest.lag_seconds.observe(age_seconds)
            self._age_seconds = age_seconds
        if UNPROVEN in entry.item.remarks:
            self.desk.metrics.ingest.events_unproven.inc()
        if CHAIN_BREAK in entry.item.remarks:
            self.desk.metrics.ingest.chain_breaks.inc()
        self._settled.set()

    def take_mark(self) -> HostMark:
        """How far the host is settled, and what was counted since the last call."""
        mark = HostMark(
            host_id=self.host.host_id,
            epoch=self.host.epoch,
            low_water=self._water.mark,
            last_event_ms=self._last_event_ms,
            accepted=self._accepted,
            dropped=dict(self._dropped),
            proven=self._proven,
        )
        self._accepted = 0
        self._dropped.clear()
        return mark

    # The way of one event.

    def _receive(self, message: bytes, view: View, now_ms: int) -> None:
        started = time.perf_counter()
        metrics = self.desk.metrics.ingest
        try:
            read = read_message(message)
        except FramingError:
            self.count_unreadable(Reason.FRAMING)
            raise
        if isinstance(read, Unfit):
            metrics.frames_received.labels(read.kind).inc()
            self._receive_unfit(read, now_ms)
            return
        event, frame = read
        metrics.frames_received.labels(frame.type).inc()
        if self._receive_seq(event.seq):
            self._route(Pending(event, frame, len(message), trio.current_time()), view, now_ms)
        metrics.verify_seconds.observe(time.perf_counter() - started)

    def _receive_unfit(self, unfit: Unfit, now_ms: int) -> None:
        """Count what holds no event; if it has a seq, that is settled with it, so that the cursor can pass it."""
        frame, seq = unfit.frame, 0
        self._count_drop(unfit.drop.reason)
        if isinstance(frame, ErrorFrame):
            raise ErrorFrameReceived(frame.error)
        if isinstance(frame, MessageFrame):
            seq = frame.payload.get("seq", 0) if unfit.drop.reason is not Reason.UPSTREAM_INFO else 0
            if type(seq) is int and 0 < seq - self._water.received <= UNFIT_SEQ_JUMP_MAX:
                self._first = False
                self._water.receive(seq)
                self._water.settle(seq)
            self.possible_gap |= frame.payload.get("name") == "OutdatedCursor"
        self._note(unfit.drop, None, "", seq if type(seq) is int else 0, now_ms)

    def _receive_seq(self, seq: int) -> bool:
        """Whether the event is new on this stream; otherwise it is counted here and done."""
        first, self._first = self._first, False
        if seq <= self._water.received:
            repeats_cursor = first and seq == self._water.received
            self.behind += not repeats_cursor
            self._count_drop(Reason.REPLAYED if repeats_cursor else Reason.SEQ_NOT_INCREASING)
            return False
        self.behind = 0
        self._water.receive(seq)
        return True

    def _route(self, pending: Pending, view: View, now_ms: int) -> None:
        """Judge the event now, or let it wait behind the others of its DID."""
        did = pending.event.did
        if isinstance(pending.event, IdentityEvent):
            self._announce(did)
        lane = self._lanes.get(did)
        if lane is None:
            account = self.account(did, view)
            verdict = self.quota.turns_away(account) or self.judge(pending, account, now_ms, refreshed=False)
            self._newcomers += not account.version
            if isinstance(verdict, Accept | Drop):
                self.carry_out(pending, verdict, account, now_ms)
                return
            lane = self._lane(did)
        lane.push(pending)

    def _announce(self, did: str) -> None:
        """An `#identity` of the account's own host makes the document stale before anything else (checklist 184)."""
        self.desk.resolver.announced(did, self.host.hostname)
        identity = self.desk.resolver.reread(did)
        if identity is not None and identity.host == self.host.hostname:
            self.desk.resolver.mark_stale(did)

    # What the waiting task shares with the straight line.

    def lane(self, did: str) -> Lane:
        """The lane of a DID that has one."""
        return self._lanes[did]

    def close_lane(self, did: str) -> None:
        """The lane is empty: the DID's events are judged as they come again."""
        assert not self._lanes[did], "a lane is closed empty"
        del self._lanes[did]

    def account(self, did: str, view: View) -> AccountState:
        """The account as the next event finds it: after the items on their way, else as stored."""
        return self.desk.batcher.overlaid(did) or view.account(did) or NO_ACCOUNT

    def judge(self, pending: Pending, account: AccountState, now_ms: int, *, refreshed: bool) -> Verdict | None:
        """The verdict, or None while nothing is known of the DID.

        Where the row names another host, a worker of that host accepted the account there, and what it learnt counts.
        """
        did = pending.event.did
        moved = account.version > 0 and account.host_id != self.host.host_id
        identity = self.desk.resolver.reread(did) if moved else self.desk.resolver.known(did)
        if identity is None:
            return None
        verdict = judge_event(pending.event, identity, account, self.host, now_ms, refreshed=refreshed)
        if isinstance(verdict, Recheck) and not self.desk.statuses.may_ask(did, self.host.hostname):
            return verdict.otherwise
        return verdict

    def carry_out(self, pending: Pending, verdict: Accept | Drop, account: AccountState, now_ms: int) -> None:
        """Hand an accepted event to the batcher; settle and count a dropped one."""
        event = pending.event
        if isinstance(verdict, Accept):
            verdict = self.quota.judge(event, verdict, account)
        if isinstance(verdict, Accept):
            template = outgoing_frame(event, pending.frame, account, verdict.state, now_ms)
            if template.frame_bytes_max <= MESSAGE_BYTES_MAX:
                self._end_ratchet(verdict)
                host_id, remarks = self.host.host_id, remarks_on(verdict)
                item = Item(event.did, account.version, verdict.state, template, host_id, event.seq, remarks)
                self.desk.batcher.put(Entry(item, pending, self))
                return
            verdict = Drop(Reason.FRAME_TOO_BIG)
        self._water.settle(event.seq)
        self._count_drop(verdict.reason)
        self._settled.set()
        rev = event.rev if isinstance(event, CommitEvent | SyncEvent) else ""
        self._note(verdict, event.did if account.version else None, rev, event.seq, now_ms)
        self.desk.batcher.touch(self)

    def judge_under(self, mode: str) -> None:
        """From now on judge by this mode; once the host has sent a proven commit, the ratchet is closed to it."""
        closed = self._proven and mode == RATCHET
        self.host = self.host._replace(mode=STRICT if closed else mode)

    def _end_ratchet(self, verdict: Accept) -> None:
        """The first proven commit closes the ratchet, here at once and with its own append in the host's row."""
        if verdict.proven and not self._proven:
            self._proven = True
            self.judge_under(self.host.mode)

    # Bounds and books.

    def _lane(self, did: str) -> Lane:
        lane = self._lanes.get(did)
        if lane is None:
            lane = self._lanes[did] = Lane()
            self.desk.start_lane(self, did)
        return lane

    def _is_full(self) -> bool:
        settings = self.desk.settings
        if self._water.in_flight >= settings.in_flight or self._water.held >= HELD_SEQS_MAX:
            return True
        return any(
            len(lane) >= settings.lane_items or lane.bytes >= settings.lane_bytes for lane in self._lanes.values()
        )

    def _count_drop(self, reason: Reason) -> None:
        self._dropped[reason] += 1
        self.desk.metrics.ingest.events_dropped.labels(reason).inc()

    def _note(self, drop: Drop, did: str | None, rev: str, seq: int, now_ms: int) -> None:
        if drop.reason not in NORMAL_LIFE:
            note = DropNote(self.host.host_id, did, drop.reason, drop.detail, rev, seq, now_ms)
            self.desk.batcher.note(note)


def age_of(frame: MessageFrame, now_ms: int) -> float | None:
    """Seconds since the event's own `time`, never below 0; None for one that is no moment (it may be any text)."""
    try:
        moment = datetime.fromisoformat(frame.payload["time"])
    except ValueError:
        return None
    return max(0.0, now_ms / 1000 - moment.timestamp()) if moment.tzinfo else None
