"""The store as one object: open it once per process, append, look, read, and change hosts and policy.

Synchronous and without a clock. Any thread may look and read; writing takes the one lock of the state env, in one
thread from begin to end, so one thread per process should do all of it. No await inside a view. After a `StoreError`
while writing the object refuses further use; the process is expected to end and a new one heals what was cut off.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from relay.store import creation
from relay.store.append import append
from relay.store.bans import ban_domain, ban_host, free_domain, free_host
from relay.store.batch import Appended, Batch, TakedownMark
from relay.store.env import TRANSLATED, Env, open_env
from relay.store.errors import LayoutMismatch
from relay.store.hosts import HostRow, add_host, read_host_named, report_host, update_host
from relay.store.inspect import Audit, Progress, audit, no_progress, seq_fault
from relay.store.inspectlog import JudgeFrame
from relay.store.layout import LOG_FOLDER, POLICY, STATE_DBS, STATE_FOLDER, bump_generation
from relay.store.localstatus import StatusChange, set_local_status, status_item
from relay.store.policy import (
    DISCOVERY,
    NEW_HOSTS_BUDGET,
    DayBudget,
    DiscoveryRun,
    Takedown,
    add_audit,
    encoded,
    put_purge_progress,
    read_decoded,
    read_domain_ban,
)
from relay.store.purge import purge_segment, seal
from relay.store.read import Reader
from relay.store.retention import StoreStats, log_bytes, retain
from relay.store.segments import Segments
from relay.store.settings import LogSettings
from relay.store.state import OnStep, State, no_step
from relay.store.view import View
from relay.store.window import LogWindow, Tip, Window, tip_of
from relay.verify.facts import AccountState


class Store:
    """The log and the state of one relay, as one process sees them. Made by `Store.open`."""

    def __init__(self, state: State, segments: Segments, settings: LogSettings) -> None:
        self.settings = settings
        self._state = state
        self._segments = segments
        self._log = LogWindow(state, segments)

    @classmethod
    def open(
        cls,
        data_dir: Path,
        settings: LogSettings,
        *,
        create: bool = False,
        now_ms: int | None = None,
        readonly: bool = False,
        alone: bool = False,
        on_step: OnStep = no_step,
    ) -> "Store":
        """Open the store under `data_dir`. Raises `LayoutMismatch`, with nothing touched, and other `StoreError`s.

        `create` is the start of a relay, when no other process works on the folder: it makes an empty store where there
        is none, raises the seqs of a restored copy, and applies a numeric `initial_seq` as a floor. It needs `now_ms`
        (unix ms) for the first two. Without it the store has to be there. `readonly` changes nothing, not even to heal;
        `alone`, when nobody else is at work there, no lock file either. `on_step`: see `relay.store.state`.
        """
        if not creation.is_ours(data_dir, alone=create or alone):
            if not create:
                raise LayoutMismatch(f"{data_dir} holds no relay")
            creation.create(data_dir, settings, now_ms)
        state = State(_state_env(data_dir, settings, readonly, alone), readonly=readonly, on_step=on_step)
        segments = Segments(data_dir / LOG_FOLDER, settings, readonly=readonly, alone=alone)
        try:
            if create:
                segments.sweep(unfinished=True)
                segments.check_whole()
                with state.writing() as txn:
                    creation.start(state, segments, settings, txn, now_ms)
            elif not readonly:
                with state.writing() as txn:
                    creation.recover(state, segments, txn)
            return cls(state, segments, settings)
        except BaseException:
            segments.close()
            state.close()
            raise

    def close(self) -> None:
        """Give the envs back. No txn may be open in any thread."""
        self._segments.close()
        self._state.close()

    def append(self, batch: Batch) -> Appended:
        """Append a batch under the lock (see `relay.store.append`). Raises `StoreError`."""
        return append(self._state, self._segments, self.settings, batch)

    def view(self) -> View:
        """A snapshot of the state, as a context manager. Raises `StoreError`."""
        return View(self._state)

    def set_local_status(self, did: str, status: str, *, now_ms: int) -> StatusChange:
        """Take an account down ("takendown", "suspended") or, with "", restore it; emits `#account` (checklist 174).

        Raises `KeyError` for a DID without a row. In the worker that ingests, its writing thread has to do this.
        """
        return set_local_status(self.append, self._read_account, did, status, now_ms)

    def take_down(self, did: str, *, now_ms: int, purge: bool = False) -> StatusChange:
        """As `set_local_status` to "takendown", with the entry of the takedown (and its purge) in the same append.

        Once more for an account that is taken down changes nothing, but for a purge that is newly asked for.
        """
        mark = TakedownMark(did, now_ms, purge)
        return set_local_status(self.append, self._read_account, did, "takendown", now_ms, takedown=mark)

    def restore(self, did: str, *, now_ms: int) -> StatusChange:
        """The other way: status and entry go in the same append. Raises `KeyError` for a DID without a row."""
        mark = TakedownMark(did, 0)
        return set_local_status(self.append, self._read_account, did, "", now_ms, takedown=mark)

    def note_purge(self, begun: Mapping[str, Takedown], progress: Mapping[str, int]) -> None:
        """How far a purge is, as fields of `Takedown`; not for one that ended or was made anew since it had `begun`."""
        with self._state.writing() as txn:
            put_purge_progress(self._state.env, txn, begun, progress)

    def _read_account(self, did: str) -> AccountState | None:
        with self.view() as view:
            return view.account(did)

    def add_host(self, hostname: str, *, insecure: bool, now_ms: int, **fields: Any) -> HostRow:
        """The host of that name ('host[:port]'), added with `fields` of `HostRow` if it was not known.

        Raises `DomainBanned` for one that was not known and is under a ban by now.
        """
        with self._state.writing() as txn:
            fields = {"since_ms": now_ms, **fields, "insecure": insecure, "first_seen_ms": now_ms}
            return add_host(self._state.env, txn, hostname, fields)

    def admit_host(self, hostname: str, *, insecure: bool, now_ms: int, per_day: int, **fields: Any) -> HostRow | None:
        """As `add_host` at the cost of one from the budget of new hosts; None when `per_day` of them are spent.

        Budget and row are one txn, so neither a restart nor another worker can spend it twice (checklist 240). A host
        that is known costs nothing. Raises `DomainBanned` as `add_host` does.
        """
        with self._state.writing() as txn:
            env = self._state.env
            known = read_host_named(env, txn, hostname)
            if known is not None:
                return known
            budget = read_decoded(env, txn, NEW_HOSTS_BUDGET, DayBudget, DayBudget()).take(per_day, now_ms)
            if budget is None:
                return None
            txn.put(NEW_HOSTS_BUDGET.encode(), encoded(budget), db=env.db[POLICY])
            fields = {"since_ms": now_ms, **fields, "insecure": insecure, "first_seen_ms": now_ms}
            return add_host(env, txn, hostname, fields)

    def add_listed_hosts(
        self, hosts: Iterable[tuple[str, Mapping[str, Any]]], *, now_ms: int, run: str, progress: DiscoveryRun
    ) -> int:
        """Add the hosts of one page of another relay's list, and how far that list is read, in one txn.

        Of hosts that are known only `listed_accounts` rises; those under a ban by now are left out. `progress.added` is
        completed here; returns how many were.
        """
        with self._state.writing() as txn:
            env, added = self._state.env, 0
            for hostname, fields in hosts:
                known = read_host_named(env, txn, hostname)
                if known is None and read_domain_ban(env, txn, hostname) is None:
                    add_host(env, txn, hostname, {"since_ms": now_ms, **fields, "first_seen_ms": now_ms})
                    added += 1
                elif known is not None and fields.get("listed_accounts", 0) > known.listed_accounts:
                    update_host(env, txn, known.host_id, {"listed_accounts": fields["listed_accounts"]})
            done = msgspec.structs.replace(progress, added=progress.added + added)
            txn.put((DISCOVERY + run).encode(), encoded(done), db=env.db[POLICY])
            return added

    def note_policy(self, name: str, value: bytes) -> None:
        """Set an entry that no worker holds in memory: the generation stays."""
        with self._state.writing() as txn:
            txn.put(name.encode(), value, db=self._state.env.db[POLICY])

    def release_throttled(self, host_id: int, limit: int, *, now_ms: int) -> int:
        """Let up to `limit` throttled accounts of a host in, oldest first; each emits `#account`. Returns how many.

        As `set_local_status`: in the worker that ingests, its writing thread has to do this.
        """
        with self.view() as view:
            found = [(did, view.account(did)) for did in view.throttled(host_id, limit)]
        items = tuple(
            status_item(did, account, account._replace(local_status=""), now_ms)
            for did, account in found
            if account is not None and account.local_status == "throttled"
        )
        return len(items) - len(self.append(Batch(now_ms, items)).refused) if items else 0

    def update_host(self, host_id: int, **fields: Any) -> HostRow:
        """Change fields of a host. Raises `KeyError` for an unknown one, `TypeError` for a field that cannot change.

        Bumps the generation unless only bookkeeping changed; a ban and its end are no bookkeeping.
        """
        with self._state.writing() as txn:
            return update_host(self._state.env, txn, host_id, fields)

    def ban_host(self, host_id: int, *, now_ms: int) -> None:
        """Ban a host for itself (see `relay.store.bans`). Raises `KeyError` for an unknown one."""
        with self._state.writing() as txn:
            ban_host(self._state.env, txn, host_id, now_ms)

    def free_host(self, host_id: int, *, now_ms: int) -> None:
        """End the ban of a host. Raises `DomainBanned` while a ban of its domain holds, `KeyError`."""
        with self._state.writing() as txn:
            free_host(self._state.env, txn, host_id, now_ms)

    def ban_domain(self, domain: str, *, now_ms: int) -> None:
        """Ban a domain with every host below it, in one txn."""
        with self._state.writing() as txn:
            ban_domain(self._state.env, txn, domain, now_ms)

    def free_domain(self, domain: str, *, now_ms: int) -> bool:
        """End the ban of a domain and of its hosts, in one txn; False when it is not banned."""
        with self._state.writing() as txn:
            return free_domain(self._state.env, txn, domain, now_ms)

    def update_hosts(self, changes: Mapping[int, Mapping[str, Any]]) -> None:
        """What a worker reports of several hosts, in one txn. Hosts that are gone are passed over; a ban stays."""
        with self._state.writing() as txn:
            for host_id, fields in changes.items():
                report_host(self._state.env, txn, host_id, dict(fields))

    def set_policy(self, name: str, value: bytes | None) -> None:
        """Set or (None) remove an operator's setting, and bump the generation."""
        env = self._state.env
        with self._state.writing() as txn:
            if value is None:
                txn.delete(name.encode(), db=env.db[POLICY])
            else:
                txn.put(name.encode(), value, db=env.db[POLICY])
            bump_generation(env, txn)

    def add_audit(self, value: bytes) -> None:
        """Add an entry to the audit log; no worker has to look again because of it."""
        with self._state.writing() as txn:
            add_audit(self._state.env, txn, value)

    def tip(self) -> Tip:
        """Where the log stands, in a fresh snapshot."""
        return tip_of(self._log.refresh())

    def poll(self) -> Tip | None:
        """As `tip`, or None when nothing at all was committed since the last poll of this object."""
        return self._log.poll()

    def reader(self) -> Reader:
        """A new position in the log."""
        return Reader(self._log)

    def window(self) -> Window:
        """The backfill window with the raises that concern it."""
        return self._log.window()

    def seq_at(self, time_ms: int) -> int:
        """The first seq stored at or after a batch time; `tip + 1` when there is none yet."""
        return self._log.seq_at(time_ms)

    def retain(self, *, by_time: bool = True) -> int:
        """Remove what is out of the window; `by_time=False` while clock and tip are too far apart. Returns segments."""
        return retain(self._state, self._segments, self.settings, by_time=by_time)

    def seal(self) -> tuple[int, ...]:
        """Begin a new segment with the next append; the names of those that will not change any more."""
        return seal(self._state, self._segments)

    def purge_segment(self, name: int, dids: Collection[str]) -> int:
        """Replace what these accounts have in a sealed segment by `#account` (see `relay.store.purge`)."""
        return purge_segment(self._state, self._segments, name, dids)

    def audit(self, *, judge_frame: JudgeFrame = seq_fault, progress: Progress = no_progress) -> Audit:
        """Look at everything and report what is wrong (see `relay.store.inspect`)."""
        return audit(self._state, self._segments, judge_frame=judge_frame, progress=progress)

    def check_readers(self) -> int:
        """Free the reader slots of processes that died. Returns how many there were."""
        with TRANSLATED:
            return self._state.env.reader_check()

    def stats(self) -> StoreStats:
        """Sizes for metrics."""
        self._state.check()
        env, row = self._state.env, self._log.refresh()
        with TRANSLATED:
            size, count = log_bytes(self._segments, row)
            return StoreStats(
                log_bytes=size,
                segments=count,
                state_bytes=env.used_bytes(),
                state_map_bytes=env.map_bytes(),
                state_free_pages=env.free_pages(),
                readers=env.readers(),
            )


def _state_env(data_dir: Path, settings: LogSettings, readonly: bool, alone: bool) -> Env:
    return open_env(
        data_dir / STATE_FOLDER,
        STATE_DBS,
        map_bytes=settings.state_map_bytes,
        sync=settings.sync,
        readahead=False,
        readonly=readonly,
        lock=not alone,
    )
