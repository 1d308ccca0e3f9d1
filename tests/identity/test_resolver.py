"""What a worker remembers of DIDs, and how often it asks."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
import trio.testing

from relay.identity.fetch import DidFault, DidGone, DirectoryFault, LookupFault
from relay.identity.lookup import LookupOutcome
from relay.identity.negative import ENTRIES_PER_HOST_MAX
from relay.identity.resolver import GONE_CONFIRM_SECONDS, Resolver
from relay.identity.settings import IdentitySettings
from relay.protocol.diddoc import DidDocument
from relay.verify.facts import Identity

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
HOUR_MS = 3_600_000


class Directory:
    """A directory in memory: documents or faults by DID, and a record of who was looked up."""

    def __init__(self) -> None:
        self.answers: dict[str, DidDocument | LookupFault] = {}
        self.asked: list[str] = []
        self.gate: trio.Event | None = None

    def publish(self, did: str, host: str) -> None:
        self.answers[did] = DidDocument(did, None, f"https://{host}")

    async def fetch(self, did: str) -> DidDocument:
        self.asked.append(did)
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.get(did, DidGone("not registered"))
        if isinstance(answer, LookupFault):
            raise answer
        return answer


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000 * HOUR_MS

    def __call__(self) -> int:
        return self.ms


async def started(
    nursery: trio.Nursery,
    directory: Directory,
    clock: Clock,
    load: Callable[[str], Identity | None] = lambda _: None,
    settings: IdentitySettings | None = None,
) -> Resolver:
    resolver = Resolver(settings or IdentitySettings(), directory.fetch, load, clock)
    await nursery.start(resolver.run)
    return resolver


async def test_a_resolved_did_is_known_and_saved_once(nursery: trio.Nursery) -> None:
    directory, clock = Directory(), Clock()
    directory.publish(DID, "pds.example.com")
    resolver = await started(nursery, directory, clock)

    assert resolver.known(DID) is None
    identity = await resolver.resolve(DID)

    assert (identity.host, identity.fetched_ms) == ("pds.example.com", clock.ms)
    assert resolver.known(DID) == identity
    assert resolver.take_saves() == (identity,)
    assert resolver.take_saves() == ()


async def test_a_stored_identity_is_used_without_a_lookup(nursery: trio.Nursery) -> None:
    """A restart resolves nothing again."""
    directory, clock = Directory(), Clock()
    stored = Identity(DID, None, "pds.example.com", clock.ms - HOUR_MS)
    resolver = await started(nursery, directory, clock, {DID: stored}.get)

    assert resolver.known(DID) == stored
    await trio.testing.wait_all_tasks_blocked()
    assert directory.asked == []


async def test_what_another_worker_stored_later_replaces_what_is_remembered(nursery: trio.Nursery) -> None:
    """And what it stored earlier does not."""
    clock, rows = Clock(), dict[str, Identity]()
    directory = Directory()
    resolver = await started(nursery, directory, clock, rows.get)
    directory.publish(DID, "old.example.com")
    remembered = await resolver.resolve(DID)

    for later_ms, host in ((-1, "old.example.com"), (1, "new.example.com")):
        rows[DID] = Identity(DID, None, "new.example.com", clock.ms + later_ms)
        assert resolver.known(DID) == remembered
        found = resolver.reread(DID)
        assert found is not None
        assert found.host == host
    assert resolver.known(DID) == rows[DID]
    assert resolver.reread("did:plc:unknown") is None


async def test_many_waiters_share_one_lookup(nursery: trio.Nursery) -> None:
    """Checklist 158: 1,000 events of one new DID cost one request."""
    directory, clock = Directory(), Clock()
    directory.publish(DID, "pds.example.com")
    directory.gate = trio.Event()
    resolver = await started(nursery, directory, clock)
    answers: list[Identity] = []

    async def wait() -> None:
        answers.append(await resolver.resolve(DID))

    async with trio.open_nursery() as waiters:
        for _ in range(1_000):
            waiters.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        directory.gate.set()

    assert len(answers) == 1_000
    assert directory.asked == [DID]


async def test_a_cancelled_waiter_leaves_the_others_their_answer(nursery: trio.Nursery) -> None:
    directory, clock = Directory(), Clock()
    directory.publish(DID, "pds.example.com")
    directory.gate = trio.Event()
    resolver = await started(nursery, directory, clock)
    scope = trio.CancelScope()

    async def give_up() -> None:
        with scope:
            await resolver.resolve(DID)

    nursery.start_soon(give_up)
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()
    directory.gate.set()

    assert (await resolver.resolve(DID)).host == "pds.example.com"
    assert directory.asked == [DID]


async def test_a_document_past_its_age_stays_valid_while_its_refresh_fails(nursery: trio.Nursery) -> None:
    directory, clock = Directory(), Clock()
    directory.publish(DID, "pds.example.com")
    resolver = await started(nursery, directory, clock)
    first = await resolver.resolve(DID)
    directory.answers[DID] = DirectoryFault("timeout")
    clock.ms += 30 * HOUR_MS

    assert resolver.known(DID) == first
    await trio.testing.wait_all_tasks_blocked()
    assert directory.asked == [DID, DID]
    assert resolver.known(DID) == first

    directory.publish(DID, "new.example.com")
    resolver.known(DID)
    await trio.testing.wait_all_tasks_blocked()
    fresh = resolver.known(DID)
    assert fresh is not None
    assert fresh.host == "new.example.com"


@pytest.mark.parametrize(("hours", "asks"), [(19, 1), (29, 2)])
async def test_ages_are_spread_but_bounded(nursery: trio.Nursery, hours: int, asks: int) -> None:
    """24 hours ± 20 %: never before 19.2, always by 28.8."""
    directory, clock = Directory(), Clock()
    directory.publish(DID, "pds.example.com")
    resolver = await started(nursery, directory, clock)
    await resolver.resolve(DID)
    clock.ms += hours * HOUR_MS
    resolver.known(DID)
    await trio.testing.wait_all_tasks_blocked()

    assert len(directory.asked) == asks


async def test_stale_is_kept_and_saved_until_read_again(nursery: trio.Nursery) -> None:
    directory, clock = Directory(), Clock()
    directory.publish(DID, "pds.example.com")
    resolver = await started(nursery, directory, clock)
    identity = await resolver.resolve(DID)
    resolver.take_saves()

    resolver.mark_stale(DID)
    assert resolver.known(DID) == identity._replace(stale=True)
    assert resolver.take_saves() == (identity._replace(stale=True),)

    assert not (await resolver.resolve(DID)).stale


async def test_gone_is_a_tombstone_for_a_known_did_and_a_fault_for_an_unknown_one(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Checklist 144, 181. One that is gone already, or never was, is asked for once."""
    directory, clock = Directory(), Clock()
    directory.publish(DID, "pds.example.com")
    resolver = await started(nursery, directory, clock)
    await resolver.resolve(DID)
    del directory.answers[DID]

    tombstone = await resolver.resolve(DID)
    assert tombstone.tombstone
    assert tombstone.host is None
    assert await resolver.resolve(DID) == tombstone
    with pytest.raises(DidGone):
        await resolver.resolve("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
    assert directory.asked == [DID] * 4 + ["did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"]


@pytest.mark.parametrize("is_stored", [True, False])
async def test_that_a_live_did_is_gone_has_to_be_said_twice(
    is_stored: bool, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Checklist 181: consumers may delete for good what one wrong answer would tell them is deleted."""
    directory, outcomes = Directory(), list[LookupOutcome]()
    stored = Identity(DID, None, "pds.example.com", 0) if is_stored else None
    resolver = Resolver(IdentitySettings(), directory.fetch, lambda _: stored, Clock(), outcomes.append)
    await nursery.start(resolver.run)
    if not is_stored:
        directory.publish(DID, "pds.example.com")
        await resolver.resolve(DID)
        del directory.answers[DID]
    asked = len(directory.asked)

    async def answer_in_time() -> None:
        await trio.sleep(GONE_CONFIRM_SECONDS - 0.1)
        assert len(directory.asked) == asked + 1
        directory.publish(DID, "new.example.com")

    nursery.start_soon(answer_in_time)
    identity = await resolver.resolve(DID)

    assert (identity.tombstone, identity.host) == (False, "new.example.com")
    assert [each.outcome for each in outcomes[asked:]] == ["gone", "found"]
    assert all(each.seconds < 1 for each in outcomes)  # the time between is nobody's lookup


async def test_a_directory_that_fails_the_second_time_has_not_said_that_a_did_is_gone(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    directory = Directory()
    directory.publish(DID, "pds.example.com")
    resolver = await started(nursery, directory, Clock())
    known = await resolver.resolve(DID)
    del directory.answers[DID]

    async def fail() -> None:
        await trio.sleep(1)
        directory.answers[DID] = DirectoryFault("timeout")

    nursery.start_soon(fail)
    with pytest.raises(DirectoryFault):
        await resolver.resolve(DID)
    assert resolver.known(DID) == known


async def test_down_is_when_half_of_the_last_lookups_failed_at_the_directory(nursery: trio.Nursery) -> None:
    """What did:web hosts answer, or do not, says nothing about it: strangers could name some at will."""
    directory, clock = Directory(), Clock()
    resolver = await started(nursery, directory, clock)
    directory.answers = {
        "did:plc:slow": DirectoryFault("timeout"),
        "did:plc:bad": DidFault("no document"),
        "did:web:x.example.com": DidFault("no such host"),
    }

    async def look_up(did: str) -> None:
        with pytest.raises(LookupFault):
            await resolver.resolve(did)

    seen = [resolver.down]
    rounds = (("plc:bad", 10), ("plc:slow", 9), ("plc:slow", 1), ("web:x.example.com", 40), ("plc:bad", 11))
    for did, times in rounds:
        for _ in range(times):
            await look_up(f"did:{did}")
        seen.append(resolver.down)

    assert seen == [False, False, False, True, True, False]


async def test_what_was_asked_before_a_change_does_not_count_as_fresh(nursery: trio.Nursery) -> None:
    """A lookup under way when the `#identity` comes may answer with what was so before it."""
    directory, clock = Directory(), Clock()
    directory.publish(DID, "pds.example.com")
    resolver = await started(nursery, directory, clock)
    await resolver.resolve(DID)
    directory.gate = trio.Event()
    answers: list[Identity] = []

    async def ask() -> None:
        answers.append(await resolver.resolve(DID))

    async with trio.open_nursery() as asking:
        asking.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        resolver.mark_stale(DID)
        directory.gate.set()

    assert answers[0].stale
    assert not (await resolver.resolve(DID)).stale


async def test_an_announcement_of_the_host_that_the_answer_names_makes_it_stale(nursery: trio.Nursery) -> None:
    """Nothing was known of the DID while the answer was on its way; what other hosts say of it does not count."""
    directory, clock = Directory(), Clock()
    directory.gate = trio.Event()
    resolver = await started(nursery, directory, clock)
    answers: dict[str, Identity] = {}

    async def ask(did: str) -> None:
        answers[did] = await resolver.resolve(did)

    async with trio.open_nursery() as asking:
        for did, host in (("did:plc:a", "pds.example.com"), ("did:plc:b", "elsewhere.example.com")):
            directory.publish(did, "pds.example.com")
            asking.start_soon(ask, did)
            await trio.testing.wait_all_tasks_blocked()
            resolver.announced(did, host)
        directory.gate.set()

    assert answers["did:plc:a"].stale
    assert not answers["did:plc:b"].stale


async def test_a_lookup_that_began_before_an_event_does_not_answer_for_it(nursery: trio.Nursery) -> None:
    """It is waited for, and then the directory is asked again."""
    directory, clock = Directory(), Clock()
    directory.publish(DID, "old.example.com")
    directory.gate = trio.Event()
    resolver = await started(nursery, directory, clock)
    answers: list[Identity] = []

    async def ask(reads: int) -> None:
        answers.append(await resolver.resolve(DID, reads))

    async with trio.open_nursery() as asking:
        asking.start_soon(ask, resolver.reads)
        await trio.testing.wait_all_tasks_blocked()
        asking.start_soon(ask, resolver.reads)
        await trio.testing.wait_all_tasks_blocked()
        first, directory.gate = directory.gate, trio.Event()
        first.set()
        await trio.testing.wait_all_tasks_blocked()
        directory.publish(DID, "new.example.com")
        directory.gate.set()

    assert [answer.host for answer in answers] == ["old.example.com", "new.example.com"]
    assert directory.asked == [DID, DID]


async def test_a_document_is_newer_than_the_events_that_came_before_it_was_asked_for(nursery: trio.Nursery) -> None:
    """And stays so for them when something is announced after that."""
    directory, clock = Directory(), Clock()
    directory.publish(DID, "pds.example.com")
    resolver = await started(nursery, directory, clock)
    before = resolver.reads
    await resolver.resolve(DID)
    after = resolver.reads
    resolver.mark_stale(DID)

    assert [resolver.was_read_since(DID, reads) for reads in (before, after)] == [True, False]


async def test_a_row_of_another_worker_does_not_take_off_a_mark(nursery: trio.Nursery) -> None:
    """That worker may have asked before the change was announced here."""
    directory, clock, rows = Directory(), Clock(), dict[str, Identity]()
    directory.publish(DID, "pds.example.com")
    resolver = await started(nursery, directory, clock, rows.get)
    before = resolver.reads
    remembered = await resolver.resolve(DID)
    resolver.mark_stale(DID)
    rows[DID] = remembered._replace(fetched_ms=remembered.fetched_ms + 1)

    assert resolver.reread(DID) == rows[DID]._replace(stale=True)
    assert not resolver.was_read_since(DID, before)


async def test_a_document_is_as_old_as_the_question(nursery: trio.Nursery) -> None:
    """Of two workers that ask at about the same time, the one that asked later has the newer document."""
    directory, clock = Directory(), Clock()
    directory.publish(DID, "pds.example.com")
    directory.gate = trio.Event()
    resolver = await started(nursery, directory, clock)
    asked_ms = clock.ms
    answers: list[Identity] = []

    async def ask() -> None:
        answers.append(await resolver.resolve(DID))

    async with trio.open_nursery() as asking:
        asking.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        clock.ms += 4_000
        directory.gate.set()

    assert answers[0].fetched_ms == asked_ms


async def test_a_did_given_up_is_forgotten_after_its_time_and_within_its_bound(nursery: trio.Nursery) -> None:
    clock = Clock()
    resolver = await started(nursery, Directory(), clock)
    resolver.give_up(DID, "a.example.com")
    answers = [resolver.given_up(DID)]
    clock.ms += 120_001
    answers.append(resolver.given_up(DID))
    assert answers == [True, False]

    for number in range(ENTRIES_PER_HOST_MAX + 1):
        resolver.give_up(f"did:plc:{number}", "b.example.com")
    assert not resolver.given_up("did:plc:0")
    assert resolver.given_up("did:plc:1")
    assert resolver.given_up(f"did:plc:{ENTRIES_PER_HOST_MAX}")


async def test_memory_of_identities_is_bounded(nursery: trio.Nursery) -> None:
    directory, clock = Directory(), Clock()
    settings = replace(IdentitySettings(), cache_entries=2)
    resolver = await started(nursery, directory, clock, settings=settings)
    for name in "abc":
        directory.publish(f"did:plc:{name}", "pds.example.com")
        await resolver.resolve(f"did:plc:{name}")

    assert resolver.known("did:plc:a") is None
    assert resolver.known("did:plc:c") is not None
