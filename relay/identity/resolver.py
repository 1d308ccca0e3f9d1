"""DID → `Identity`, remembered: memory over the stored rows over one lookup at a time for each DID.

The resolver never decides what an answer means for an event, and never writes storage: answers wait in `take_saves`
until the role writes them with its next batch. One task for each lookup runs in the resolver's own nursery, so a caller
that is cancelled leaves the others their answer.

- A document past its age stays valid and is read again in the background; a stale one (`#identity`) is not used before
  it was read again.
- Forced refreshes are bounded for each DID and for each host that asks; a refused one answers with what is known.
- A DID that was given up is answered from memory for `negative_seconds`, bounded for each host and in all.
- `down` is the second kind of failure of design section 4: the directory itself. While it lasts nobody gives up.
"""

import zlib
from collections import OrderedDict, deque
from collections.abc import Callable
from math import inf
from typing import NamedTuple

import trio

from relay.identity.fetch import DidFault, DidGone, DirectoryFault, Fetch, LookupFault
from relay.identity.settings import IdentitySettings
from relay.net.limiter import Keyed, TokenBucket
from relay.protocol.diddoc import DidDocument, normalise_host
from relay.verify.identity import Identity

NEGATIVE_ENTRIES_MAX = 100_000
NEGATIVE_ENTRIES_PER_HOST_MAX = 100
REFRESHES_PER_DID_BURST = 5  # handle change, rotation and migration may follow each other closely; then one a minute
BUCKETS_MAX = 50_000
OUTCOMES_KEPT = 20
LAG_SECONDS_MAX = 30.0
AGE_JITTER = 0.2


class _Lookup:
    """A lookup under way: who waits for it, and what came of it."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.result: Identity | LookupFault | None = None


class LookupOutcome(NamedTuple):
    """For metrics: `outcome` is found, gone, did_fault or directory_fault."""

    outcome: str
    seconds: float


class Resolver:
    """Resolved identities of one worker. `load` reads the stored row; `now_ms` is the wall clock."""

    def __init__(
        self,
        settings: IdentitySettings,
        fetch: Fetch,
        load: Callable[[str], Identity | None],
        now_ms: Callable[[], int],
        observe: Callable[[LookupOutcome], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._fetch = fetch
        self._load = load
        self._now_ms = now_ms
        self._observe = observe
        self._known: OrderedDict[str, Identity] = OrderedDict()
        self._lookups: dict[str, _Lookup] = {}
        self._negative: OrderedDict[str, tuple[int, str]] = OrderedDict()
        self._negative_of_host: dict[str, int] = {}
        self._saves: dict[str, Identity] = {}
        self._announced: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._failed: deque[bool] = deque(maxlen=OUTCOMES_KEPT)
        self._slots = trio.CapacityLimiter(settings.lookups_at_once)
        self._per_did = Keyed(_refreshes(1, REFRESHES_PER_DID_BURST), BUCKETS_MAX)
        self._per_host = Keyed(_refreshes(settings.refresh_per_minute, settings.refresh_per_minute), BUCKETS_MAX)
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hosts the lookups until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    @property
    def down(self) -> bool:
        """Whether the directory, not a DID, is what fails: half or more of the last lookups."""
        return bool(self._failed) and sum(self._failed) * 2 >= len(self._failed)

    def known(self, did: str) -> Identity | None:
        """What is known without waiting. Starts a background refresh of a document past its age."""
        identity = self._known.get(did)
        if identity is None:
            identity = self._load(did)
            if identity is None:
                return None
            self._remember(identity)
        else:
            self._known.move_to_end(did)
        if not identity.stale and self._now_ms() - identity.fetched_ms > self._age_ms(did):
            self._start(did, background=True)
        return identity

    def reread(self, did: str) -> Identity | None:
        """What is known after a look at the stored row: a worker of another host may have read a newer document."""
        stored, remembered = self._load(did), self._known.get(did)
        if stored is not None and remembered is not None and stored.fetched_ms > remembered.fetched_ms:
            self._remember(stored)
        return self.known(did)

    def mark_stale(self, did: str) -> None:
        """The document may have changed: it is read again before the next use (checklist 184)."""
        identity = self.known(did)
        if identity is not None and not identity.stale:
            self._remember(identity._replace(stale=True))
            self._saves[did] = self._known[did]

    def announced(self, did: str, host: str) -> None:
        """A host sent an `#identity`: for a moment the directory may answer with what was so before."""
        self._announced[did] = (host, trio.current_time())
        self._announced.move_to_end(did)
        if len(self._announced) > BUCKETS_MAX:
            self._announced.popitem(last=False)

    def may_lag(self, did: str, host: str) -> bool:
        """Whether an `#identity` of this host is so new that the directory may not show yet what it was about."""
        told_by, at = self._announced.get(did, ("", -inf))
        return told_by == host and trio.current_time() - at < LAG_SECONDS_MAX

    def given_up(self, did: str) -> bool:
        """Whether the DID failed for so long that its events need not wait."""
        until = self._negative.get(did)
        return until is not None and self._now_ms() < until[0]

    def give_up(self, did: str, host: str) -> None:
        """Remember that the DID does not resolve, for `negative_seconds` (bounds of design section 4)."""
        if did in self._negative:
            self._forget_negative(did)
        if self._negative_of_host.get(host, 0) >= NEGATIVE_ENTRIES_PER_HOST_MAX:
            self._forget_negative(next(key for key, (_, owner) in self._negative.items() if owner == host))
        if len(self._negative) >= NEGATIVE_ENTRIES_MAX:
            self._forget_negative(next(iter(self._negative)))
        self._negative[did] = (self._now_ms() + int(self._settings.negative_seconds * 1000), host)
        self._negative_of_host[host] = self._negative_of_host.get(host, 0) + 1

    def may_refresh(self, did: str, host: str) -> bool:
        """Takes one forced refresh of `did` at the request of `host` from both budgets, if there is one."""
        now = trio.current_time()
        return self._per_host.get(host, now).take(now) and self._per_did.get(did, now).take(now)

    async def resolve(self, did: str) -> Identity:
        """Look the DID up now, together with whoever else waits for it. Raises a leaf of `LookupFault`.

        A DID known before and gone now is answered with a tombstone that keeps nothing but the fact.
        """
        lookup = self._start(did, background=False)
        await lookup.done.wait()
        if isinstance(lookup.result, Identity):
            return lookup.result
        assert lookup.result is not None, "a lookup ends with a result"
        raise lookup.result

    def take_saves(self) -> tuple[Identity, ...]:
        """The answers since the last call, for the role to write."""
        saves = tuple(self._saves.values())
        self._saves.clear()
        return saves

    def _start(self, did: str, *, background: bool) -> _Lookup:
        lookup = self._lookups.get(did)
        if lookup is None:
            assert self._nursery is not None, "Resolver.run is not running"
            lookup = _Lookup()
            if background and len(self._lookups) >= self._settings.lookups_at_once:
                return lookup  # a refresh that can wait does not queue behind those that cannot
            self._lookups[did] = lookup
            self._nursery.start_soon(self._look_up, did, lookup)
        return lookup

    async def _look_up(self, did: str, lookup: _Lookup) -> None:
        started = trio.current_time()
        outcome = "found"
        try:
            async with self._slots:
                document = await self._fetch(did)
            lookup.result = self._settle(_identity_of(document, self._now_ms()))
        except DidGone as fault:
            outcome = "gone"
            lookup.result = self._settle_gone(did, fault)
        except DidFault as fault:
            outcome, lookup.result = "did_fault", fault
        except DirectoryFault as fault:
            outcome, lookup.result = "directory_fault", fault
        finally:
            del self._lookups[did]
            lookup.done.set()
        self._failed.append(outcome == "directory_fault")
        self._observe(LookupOutcome(outcome, trio.current_time() - started))

    def _settle(self, identity: Identity) -> Identity:
        if identity.did in self._negative:
            self._forget_negative(identity.did)
        before = self._known.get(identity.did)
        if before is None or (before.key, before.host) != (identity.key, identity.host):
            self._announced.pop(identity.did, None)
        self._remember(identity)
        self._saves[identity.did] = identity
        return identity

    def _settle_gone(self, did: str, fault: DidGone) -> Identity | DidGone:
        if (self._known.get(did) or self._load(did)) is None:
            return fault
        return self._settle(Identity(did, None, None, self._now_ms(), tombstone=True))

    def _remember(self, identity: Identity) -> None:
        self._known[identity.did] = identity
        self._known.move_to_end(identity.did)
        if len(self._known) > self._settings.cache_entries:
            self._known.popitem(last=False)

    def _forget_negative(self, did: str) -> None:
        _, host = self._negative.pop(did)
        self._negative_of_host[host] -= 1
        if not self._negative_of_host[host]:
            del self._negative_of_host[host]

    def _age_ms(self, did: str) -> float:
        """The age limit of this DID, spread by ± 20 % so that documents read together do not expire together."""
        spread = (zlib.crc32(did.encode()) / 0xFFFFFFFF - 0.5) * 2 * AGE_JITTER
        return self._settings.cache_hours * 3_600_000 * (1 + spread)


def _refreshes(per_minute: int, burst: int) -> Callable[[float], TokenBucket]:
    return lambda now: TokenBucket(per_minute / 60.0, burst, now)


def _identity_of(document: DidDocument, now_ms: int) -> Identity:
    host = normalise_host(document.pds) if document.pds else None
    return Identity(document.did, document.key, host, now_ms)
