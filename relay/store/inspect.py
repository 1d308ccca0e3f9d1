"""The audit of a store at rest: does the log hold together, and does the state follow from it.

Reads everything in bounded txns and reports in words; it never repairs. On a store that is in use the log part still
holds, the counts of the state may be off by what was appended meanwhile. What frames mean is judged by the caller
through `judge_frame`; `seq_fault` is the judgement the store itself can make.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from relay.protocol.errors import ProtocolError
from relay.protocol.frame import MessageFrame, iter_messages, parse_frame
from relay.store.accounts import standing, unpack_account, version_of
from relay.store.effects import Effects, Head, unpack_entry
from relay.store.env import TRANSLATED, Env
from relay.store.errors import Corrupt
from relay.store.hosts import HostRow, read_host, read_host_named, read_hosts
from relay.store.identities import unpack_identity
from relay.store.layout import ACCOUNTS, CHUNKS, EFFECTS, IDENTITIES, THROTTLED, LogRow, Raise, u64, u64_of
from relay.store.segments import Segments
from relay.store.state import State
from relay.store.window import LogWindow

FINDINGS_MAX = 100
_ROWS_PER_TXN = 1_000
_ENTRIES_PER_TXN = 16

JudgeFrame = Callable[[int, bytes], str | None]
Progress = Callable[[int, int], None]


class Audit(NamedTuple):
    """What was looked at, and what is wrong: at most `FINDINGS_MAX` lines, none for a sound store."""

    segments: int
    chunks: int
    frames: int
    accounts: int
    hosts: int
    findings: tuple[str, ...]


def seq_fault(seq: int, frame: bytes) -> str | None:
    """What is wrong with a stored frame as far as its form and its seq go."""
    try:
        parsed = parse_frame(frame)
    except ProtocolError as error:
        return str(error)
    if not isinstance(parsed, MessageFrame):
        return "not a message"
    found = parsed.payload.get("seq")
    return None if found == seq else f"carries seq {found}"


def no_progress(done: int, of: int) -> None:
    """Nobody looks."""


def audit(
    state: State, segments: Segments, *, judge_frame: JudgeFrame | None = None, progress: Progress = no_progress
) -> Audit:
    """Look at the whole store. `judge_frame(seq, frame)` answers None or a fault; `progress(done, of)` counts segments.

    Raises `StoreError` when a page cannot be read at all.
    """
    window = LogWindow(state, segments)
    log = _LogAudit(state, segments, window.row, window.raises(), judge_frame)
    names = [name for name in segments.names() if name <= window.row.active]
    for done, name in enumerate(names):
        progress(done, len(names))
        if segments.info(name, active=name == window.row.active).last_seq >= window.row.floor_seq:
            log.segment(name)
    log.end()
    progress(len(names), len(names))
    rows = _StateAudit(state, log.findings)
    rows.run()
    return Audit(len(names), log.chunks, log.frames, rows.accounts, rows.hosts, tuple(log.findings[:FINDINGS_MAX]))


class _LogAudit:
    """One walk over the log, oldest entry first."""

    def __init__(
        self, state: State, segments: Segments, row: LogRow, raises: tuple[Raise, ...], judge_frame: JudgeFrame | None
    ) -> None:
        self._state = state
        self._segments = segments
        self._row = row
        self._raises = raises
        self._judge_frame = judge_frame
        self._expected = row.floor_seq
        self._time_ms = 0
        self.chunks = 0
        self.frames = 0
        self.findings: list[str] = []

    def segment(self, name: int) -> None:
        """Check every entry of one segment."""
        entries = 0
        for seq, entry, chunk in self._entries(name):
            entries += chunk is not None
            try:
                head, effects = unpack_entry(entry)
            except Corrupt as error:
                self._find(seq, str(error))
                continue
            if head.last_seq >= self._row.floor_seq:
                self._entry(seq, head, effects, chunk)
        with self._segments.borrowed(name, active=name == self._row.active) as env, TRANSLATED, env.begin() as txn:
            chunks = txn.stat(db=env.db[CHUNKS])["entries"]
        if chunks != entries:
            self._find(name, f"the segment has {chunks} chunks and effects for {entries}")

    def _entries(self, name: int) -> Iterator[tuple[int, bytes, bytes | None]]:
        seq = 0
        while True:
            with self._segments.borrowed(name, active=name == self._row.active) as env, TRANSLATED, env.begin() as txn:
                cursor = txn.cursor(db=env.db[EFFECTS])
                found = cursor.set_range(u64(seq + 1))
                batch: list[tuple[int, bytes, bytes | None]] = []
                while found and len(batch) < _ENTRIES_PER_TXN:
                    key, entry = cursor.item()
                    batch.append((u64_of(key), entry, txn.get(key, db=env.db[CHUNKS])))
                    found = cursor.next()
            if not batch:
                return
            seq = batch[-1][0]
            yield from batch

    def _entry(self, seq: int, head: Head, effects: Effects, chunk: bytes | None) -> None:
        if effects.raised_from is not None:
            if not any(jump.after_seq == seq + 1 for jump in self._raises):
                self._find(seq, "a raise that is not recorded")
        elif chunk is None:
            self._find(seq, "effects without a chunk")
        elif seq != self._expected and not self._is_raised_over(seq):
            self._find(seq, f"expected {self._expected}")
        else:
            self._chunk(seq, head, chunk)
        if head.time_ms < self._time_ms:
            self._find(seq, "its time is below that of the chunk before")
        self._expected, self._time_ms = head.last_seq + 1, max(head.time_ms, self._time_ms)
        self._against_state(seq, effects)

    def _is_raised_over(self, seq: int) -> bool:
        return any(jump.before_seq < self._expected <= jump.after_seq == seq for jump in self._raises)

    def _chunk(self, first_seq: int, head: Head, chunk: bytes) -> None:
        self.chunks += 1
        seq = first_seq
        try:
            for frame in iter_messages(chunk):
                fault = self._judge_frame(seq, frame) if self._judge_frame is not None else None
                if fault is not None:
                    self._find(seq, fault)
                seq += 1
        except AssertionError as error:
            self._find(seq, str(error))
        self.frames += seq - first_seq
        if seq != head.last_seq + 1:
            self._find(first_seq, f"holds {seq - first_seq} messages, not {head.last_seq + 1 - first_seq}")

    def _against_state(self, seq: int, effects: Effects) -> None:
        """The state may be ahead of an entry, never behind it or different at the same version."""
        env = self._state.env
        with self._state.reading() as txn:
            for did, row in effects.accounts:
                stored = txn.get(did.encode(), db=env.db[ACCOUNTS])
                versions = version_of(stored), version_of(row)
                if versions[0] < versions[1] or (versions[0] == versions[1] and stored != row):
                    self._find(seq, f"the state of {did} is not what the log says")
            for change in effects.hosts:
                host = read_host(env, txn, change.host_id)
                if host is None:
                    self._find(seq, f"host {change.host_id} is not in the state")
                elif host.epoch == change.epoch and (host.cursor or 0) < (change.cursor or 0):
                    self._find(seq, f"the cursor of {host.hostname} is behind the log")

    def end(self) -> None:
        """The log has to reach the tip of the state."""
        if self._expected != self._row.applied_seq + 1 and not self._is_raised_over(self._row.applied_seq + 1):
            self._find(self._expected, f"the log ends here, its state at {self._row.applied_seq}")

    def _find(self, seq: int, text: str) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(f"seq {seq}: {text}")


class _StateAudit:
    """One walk over the rows of the state."""

    def __init__(self, state: State, findings: list[str]) -> None:
        self._state = state
        self._findings = findings
        self._counts: dict[int, int] = {}
        self._throttled: dict[int, int] = {}
        self.accounts = 0
        self.hosts = 0

    def run(self) -> None:
        """Check accounts, then hosts against them."""
        for key, row in _rows(self._state, ACCOUNTS):
            self._account(key.decode(), row)
        for key, row in _rows(self._state, IDENTITIES):
            self._readable(f"identity {key.decode()}", partial(unpack_identity, key.decode(), row))
        waiting = sum(1 for _ in _rows(self._state, THROTTLED))
        throttled = sum(self._throttled.values())
        if waiting != throttled:
            self._findings.append(f"{throttled} accounts are throttled, {waiting} wait for release")
        self._all_hosts()

    def _account(self, did: str, row: bytes) -> None:
        self.accounts += 1
        if not self._readable(f"account {did}", partial(unpack_account, row)):
            return
        stands = standing(row)
        self._counts[stands.host_id] = self._counts.get(stands.host_id, 0) + stands.counted
        self._throttled[stands.host_id] = self._throttled.get(stands.host_id, 0) + stands.throttled

    def _readable(self, what: str, unpack: Callable[[], object]) -> bool:
        try:
            unpack()
        except (Corrupt, ValueError, IndexError) as error:
            self._findings.append(f"{what}: {error}")
            return False
        return True

    def _all_hosts(self) -> None:
        after_id = 0
        while True:
            with self._state.reading() as txn:
                rows = read_hosts(self._state.env, txn, after_id, _ROWS_PER_TXN)
                for row in rows:
                    self._host(row, read_host_named(self._state.env, txn, row.hostname))
            if not rows:
                break
            after_id = rows[-1].host_id
        for host_id, count in self._counts.items():
            if count:
                self._findings.append(f"{count} accounts belong to host {host_id}, which is not there")

    def _host(self, row: HostRow, named: HostRow | None) -> None:
        self.hosts += 1
        if named is None or named.host_id != row.host_id:
            self._findings.append(f"host {row.hostname} is not found by its name")
        count = self._counts.pop(row.host_id, 0)
        if count != row.account_count:
            self._findings.append(f"host {row.hostname} says {row.account_count} accounts, there are {count}")
        waiting = self._throttled.get(row.host_id, 0)
        if waiting != row.throttled_count:
            self._findings.append(f"host {row.hostname} says {row.throttled_count} accounts wait, there are {waiting}")


def _rows(state: State, name: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All of a sub-db, in bounded txns."""
    env: Env = state.env
    start = b""
    while True:
        with state.reading() as txn:
            cursor = txn.cursor(db=env.db[name])
            found = cursor.set_range(start) if start else cursor.first()
            batch: list[tuple[bytes, bytes]] = []
            while found and len(batch) < _ROWS_PER_TXN:
                batch.append(cursor.item())
                found = cursor.next()
        if not batch:
            return
        start = batch[-1][0] + b"\0"
        yield from batch
