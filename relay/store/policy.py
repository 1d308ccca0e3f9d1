"""What operators decided, as entries of the `policy` sub-db: their names, their shapes, and the audit log.

    setting/NAME           JSON, see the constants below
    domain_ban/DOMAIN      JSON of `DomainBan`
    takedown/DID           JSON of `Takedown`
    alert/HOSTNAME         JSON of `Alert`
    audit/NUMBER           JSON of whoever wrote it, at most `AUDIT_KEPT` of them
    budget/NAME            JSON of `DayBudget`
    discovery/URL          JSON of `DiscoveryRun`
    catching_up            JSON of `CatchingUp`
    clock                  JSON of `ClockDoubt`
    purged                 when the last purge ended, unix ms: what was read of the log before is out of date

Owns names and bounds. Who may decide what is the admin API's; what follows from a decision is that of whoever reads it.
"""

from collections.abc import Iterator, Mapping
from typing import TypeVar

import msgspec

from relay.store.env import Env, Txn
from relay.store.errors import Unpacking
from relay.store.layout import POLICY

SETTING = "setting/"
DOMAIN_BAN = "domain_ban/"
TAKEDOWN = "takedown/"
ALERT = "alert/"
AUDIT = "audit/"
NEW_HOSTS_BUDGET = "budget/new_hosts"
DISCOVERY = "discovery/"
CATCHING_UP = "catching_up"
CLOCK = "clock"
PURGED = "purged"

REQUEST_CRAWL = SETTING + "request_crawl"  # bool; absent: hosts.request_crawl of the configuration
NEW_PER_DAY = SETTING + "new_per_day"  # int; absent: hosts.new_per_day

DAY_MS = 86_400_000
AUDIT_KEPT = 1_000
AUDIT_BYTES_MAX = 2_048
_AUDIT_DIGITS = 12

T = TypeVar("T")
D = TypeVar("D")


class DomainBanned(Exception):  # noqa: N818 -- what is so, to be told to whoever asked; no fault of the store
    """A host lies under a banned domain, which is the message."""


class DomainBan(msgspec.Struct, frozen=True):
    """A domain that is banned with everything below it. `host_ids` are the hosts that its end frees again."""

    since_ms: int = 0
    host_ids: tuple[int, ...] = ()


class Takedown(msgspec.Struct, frozen=True):
    """An account taken down here. `purge` asks that its frames in the window be replaced as well.

    How far that is: `purged_segments` of `segments`, `purged_frames` frames so far; done since `purged_ms`.
    """

    since_ms: int = 0
    purge: bool = False
    segments: int = 0
    purged_segments: int = 0
    purged_frames: int = 0
    purged_ms: int = 0

    def again(self, *, purge: bool) -> "Takedown":
        """After the account is taken down once more: a purge goes on, and begins anew if one is asked for after it."""
        is_due = purge and (not self.purge or self.purged_ms > 0)
        return Takedown(self.since_ms, purge=True) if is_due else self


class Alert(msgspec.Struct, frozen=True):
    """What is known of the account limit alerts of one host. `state` is "", "warning" or "recovery"."""

    silenced: bool = False
    state: str = ""
    sent_ms: int = 0


class DayBudget(msgspec.Struct, frozen=True):
    """What was spent of a daily budget: `count` since `start_ms`, `before` in the day before that."""

    start_ms: int = 0
    count: int = 0
    before: int = 0

    def at(self, now_ms: int) -> "DayBudget":
        """The same, with the day that holds `now_ms` as the present one."""
        days = max(0, now_ms - self.start_ms) // DAY_MS
        if not days:
            return self
        return DayBudget(self.start_ms + days * DAY_MS, 0, self.count if days == 1 else 0)

    def spent(self, now_ms: int) -> float:
        """How much of it lies in the 24 hours before now, taking the day before as spent evenly."""
        today = self.at(now_ms)
        inside = 1 - min(1.0, max(0, now_ms - today.start_ms) / DAY_MS)
        return today.count + today.before * inside

    def take(self, limit: int, now_ms: int) -> "DayBudget | None":
        """After spending one, None when that would be more than `limit` in a day."""
        today = self.at(now_ms) if self.start_ms else DayBudget(now_ms)
        return None if today.spent(now_ms) + 1 > limit else msgspec.structs.replace(today, count=today.count + 1)


class DiscoveryRun(msgspec.Struct, frozen=True):
    """How far the reading of one relay's `listHosts` is. `cursor` continues it, None when it is not under way.

    `listed` and `added` are hosts of this run, `finished_ms` the end of the last complete one, `error` what stopped it,
    `at_ms` when this was written.
    """

    cursor: str | None = None
    started_ms: int = 0
    finished_ms: int = 0
    listed: int = 0
    added: int = 0
    error: str = ""
    at_ms: int = 0


class CatchingUp(msgspec.Struct, frozen=True):
    """Hosts whose backlog is still being read, at `at_ms`. `seconds_left` is a guess by the pace so far, or None."""

    at_ms: int = 0
    hosts: int = 0
    lag_ms: int = 0
    seconds_left: int | None = None


class ClockDoubt(msgspec.Struct, frozen=True):
    """What speaks against our clock of late. `hosts` of the `heard` ones sent events of its future; 0 for no doubt.

    `stepped_ms` is by how much it was set, below 0 for backward, 0 when it was not.
    """

    hosts: int = 0
    heard: int = 0
    stepped_ms: int = 0


def encoded(value: object) -> bytes:
    """A value as it is stored."""
    return msgspec.json.encode(value)


def decoded(data: bytes, kind: type[T]) -> T:
    """The other way. Raises `Corrupt`."""
    with Unpacking("policy"):
        return msgspec.json.decode(data, type=kind)


def name_of(hostname: str) -> str:
    """The name of a 'host[:port]'."""
    return hostname.partition(":")[0] if not hostname.startswith("[") else hostname.partition("]")[0] + "]"


def suffixes(hostname: str) -> Iterator[str]:
    """The name of a 'host[:port]' and every domain above it: a ban of any of them bans the host (checklist 260)."""
    name = name_of(hostname)
    while name:
        yield name
        name = name.partition(".")[2]


def read_policy(env: Env, txn: "Txn[bytes]", name: str) -> bytes | None:
    """One entry."""
    return txn.get(name.encode(), db=env.db[POLICY])


def read_decoded(env: Env, txn: "Txn[bytes]", name: str, kind: type[T], default: D) -> T | D:
    """One entry as a value, `default` when it is not there. Raises `Corrupt`."""
    value = read_policy(env, txn, name)
    return default if value is None else decoded(value, kind)


def read_domain_ban(env: Env, txn: "Txn[bytes]", hostname: str) -> str | None:
    """The banned domain that 'host[:port]' is or lies below, None when it is under no ban."""
    return next((name for name in suffixes(hostname) if read_policy(env, txn, DOMAIN_BAN + name) is not None), None)


def check_domain(env: Env, txn: "Txn[bytes]", hostname: str) -> None:
    """Raise `DomainBanned` when 'host[:port]' is under a ban of a domain."""
    domain = read_domain_ban(env, txn, hostname)
    if domain is not None:
        raise DomainBanned(domain)


def put_takedown(env: Env, txn: "Txn[bytes]", did: str, entry: bytes | None) -> None:
    """The entry of an account that is taken down; None when it no longer is."""
    key = (TAKEDOWN + did).encode()
    if entry is None:
        txn.delete(key, db=env.db[POLICY])
    else:
        txn.put(key, entry, db=env.db[POLICY])


def put_purge_progress(env: Env, txn: "Txn[bytes]", begun: Mapping[str, Takedown], progress: Mapping[str, int]) -> None:
    """Set fields of the takedowns whose purge was `begun` so, but not of one that ended or was made anew meanwhile."""
    for did, known in begun.items():
        entry = read_decoded(env, txn, TAKEDOWN + did, Takedown, None)
        if entry is not None and entry.since_ms == known.since_ms:
            put_takedown(env, txn, did, encoded(msgspec.structs.replace(entry, **progress)))


def read_page(env: Env, txn: "Txn[bytes]", prefix: str, after: str, limit: int) -> list[tuple[str, bytes]]:
    """Up to `limit` entries below `prefix`, the prefix taken off, from behind `after` on."""
    cursor = txn.cursor(db=env.db[POLICY])
    start = prefix.encode()
    first = start + after.encode("utf-8", "replace")
    found = cursor.set_range(first)
    if found and after and cursor.key() == first:
        found = cursor.next()
    page: list[tuple[str, bytes]] = []
    while found and len(page) < limit and cursor.key().startswith(start):
        with Unpacking("the name of a setting"):
            page.append((cursor.key()[len(start) :].decode(), cursor.value()))
        found = cursor.next()
    return page


def read_audit(env: Env, txn: "Txn[bytes]", before: int | None, limit: int) -> list[tuple[int, bytes]]:
    """Up to `limit` entries of the audit log with a number below `before`, newest first."""
    cursor = txn.cursor(db=env.db[POLICY])
    start = AUDIT.encode()
    found = cursor.set_range(_audit_key(before)) if before is not None else cursor.set_range(start + b"~")
    found = cursor.prev() if found else cursor.last()
    page: list[tuple[int, bytes]] = []
    while found and len(page) < limit and cursor.key().startswith(start):
        with Unpacking("the number of an audit entry"):
            page.append((int(cursor.key()[len(start) :]), cursor.value()))
        found = cursor.prev()
    return page


def add_audit(env: Env, txn: "Txn[bytes]", value: bytes) -> None:
    """Add an entry and forget the oldest beyond the bound."""
    assert len(value) <= AUDIT_BYTES_MAX, "an audit entry is bounded by whoever writes it"
    newest = read_audit(env, txn, None, 1)
    number = newest[0][0] + 1 if newest else 1
    txn.put(_audit_key(number), value, db=env.db[POLICY])
    cursor = txn.cursor(db=env.db[POLICY])
    found = cursor.set_range(AUDIT.encode())
    while found and cursor.key() <= _audit_key(max(0, number - AUDIT_KEPT)):
        found = cursor.delete()


def _audit_key(number: int) -> bytes:
    return f"{AUDIT}{number:0{_AUDIT_DIGITS}d}".encode()
