"""The part of the audit that walks over the rows of the state and holds them against each other."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from relay.store.accounts import standing, unpack_account
from relay.store.errors import Corrupt
from relay.store.hosts import HostRow, read_host_named, unpack_host
from relay.store.identities import unpack_identity
from relay.store.layout import ACCOUNTS, HOSTS, IDENTITIES, THROTTLED, did_of, u64_of
from relay.store.state import State

_ROWS_PER_TXN = 1_000

T = TypeVar("T")


class StateAudit:
    """One walk over the rows of the state."""

    def __init__(self, state: State, find: Callable[[str], None]) -> None:
        self._state = state
        self._find = find
        self._counts: dict[int, int] = {}
        self._throttled: dict[int, int] = {}
        self.accounts = 0
        self.hosts = 0

    def run(self) -> None:
        """Check accounts, then hosts against them."""
        for key, row in self._rows(ACCOUNTS):
            self._account(key, row)
        for key, row in self._rows(IDENTITIES):
            did = self._read(f"identity {key!r}", partial(did_of, key))
            if did is not None:
                self._read(f"identity {did}", partial(unpack_identity, did, row))
        waiting = sum(1 for _ in self._rows(THROTTLED))
        throttled = sum(self._throttled.values())
        if waiting != throttled:
            self._find(f"{throttled} accounts are throttled, {waiting} wait for release")
        self._all_hosts()

    def _account(self, key: bytes, row: bytes) -> None:
        self.accounts += 1
        did = self._read(f"account {key!r}", partial(did_of, key))
        if did is None or self._read(f"account {did}", partial(unpack_account, row)) is None:
            return
        stands = standing(row)
        self._counts[stands.host_id] = self._counts.get(stands.host_id, 0) + stands.counted
        self._throttled[stands.host_id] = self._throttled.get(stands.host_id, 0) + stands.throttled

    def _all_hosts(self) -> None:
        for key, data in self._rows(HOSTS):
            self.hosts += 1
            host = self._read(f"host {key.hex()}", partial(unpack_host, data))
            if host is not None:
                self._host(host)
            else:
                self._counts.pop(u64_of(key), None)
        for host_id, count in self._counts.items():
            if count:
                self._find(f"{count} accounts belong to host {host_id}, which is not there")

    def _host(self, row: HostRow) -> None:
        with self._state.reading() as txn:
            named = self._read(f"the name {row.hostname}", partial(read_host_named, self._state.env, txn, row.hostname))
        if named is None or named.host_id != row.host_id:
            self._find(f"host {row.hostname} is not found by its name")
        count = self._counts.pop(row.host_id, 0)
        if count != row.account_count:
            self._find(f"host {row.hostname} says {row.account_count} accounts, there are {count}")
        waiting = self._throttled.get(row.host_id, 0)
        if waiting != row.throttled_count:
            self._find(f"host {row.hostname} says {row.throttled_count} accounts wait, there are {waiting}")

    def _read(self, what: str, read: Callable[[], T]) -> T | None:
        """What `read` gives; None, and a finding, when that cannot be read."""
        try:
            return read()
        except Corrupt as error:
            self._find(f"{what}: {error}")
            return None

    def _rows(self, name: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All of a sub-db, in bounded txns."""
        start = b""
        while True:
            with self._state.reading() as txn:
                cursor = txn.cursor(db=self._state.env.db[name])
                found = cursor.set_range(start) if start else cursor.first()
                batch: list[tuple[bytes, bytes]] = []
                while found and len(batch) < _ROWS_PER_TXN:
                    batch.append(cursor.item())
                    found = cursor.next()
            if not batch:
                return
            start = batch[-1][0] + b"\0"
            yield from batch
