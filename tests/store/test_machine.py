"""The store against a model of dicts and lists, with two verifiers that work on overlapping accounts and die anywhere.

Each worker reads the stream of one host, verifies against rows or its own overlay, and appends; any step of an append,
a roll, a retention or a start may be its last. Whatever the order, the log must hold every settled event once, in the
order of its host, and rows, cursors and counts must be those of the model.
"""

import shutil
import tempfile
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.protocol.frame import MessageFrame, account_frame, iter_messages, parse_frame
from relay.store.batch import Batch, HostMark, Item
from relay.store.store import Store
from relay.verify.facts import NO_ACCOUNT, AccountState
from tests.store import batches
from tests.store.batches import FIRST_SEQ, NOW_MS, add_hosts, did

WORKERS = 2
ACCOUNTS = 3
WINDOW_MS = 2 * 3_600_000
STATUSES = [(True, ""), (False, "deleted"), (True, "weird status"), (True, "deleted"), (False, "")]
STEPS = ["lock_wanted", "locked", "segment_created", "segment_committed", "state_commit", "state_committed"]
CRASHES = st.none() | st.tuples(st.sampled_from(STEPS), st.integers(1, 2))


class Crash(BaseException):
    """The process died here."""


@dataclass
class Event:
    """What a host sends. `rev` orders all events of the network, as the accounts' owners made them."""

    seq: int
    account: int
    rev: str
    active: bool
    status: str


@dataclass
class Worker:
    """A verifier: what it took from its host, and what is not settled yet."""

    host_id: int
    taken: int = 0
    unsettled: list[Event] = field(default_factory=list)


@dataclass
class Model:
    """What the store should hold."""

    rows: dict[str, AccountState] = field(default_factory=dict)
    cursors: dict[int, int | None] = field(default_factory=lambda: dict.fromkeys(range(1, WORKERS + 1)))
    frames: list[tuple[int, str, str]] = field(default_factory=list)  # seq, did, rev
    tip: int = FIRST_SEQ - 1
    floor: int = FIRST_SEQ
    accepted: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(1, WORKERS + 1), 0))
    time_ms: int = 0
    times: dict[int, int] = field(default_factory=dict)  # by seq

    def append(self, batch: Batch) -> tuple[int, int, tuple[int, ...]]:
        first = self.tip + 1
        refused: list[int] = []
        lowest: dict[int, int] = {}
        for index, item in enumerate(batch.items):
            current = self.rows.get(item.did, NO_ACCOUNT)
            if current.version != item.version or any(batch.items[other].did == item.did for other in refused):
                refused.append(index)
                lowest[item.host_id] = min(lowest.get(item.host_id, item.upstream_seq), item.upstream_seq)
                continue
            self.rows[item.did] = item.state._replace(version=current.version + 1)
            if item.template is not None:
                self.tip += 1
                self.floor = self.floor if self.frames else self.tip
                self.frames.append((self.tip, item.did, item.state.rev))
                self.time_ms = max(self.time_ms, batch.time_ms)
                self.times[self.tip] = self.time_ms
        for mark in batch.marks:
            self.accepted[mark.host_id] += mark.accepted - len(refused)
            settled = min(mark.low_water, lowest.get(mark.host_id, mark.low_water + 1) - 1)
            if settled >= 0:
                self.cursors[mark.host_id] = max(settled, self.cursors[mark.host_id] or 0)
        return first, self.tip, tuple(refused)

    def would_emit(self, batch: Batch) -> bool:
        trial = deepcopy(self)
        trial.append(batch)
        return trial.tip > self.tip


def rev_of(number: int) -> str:
    return "3" + "".join("234567abcdefghij"[(number >> shift) & 15] for shift in range(44, -1, -4))


class StoreMachine(RuleBasedStateMachine):
    """See the module."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="store-machine-"))
        self.fatal: tuple[str, int] | None = None
        self.passed: list[str] = []
        self.model = Model()
        self.first_seq = FIRST_SEQ
        self.time_ms = NOW_MS
        self.streams: dict[int, list[Event]] = {host_id: [] for host_id in range(1, WORKERS + 1)}
        self.revs = 0
        self.workers = {host_id: Worker(host_id) for host_id in range(1, WORKERS + 1)}
        self.behind = False  # the state lacks what the log has, until somebody appends
        self.open()
        add_hosts(self.store, WORKERS)

    def on_step(self, name: str) -> None:
        self.passed.append(name)
        if self.fatal is not None and self.passed.count(name) == self.fatal[1] and name == self.fatal[0]:
            raise Crash(name)

    def open(self) -> None:
        # Chunks of one or two frames, segments of a few chunks, and a window of two hours.
        options = batches.settings(batch_bytes=250, segment_bytes=150_000, window_hours=2, initial_seq=self.first_seq)
        self.store = Store.open(self.folder, options, create=True, now_ms=NOW_MS, on_step=self.on_step)
        self.behind = False

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        self.everything_settles_once()
        self.store.close()
        shutil.rmtree(self.folder)

    @rule(host_id=st.integers(1, WORKERS), account=st.integers(0, ACCOUNTS - 1), count=st.integers(1, 4))
    def events_come(self, host_id: int, account: int, count: int) -> None:
        """The account writes at this host; when it wrote at the other one before, it migrated."""
        for _ in range(count):
            self.revs += 1
            stream = self.streams[host_id]
            active, status = STATUSES[self.revs % len(STATUSES)]
            stream.append(Event(len(stream) + 1, account, rev_of(self.revs), active, status))

    @rule(minutes=st.integers(-5, 70))
    def time_passes(self, minutes: int) -> None:
        self.time_ms += minutes * 60_000

    @rule(host_id=st.integers(1, WORKERS), count=st.integers(1, 6), crash=CRASHES, reopen=st.booleans())
    def work(self, host_id: int, count: int, crash: tuple[str, int] | None, reopen: bool) -> None:
        """One worker takes some events and appends what it has; perhaps it dies doing so."""
        worker = self.workers[host_id]
        new = self.streams[host_id][worker.taken : worker.taken + count]
        worker.taken += len(new)
        worker.unsettled += new
        self.flush(worker, worker.unsettled[: count + 2], crash, reopen)

    @rule(data=st.data(), crash=CRASHES, reopen=st.booleans())
    def both_at_once(self, data: st.DataObject, crash: tuple[str, int] | None, reopen: bool) -> None:
        """Both verify against the same snapshot, then append one after the other."""
        made = []
        for host_id, worker in self.workers.items():
            count = data.draw(st.integers(1, 4))
            new = self.streams[host_id][worker.taken : worker.taken + count]
            worker.taken += len(new)
            worker.unsettled += new
            made.append((worker, *self.verify(worker, list(worker.unsettled))))
        first, second = made
        self.append(*first, None, reopen=False)
        self.append(*second, crash, reopen=reopen)

    @rule(account=st.integers(0, ACCOUNTS - 1), status=st.sampled_from(["", "takendown", "throttled"]))
    def operator_acts(self, account: int, status: str) -> None:
        with self.store.view() as view:
            known = view.account(did(account))
        if known is None:
            return
        item = Item(did(account), known.version, known._replace(local_status=status), None, known.host_id, 0)
        batch = Batch(self.time_ms, (item,))
        if self.behind:
            self.settle()
        assert self.store.append(batch) == self.model.append(batch)

    @rule(step=st.sampled_from(["none", "floor_moved", "segment_renamed", "state_commit", "state_committed"]))
    def retention(self, step: str) -> None:
        """Frames leave at the floor, in whole segments, whatever the pass does not finish."""
        self.settle()
        self.passed, self.fatal = [], (step, 1)
        try:
            self.store.retain()
        except Crash:
            self.reopen()
        self.fatal = None
        kept = self.store.tip()
        gone = sum(seq < kept.floor for seq, _, _ in self.model.frames)
        assert all(kept.time_ms - self.model.times[seq] > WINDOW_MS for seq, _, _ in self.model.frames[:gone])
        self.model.frames = self.model.frames[gone:]
        self.model.floor = kept.floor

    @rule(up=st.integers(1, 1_000), crash=CRASHES)
    def start_with_a_higher_first_seq(self, up: int, crash: tuple[str, int] | None) -> None:
        self.settle()
        self.store.close()
        self.first_seq = self.model.tip + 1 + up
        self.passed, self.fatal = [], crash
        try:
            self.open()
        except Crash:
            self.fatal = None
            self.open()
        self.fatal = None
        if not self.model.frames:
            self.model.floor = self.first_seq
        self.model.tip = self.first_seq - 1

    @rule()
    def reopen(self) -> None:
        self.fatal = None
        self.store.close()
        self.open()

    @precondition(lambda self: self.behind)
    @rule()
    def settle(self) -> None:
        """Anybody's append takes over what was left."""
        if self.behind:
            self.store.append(Batch(self.time_ms))
            self.behind = False

    def verify(self, worker: Worker, events: list[Event]) -> tuple[Batch, list[Event], list[Event]]:
        """The batch for these events, those it contains as items, and those dropped as no newer than their row."""
        overlay: dict[str, AccountState] = {}
        items, kept, dropped = [], [], []
        with self.store.view() as view:
            for event in events:
                name = did(event.account)
                known = overlay.get(name) or view.account(name) or NO_ACCOUNT
                if event.rev <= known.rev:
                    dropped.append(event)
                    continue
                state = batches.row(
                    worker.host_id,
                    version=known.version,
                    rev=event.rev,
                    upstream_seq=event.seq,
                    upstream_active=event.active,
                    upstream_status=event.status,
                    local_status=known.local_status,
                )
                template = account_frame(name, NOW_MS, active=True, status=event.rev)
                items.append(Item(name, known.version, state, template, worker.host_id, event.seq))
                kept.append(event)
                overlay[name] = state._replace(version=known.version + 1)
        left = [event.seq for event in worker.unsettled if event not in events]
        mark = HostMark(worker.host_id, 0, min(left, default=worker.taken + 1) - 1, self.time_ms, len(items))
        return Batch(self.time_ms, tuple(items), (mark,)), kept, dropped

    def flush(self, worker: Worker, events: list[Event], crash: tuple[str, int] | None, reopen: bool) -> None:
        self.append(worker, *self.verify(worker, events), crash, reopen=reopen)

    def append(
        self,
        worker: Worker,
        batch: Batch,
        kept: list[Event],
        dropped: list[Event],
        crash: tuple[str, int] | None,
        *,
        reopen: bool,
    ) -> None:
        emits = self.model.would_emit(batch)
        self.passed, self.fatal = [], crash if emits else None
        try:
            answer = self.store.append(batch)
        except Crash:
            self.fatal = None
            if "segment_committed" in self.passed:
                self.model.append(batch)
                self.behind = self.passed[-1] != "state_committed"
            if reopen:
                self.reopen()
            # A new process starts at the cursor that is durable, once somebody has taken over what was left.
            self.settle()
            with self.store.view() as view:
                host = view.host(worker.host_id)
            assert host is not None
            self.workers[worker.host_id] = Worker(worker.host_id, host.cursor or 0)
            return
        self.fatal = None
        self.behind = False
        assert answer == self.model.append(batch)
        refused = [kept[index] for index in answer.refused]
        settled = [event for event in kept + dropped if event not in refused]
        worker.unsettled = [event for event in worker.unsettled if event not in settled]

    @invariant()
    def store_is_as_the_model(self) -> None:
        if self.behind or not hasattr(self, "store"):
            return
        tip = self.store.tip()
        assert (tip.seq, tip.floor) == (self.model.tip, self.model.floor)
        with self.store.view() as view:
            assert dict(view.accounts("", 100).accounts) == self.model.rows
            for host in view.hosts(0, 10):
                assert host.cursor == self.model.cursors[host.host_id]
                assert host.accepted == self.model.accepted[host.host_id]
                counted = [
                    row
                    for row in self.model.rows.values()
                    if row.host_id == host.host_id and (row.upstream_active or row.upstream_status != "deleted")
                ]
                assert host.account_count == len(counted)
                throttled = {
                    name
                    for name, row in self.model.rows.items()
                    if row.host_id == host.host_id and row.local_status == "throttled"
                }
                assert set(view.throttled(host.host_id, 100)) == throttled
        assert self.log() == self.model.frames

    def log(self) -> list[tuple[int, str, str]]:
        found = []
        reader, position = self.store.reader(), self.store.tip().floor - 1
        while (part := reader.read(position, 600)) is not None:
            for seq, frame in enumerate(iter_messages(part.data), part.first_seq):
                parsed = parse_frame(frame)
                assert isinstance(parsed, MessageFrame)
                assert parsed.payload["seq"] == seq
                found.append((seq, parsed.payload["did"], parsed.payload["status"]))
            position = part.last_seq
        return found

    def everything_settles_once(self) -> None:
        """Let both workers finish. Then every account's newest event is in, and no event went out twice or late."""
        self.settle()
        for _ in range(3):
            for worker in self.workers.values():
                worker.unsettled += self.streams[worker.host_id][worker.taken :]
                worker.taken = len(self.streams[worker.host_id])
                self.flush(worker, list(worker.unsettled), None, reopen=False)
        for account in range(ACCOUNTS):
            sent = [event.rev for stream in self.streams.values() for event in stream if event.account == account]
            emitted = [rev for _, name, rev in self.model.frames if name == did(account)]
            assert emitted == sorted(set(emitted))
            assert not sent or self.model.rows[did(account)].rev == max(sent)
        for worker in self.workers.values():
            assert worker.unsettled == []
            assert (self.model.cursors[worker.host_id] or 0) == len(self.streams[worker.host_id])
        self.store_is_as_the_model()
        assert self.store.audit().findings == ()


StoreMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestStoreMachine = StoreMachine.TestCase
