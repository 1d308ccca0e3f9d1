"""The part of the audit that walks over the log, oldest entry first, and holds the state against it."""

from collections.abc import Callable
from itertools import chain

from relay.protocol.frame import iter_messages
from relay.store.accounts import version_of
from relay.store.effects import Effects, Head, unpack_entry
from relay.store.env import TRANSLATED
from relay.store.errors import Corrupt
from relay.store.hosts import read_host
from relay.store.layout import ACCOUNTS, CHUNKS, META, META_RESTORED, read_log_row, read_raises
from relay.store.segments import Segments
from relay.store.state import State

JudgeFrame = Callable[[int, bytes], str | None]
Find = Callable[[str], None]


class LogAudit:
    """One walk over the log. Raises `StoreError` when it cannot be told how the log stands."""

    def __init__(self, state: State, segments: Segments, judge_frame: JudgeFrame, find: Find) -> None:
        self._state = state
        self._segments = segments
        self._judge_frame = judge_frame
        self._tell = find
        with state.reading() as txn:
            self._row, self._raises = read_log_row(state.env, txn), read_raises(state.env, txn)
            self._is_restored = txn.get(META_RESTORED, db=state.env.db[META]) is not None
        self._expected = 0  # the seq that comes next; 0 before the first in a copy, which has what was left by then
        if not self._is_restored:
            self._expected = self._row.floor_seq
        self._time_ms = 0
        self.chunks = 0
        self.frames = 0

    def segment(self, name: int) -> None:
        """Check every entry of one segment; one that is below the floor was left over by a retention cut off."""
        active = name >= self._row.active
        try:
            if self._is_restored or self._segments.info(name, active=active).last_seq >= self._row.floor_seq:
                self._entries(name, active=active)
        except Corrupt as error:
            self._tell(f"segment {name}: {error}")

    def _entries(self, name: int, *, active: bool) -> None:
        entries = 0
        for seq, chunk, entry in chain.from_iterable(self._segments.entries(name, active=active)):
            entries += chunk is not None
            try:
                head, effects = unpack_entry(entry)
            except Corrupt as error:
                self._find(seq, str(error))
                continue
            if self._is_restored or head.last_seq >= self._row.floor_seq:
                self._entry(seq, head, effects, chunk)
        with self._segments.borrowed(name, active=active) as env, TRANSLATED, env.begin() as txn:
            chunks = txn.stat(db=env.db[CHUNKS])["entries"]
        if chunks != entries:
            self._find(name, f"the segment has {chunks} chunks and effects for {entries}")

    def _entry(self, seq: int, head: Head, effects: Effects, chunk: bytes | None) -> None:
        is_known = seq <= self._row.applied_seq  # else the state has it with the next start
        if effects.raised_from is not None:
            if is_known and not any(jump.after_seq == seq + 1 for jump in self._raises):
                self._find(seq, "a raise that is not recorded")
        elif chunk is None:
            self._find(seq, "effects without a chunk")
        elif self._expected not in (0, seq) and not self._is_raised_over(seq):
            self._find(seq, f"expected {self._expected}")
        else:
            self._chunk(seq, head, chunk)
        if head.time_ms < self._time_ms:
            self._find(seq, "its time is below that of the chunk before")
        self._expected, self._time_ms = head.last_seq + 1, max(head.time_ms, self._time_ms)
        if is_known:
            self._against_state(seq, effects)

    def _is_raised_over(self, seq: int) -> bool:
        return any(jump.before_seq < self._expected <= jump.after_seq == seq for jump in self._raises)

    def _chunk(self, first_seq: int, head: Head, chunk: bytes) -> None:
        self.chunks += 1
        seq = first_seq
        try:
            for frame in iter_messages(chunk):
                fault = self._judge_frame(seq, frame)
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
                try:
                    host = read_host(env, txn, change.host_id)
                except Corrupt:
                    continue  # found with the rows of the state
                if host is None:
                    self._find(seq, f"host {change.host_id} is not in the state")
                elif host.epoch == change.epoch and (host.cursor or 0) < (change.cursor or 0):
                    self._find(seq, f"the cursor of {host.hostname} is behind the log")

    def end(self) -> None:
        """The log has to reach the tip of the state; in a copy what is missing will be raised over."""
        if self._is_restored or self._is_raised_over(self._row.applied_seq + 1):
            return
        if self._expected <= self._row.applied_seq:
            self._find(self._expected, f"the log ends here, its state at {self._row.applied_seq}")

    def _find(self, seq: int, text: str) -> None:
        self._tell(f"seq {seq}: {text}")
