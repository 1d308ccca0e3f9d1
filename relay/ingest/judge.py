"""One host's events, judged: a verdict on each, and what it leads to, an item for the log or a drop.

Two ways lead here: straight from the message (`relay.ingest.stream`), or through a lane whose task had to learn about
the DID first (`relay.ingest.waiting`). What an append refuses goes back to its lane, and so comes here again.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import trio

from relay.crawl.repostatus import StatusChecks
from relay.identity.resolver import Resolver
from relay.ingest.batcher import Batcher
from relay.ingest.books import Books
from relay.ingest.entries import Entry
from relay.ingest.lanes import Lanes, Pending
from relay.ingest.ownwords import OwnWords
from relay.ingest.pipeline import judge_event, remarks_on
from relay.ingest.place import Place
from relay.ingest.quota import Quota, outgoing_frame
from relay.ingest.settings import IngestSettings
from relay.observe.metrics import Metrics
from relay.protocol.events import CommitEvent, SyncEvent
from relay.protocol.limits import MESSAGE_BYTES_MAX
from relay.store.batch import DropNote, HostMark, Item
from relay.store.store import Store
from relay.store.view import View
from relay.verify.account import is_deleted
from relay.verify.facts import NO_ACCOUNT, AccountState, Facts, HostView
from relay.verify.modes import RATCHET, STRICT
from relay.verify.verdict import Accept, Drop, Reason, Recheck, Verdict

NO_LIMIT = 1 << 62
NORMAL_LIFE = frozenset(
    {Reason.REPLAYED, Reason.SEQ_NOT_INCREASING, Reason.UNKNOWN_OP, Reason.UNKNOWN_TYPE, Reason.UPSTREAM_INFO},
)


class Desk(NamedTuple):
    """What all hosts of one worker share. `allow_localhost` admits the did:web forms of development networks."""

    store: Store
    resolver: Resolver
    batcher: Batcher
    words: OwnWords
    statuses: StatusChecks
    metrics: Metrics
    settings: IngestSettings
    hold_seconds: float
    now_ms: Callable[[], int]
    start_lane: Callable[["Judge", str], None]
    allow_localhost: bool = False


class Judge:
    """Judges the events of one upstream host. `cursor` is where its stream resumes, None before its first event.

    For the batcher it is the `Origin` of these events. `place`, `lanes` and `books` are kept here and read by whoever
    follows the host.
    """

    def __init__(self, host: HostView, cursor: int | None, desk: Desk, account_limit: int = NO_LIMIT) -> None:
        self.host = host
        self.desk = desk
        self.is_banned = False
        self.quota = Quota(desk.store, host.host_id, account_limit)
        self.place = Place(cursor)
        self.books = Books(desk.metrics)
        self.lanes = Lanes(partial(desk.start_lane, self), desk.settings.lane_items, desk.settings.lane_bytes)
        self._settled = trio.Event()
        self._proven = False

    # The verdict.

    def account(self, did: str, view: View) -> AccountState:
        """The account as the next event finds it: after the items on their way, else as stored."""
        return self.desk.batcher.overlaid(did) or view.account(did) or NO_ACCOUNT

    def verdict(self, pending: Pending, account: AccountState, now_ms: int, *, refreshed: bool) -> Verdict | None:
        """The verdict, or None while nothing is known of the DID.

        A document that was asked for after the event came is not stale for it, whatever was announced since then.

        Where the row names another host, or says deleted, a worker of another host may have found that out from a newer
        document, and what it learnt counts.
        """
        did = pending.event.did
        moved = account.version > 0 and account.host_id != self.host.host_id
        learnt = moved or is_deleted(account)
        identity = self.desk.resolver.reread(did) if learnt else self.desk.resolver.known(did)
        if identity is None:
            return None
        if identity.stale and self.desk.resolver.was_read_since(did, pending.reads):
            identity = identity._replace(stale=False)
        verdict = judge_event(pending.event, Facts(identity, account, self.host, now_ms, refreshed))
        if isinstance(verdict, Recheck) and not self.desk.statuses.may_ask(did, self.host.hostname):
            return verdict.otherwise
        return verdict

    def judge_under(self, mode: str) -> None:
        """From now on judge by this mode; once the host has sent a proven commit, the ratchet is closed to it."""
        closed = self._proven and mode == RATCHET
        self.host = self.host._replace(mode=STRICT if closed else mode)

    def restart(self) -> None:
        """The host's seqs began anew: what comes now is of a new epoch (design section 4)."""
        self.place.restart()
        self.host = self.host._replace(epoch=self.host.epoch + 1)
        self.desk.batcher.touch(self, at_once=True)  # the probe that led here comes at most once a day

    # What it leads to.

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
        self.place.settle(event.seq)
        self.books.dropped(verdict.reason)
        self._settled.set()
        rev = event.rev if isinstance(event, CommitEvent | SyncEvent) else ""
        self.note(verdict, event.did if account.version else None, rev, event.seq, now_ms)
        self.desk.batcher.touch(self)

    def note(self, drop: Drop, did: str | None, rev: str, seq: int, now_ms: int) -> None:
        """Keep why something was dropped, for the host and for a DID that has a row, unless that is normal life."""
        if drop.reason not in NORMAL_LIFE:
            note = DropNote(self.host.host_id, did, drop.reason, drop.detail, rev, seq, now_ms)
            self.desk.batcher.note(note)

    async def wait_settled(self) -> None:
        """Until one more event is in the log or dropped."""
        self._settled = trio.Event()
        await self._settled.wait()

    # What the batcher calls (`relay.ingest.entries.Origin`).

    def settle(self, seq: int) -> None:
        """The event is part of a batch on its way. The mark of that batch counts it; the store corrects a refusal."""
        self.place.settle(seq)
        self.books.accepted()

    def reopen(self, seq: int) -> None:
        """The batch refused it."""
        self.place.reopen(seq)

    def refuse(self, refused: Sequence[Pending]) -> None:
        """Refused events of one DID go back to the head of their lane, in order."""
        did = refused[0].event.did
        self.quota.settled(did)
        self.lanes.open(did).put_back(refused)

    def appended(self, entry: Entry) -> None:
        """The item is in the log: it counts as progress of the host."""
        self.quota.settled(entry.item.did)
        self.books.appended(entry.pending.frame, entry.item.remarks, self.desk.now_ms())
        self._settled.set()

    def take_mark(self) -> HostMark:
        """How far the host is settled, and what was counted since the last call."""
        return self.books.take_mark(self.host, self.place.mark, proven=self._proven)

    def _end_ratchet(self, verdict: Accept) -> None:
        """The first proven commit closes the ratchet, here at once and with its own append in the host's row."""
        if verdict.proven and not self._proven:
            self._proven = True
            self.judge_under(self.host.mode)
