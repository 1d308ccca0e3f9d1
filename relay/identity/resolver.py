"""DID → `Identity`, remembered: memory over the stored rows over one lookup at a time for each DID.

The resolver never decides what an answer means for an event, and never writes storage: answers wait in `take_saves`
until the role writes them with its next batch. One task for each lookup runs in the resolver's own nursery, so a caller
that is cancelled leaves the others their answer.

- A document past its age stays valid and is read again in the background; a stale one (`#identity`) is not used before
  it was read again. For an event that came before that read began, it is no longer stale, whatever was announced since.
- Forced refreshes are bounded for each DID and for each host that asks (`refreshes`).
- A DID that was given up is answered from memory for `negative_seconds`, bounded for each host and in all.
- `down` is the second kind of failure of design section 4: the directory itself.
- That a DID we know is gone is believed when it was said twice, `GONE_CONFIRM_SECONDS` apart: consumers may delete for
  good what is told as deleted, and a read copy of the directory may answer wrongly for a moment.
"""

import zlib
from collections.abc import Callable

import trio

from relay.identity.announcements import Announcements
from relay.identity.fetch import DidFault, DidGone, DirectoryFault, Fetch, LookupFault
from relay.identity.health import DirectoryHealth
from relay.identity.lookup import Lookup, LookupOutcome
from relay.identity.memory import Memory
from relay.identity.negative import Negative
from relay.identity.refreshes import Refreshes
from relay.identity.settings import IdentitySettings
from relay.protocol.diddoc import DidDocument
from relay.verify.facts import Identity

GONE_CONFIRM_SECONDS = 5.0
AGE_JITTER = 0.2

_OUTCOMES = {DidGone: "gone", DidFault: "did_fault", DirectoryFault: "directory_fault"}


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
        self.refreshes = Refreshes(settings.refresh_per_minute)
        self._known = Memory(settings.cache_entries)
        self._lookups: dict[str, Lookup] = {}
        self._negative = Negative(settings.negative_seconds)
        self._saves: dict[str, Identity] = {}
        self._announcements = Announcements()
        self._directory = DirectoryHealth()
        self._slots = {"plc": _limiter(settings), "web": _limiter(settings)}  # a dead web host must not hold up PLC
        self._reads = 0
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hosts the lookups until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    @property
    def down(self) -> bool:
        """Whether the directory, not a DID, is what fails."""
        return self._directory.down

    def refused(self, did: str) -> bool:
        """Whether the directory keeps failing for this DID, long after and while it gave documents of others."""
        return self._directory.refuses(did)

    def known(self, did: str) -> Identity | None:
        """What is known without waiting. Starts a background refresh of a document past its age."""
        identity = self._known.get(did)
        if identity is None:
            identity = self._load(did)
            if identity is None:
                return None
            self._known.put(identity, 0)
        if not identity.stale and self._now_ms() - identity.fetched_ms > self._age_ms(did):
            self._refresh_if_idle(did)
        return identity

    def reread(self, did: str) -> Identity | None:
        """What is known after a look at the stored row: a worker of another host may have read a newer document.

        That one does not know what was announced here, so it does not take a mark off.
        """
        stored, remembered = self._load(did), self._known.get(did)
        if stored is not None and remembered is not None and stored.fetched_ms > remembered.fetched_ms:
            self._known.put(stored._replace(stale=stored.stale or remembered.stale), 0)
        return self.known(did)

    @property
    def reads(self) -> int:
        """How many reads have begun. Noted with an event as it comes, it tells later which documents are newer."""
        return self._reads

    def was_read_since(self, did: str, reads: int) -> bool:
        """Whether the document that we know was asked for after `reads` reads had begun.

        It may be marked stale by now, but holds whatever was announced before that.
        """
        return self._known.read_of(did) > reads

    def mark_stale(self, did: str) -> None:
        """The document may have changed: it is read again before the next use (checklist 184)."""
        identity = self.known(did)
        if did in self._lookups:
            self._lookups[did].is_outdated = True  # what it will answer may be from before
        if identity is not None and not identity.stale:
            marked = self._saves[did] = identity._replace(stale=True)
            self._known.put(marked, self._known.read_of(did))

    def announced(self, did: str, host: str) -> None:
        """A host sent an `#identity`: for a moment the directory may answer with what was so before.

        Should a lookup that is under way name this very host, its answer is stale as it comes.
        """
        if did in self._lookups:
            self._lookups[did].announced_by.add(host)
        self._announcements.add(did, host, trio.current_time())

    def may_lag(self, did: str, host: str) -> bool:
        """Whether an `#identity` of this host is so new that the directory may not show yet what it was about."""
        return self._announcements.may_lag(did, host, trio.current_time())

    def given_up(self, did: str) -> bool:
        """Whether the DID failed for so long that its events need not wait."""
        return self._negative.holds(did, self._now_ms())

    def give_up(self, did: str, host: str) -> None:
        """Remember that the DID does not resolve, for `negative_seconds` (bounds of design section 4)."""
        self._negative.add(did, host, self._now_ms())

    async def resolve(self, did: str, reads: int = 0) -> Identity:
        """Look the DID up now, together with whoever else waits for it. Raises a leaf of `LookupFault`.

        The answer was asked for after `reads` reads had begun: what is under way from before is waited for and left to
        others. A DID known before and gone now is answered with a tombstone that keeps nothing but the fact.
        """
        while True:
            lookup = self._lookups.get(did) or self._start(did)
            await lookup.done.wait()
            if lookup.read > reads:
                break
        if isinstance(lookup.result, Identity):
            return lookup.result
        assert lookup.result is not None, "a lookup ends with a result"
        raise lookup.result

    def take_saves(self) -> tuple[Identity, ...]:
        """The answers since the last call, for the role to write."""
        saves = tuple(self._saves.values())
        self._saves.clear()
        return saves

    def _refresh_if_idle(self, did: str) -> None:
        """Look up in the background, unless that would have to queue: this one can wait, others cannot."""
        if did not in self._lookups and len(self._lookups) < self._settings.lookups_at_once:
            self._start(did)

    def _start(self, did: str) -> Lookup:
        assert self._nursery is not None, "Resolver.run is not running"
        lookup = self._lookups[did] = Lookup()
        self._nursery.start_soon(self._look_up, did, lookup)
        return lookup

    async def _look_up(self, did: str, lookup: Lookup) -> None:
        try:
            document = await self._read(did, lookup)
            lookup.result = self._settle(lookup.identity_of(document), lookup.read)
        except DidGone as fault:
            lookup.result = self._settle_gone(did, lookup, fault)
        except LookupFault as fault:
            lookup.result = fault
        finally:
            del self._lookups[did]
            lookup.done.set()

    async def _read(self, did: str, lookup: Lookup) -> DidDocument:
        """The document. That a live DID is gone has to be said twice."""
        try:
            return await self._ask(did, lookup)
        except DidGone:
            known = self._known.get(did) or self._load(did)
            if known is None or known.tombstone:
                raise
        await trio.sleep(GONE_CONFIRM_SECONDS)
        return await self._ask(did, lookup)

    async def _ask(self, did: str, lookup: Lookup) -> DidDocument:
        """One question, and what its outcome says of the directory."""
        started = trio.current_time()
        try:
            async with self._slots["plc" if did.startswith("did:plc:") else "web"]:
                self._reads += 1
                lookup.begin(self._reads, self._now_ms())
                document = await self._fetch(did)
        except LookupFault as fault:
            self._note(did, _OUTCOMES[type(fault)], started)
            raise
        self._note(did, "found", started)
        return document

    def _note(self, did: str, outcome: str, started: float) -> None:
        now = trio.current_time()
        self._observe(LookupOutcome(outcome, now - started))
        if not did.startswith("did:plc:"):
            return
        if outcome == "found":
            self._directory.found(did, now)
        elif outcome == "directory_fault":
            self._directory.failed(did, now)
        else:
            self._directory.answered(did)

    def _settle(self, identity: Identity, read: int) -> Identity:
        self._negative.forget(identity.did)
        before = self._known.get(identity.did)
        if identity.host and (before is None or (before.key, before.host) != (identity.key, identity.host)):
            self._announcements.seen(identity.did, identity.host)
        self._known.put(identity, read)
        self._saves[identity.did] = identity
        return identity

    def _settle_gone(self, did: str, lookup: Lookup, fault: DidGone) -> Identity | DidGone:
        if (self._known.get(did) or self._load(did)) is None:
            return fault
        return self._settle(lookup.tombstone(did), lookup.read)

    def _age_ms(self, did: str) -> float:
        """The age limit of this DID, spread by ± 20 % so that documents read together do not expire together."""
        spread = (zlib.crc32(did.encode()) / 0xFFFFFFFF - 0.5) * 2 * AGE_JITTER
        return self._settings.cache_hours * 3_600_000 * (1 + spread)


def _limiter(settings: IdentitySettings) -> trio.CapacityLimiter:
    return trio.CapacityLimiter(settings.lookups_at_once)
