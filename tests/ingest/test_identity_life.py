"""Documents that change, lag behind, or cannot be had: what passes waits for them, and nothing passes without them."""

from pathlib import Path

import pytest
import trio
import trio.testing

from relay.identity.health import REFUSED_SECONDS_MAX
from relay.identity.settings import IdentitySettings
from relay.ingest.waiting import LAG_SECONDS
from relay.verify.verdict import Reason
from relay.world.accounts import did_document, new_key
from relay.world.messages import account_message, identity_message
from relay.world.network import Emission
from tests.ingest.test_account_life import alive, arrival, says, write
from tests.support.desks import Country, country

Clock = trio.testing.MockClock
HOUR_SECONDS = 3_600.0


def announces(here: Country, did: str) -> Emission:
    return Emission(0, identity_message(did, None))


@pytest.mark.parametrize("announced", [True, False])
async def test_a_rotated_key_is_found(announced: bool, tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 137, 184: with an `#identity`, and without a word."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        told, resigned = here.network.rotate(anna, here.now_ms())
        here.send(worker, *([told] if announced else []), resigned, write(here, anna))
        await worker.settled()

        assert here.story(anna.did)[4:] == [*(["identity"] if announced else []), "sync", "commit"]
        assert worker.dropped() == {}


async def test_a_rotated_key_is_not_read_again_for_each_event(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 138: a flood of wrong signatures costs a few lookups, then none."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        before = here.looked_up.total()
        document = here.network.directory.document(anna.did)
        anna.key = new_key(here.network._rng)
        for _ in range(50):
            here.send(worker, write(here, anna))
            await trio.sleep(0.1)
        await worker.settled()

        assert here.network.directory.document(anna.did) == document
        assert here.looked_up.total() - before <= 6
        assert here.story(anna.did)[4:] == []
        assert worker.dropped() == {Reason.SIGNATURE_INVALID: 50}


@pytest.mark.parametrize("lag_seconds", [0.5, 3.0])
async def test_a_directory_that_lags_behind_a_rotation(
    lag_seconds: float, tmp_path: Path, autojump_clock: Clock
) -> None:
    """Protocol.md section 11.2: what was announced a moment ago is looked up again before anything is dropped."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        here.network.directory.lag()
        told, resigned = here.network.rotate(anna, here.now_ms())
        here.send(worker, told, resigned, write(here, anna))
        await trio.sleep(lag_seconds)
        assert here.story(anna.did)[4:] == ["identity"]
        here.network.directory.catch_up()
        await worker.settled()

        assert here.story(anna.did)[4:] == ["identity", "sync", "commit"]
        assert worker.dropped() == {}


async def test_a_directory_that_lags_behind_a_migration(tmp_path: Path, autojump_clock: Clock) -> None:
    """The new host's own `#identity` waits with the rest, in order."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        here.network.directory.lag()
        here.send(worker, *arrival(here, anna)[0])
        await trio.sleep(3)
        here.network.directory.catch_up()
        await worker.settled()

        assert here.story(anna.did)[4:] == ["identity", "active", "commit"]
        assert worker.dropped() == {}


@pytest.mark.parametrize("lacks", ["service", "verificationMethod"])
async def test_a_directory_that_lags_behind_a_document_made_whole(
    lacks: str, tmp_path: Path, autojump_clock: Clock
) -> None:
    """What a document lacks, PDS or key, it may lack for a moment only, when its host says that it changed."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        directory = here.network.directory
        whole = did_document(anna, "https://pds0.example.com")
        directory.put(anna.did, {**whole, lacks: []})
        await worker.resolver.resolve(anna.did)
        directory.lag()
        directory.put(anna.did, whole)
        here.send(worker, announces(here, anna.did), write(here, anna))
        await trio.sleep(3)
        assert "commit" not in here.story(anna.did)[4:]
        directory.catch_up()
        await worker.settled()

        assert here.story(anna.did)[4:] == ["identity", "commit"]
        assert worker.dropped() == {}


async def test_a_directory_that_does_not_catch_up_holds_nobody_for_long(tmp_path: Path, autojump_clock: Clock) -> None:
    """What it contradicts is dropped in the end, and other accounts never wait."""
    async with country(tmp_path) as (here, (worker,)):
        anna, bert = await alive(here, worker, 2)
        here.network.directory.lag()
        told, resigned = here.network.rotate(anna, here.now_ms())
        here.send(worker, told, resigned, write(here, bert))
        await trio.sleep(0.5)
        assert here.story(bert.did)[4:] == ["commit"]
        await trio.sleep(sum(LAG_SECONDS) + 1)

        assert here.story(anna.did)[4:] == ["identity"]
        assert worker.dropped() == {Reason.SIGNATURE_INVALID: 1}


async def test_an_hour_without_the_directory_loses_nothing(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 139: known accounts go on, new ones and changed ones wait, in order; then all of it passes."""
    async with country(tmp_path) as (here, (worker,)):
        anna, bert, cora = await alive(here, worker, 3)
        here.is_down = True
        newborn = here.network.create_account(here.now_ms(), 0)
        fresh = next(each for each in here.network.writers if each.did == newborn[0].message.did)
        here.send(worker, *newborn)
        here.send(worker, *here.network.rotate(bert, here.now_ms()))
        for _ in range(60):
            here.send(worker, *(write(here, account) for account in (anna, bert, fresh)))
            await trio.sleep(HOUR_SECONDS / 60)
        assert worker.resolver.down
        assert here.story(anna.did)[4:] == ["commit"] * 60
        assert here.story(bert.did)[4:] == here.story(fresh.did) == []
        assert worker.judge(0).take_mark().low_water < here.windows[0].tip
        here.is_down = False
        await worker.settled()

        assert here.story(bert.did)[4:] == ["identity", "sync", *["commit"] * 60]
        assert here.story(fresh.did) == ["identity", "active", "commit", "sync", *["commit"] * 60]
        assert here.story(cora.did) == ["identity", "active", "commit", "sync"]
        assert worker.dropped() == {}
        assert worker.judge(0).take_mark().low_water == here.windows[0].tip


async def test_an_outage_that_few_accounts_meet_loses_nothing(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 139: all that the worker remembers of the directory is good, and each of its failures takes long."""
    async with country(tmp_path) as (here, (worker,)):
        anna, *_ = await alive(here, worker, 25)
        here.is_down, here.fails_after_seconds = True, IdentitySettings().lookup_seconds
        newborn = here.network.create_account(here.now_ms(), 0)
        here.send(worker, *newborn, *here.network.rotate(anna, here.now_ms()))
        await trio.sleep(HOUR_SECONDS)
        assert worker.resolver.down
        here.is_down = False
        await worker.settled()

        assert here.story(anna.did)[4:] == ["identity", "sync"]
        assert here.story(newborn[0].message.did) == ["identity", "active", "commit", "sync"]
        assert worker.dropped() == {}


async def test_a_stranger_s_dids_do_not_end_the_wait_for_the_directory(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 139: lookups at dead did:web hosts are no sign that the directory is up."""
    async with country(tmp_path) as (here, (worker,)):
        people = await alive(here, worker, 5)
        here.is_down = True
        for account in people:
            here.send(worker, *here.network.rotate(account, here.now_ms()))
        for number in range(200):
            here.send(worker, Emission(1, account_message(f"did:web:x{number}.com")))
            await trio.sleep(1)
        assert worker.resolver.down
        here.is_down = False
        await worker.settled()

        assert [here.story(account.did)[4:] for account in people] == [["identity", "sync"]] * 5
        assert worker.dropped() == {Reason.IDENTITY_UNRESOLVED: 200}


async def test_a_did_that_only_the_directory_fails_for_holds_its_host_up_once(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    """A document that it cannot put together, while it gives those of others: a long wait, then none, until it can."""
    async with country(tmp_path) as (here, (worker,)):
        anna, bert = await alive(here, worker, 2)
        here.unanswered.add(anna.did)
        here.send(worker, announces(here, anna.did), write(here, anna))
        for dropped in ({}, {Reason.IDENTITY_UNRESOLVED: 2}):
            for _ in range(int(REFUSED_SECONDS_MAX * 0.75 / 5)):
                await worker.resolver.resolve(bert.did)
                await trio.sleep(5)
            assert worker.dropped() == dropped
        await trio.sleep(IdentitySettings().negative_seconds)
        here.send(worker, write(here, anna))
        await trio.sleep(1)
        assert worker.dropped() == {Reason.IDENTITY_UNRESOLVED: 3}
        await trio.sleep(IdentitySettings().negative_seconds)
        here.unanswered.clear()
        here.send(worker, write(here, anna))
        await worker.settled()

        assert here.story(anna.did)[4:] == ["commit"]


async def test_a_did_that_never_resolves_is_held_and_then_dropped(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 139, 144, 167: never passed unsigned, no row is made of it; others do not wait."""
    async with country(tmp_path, identity=IdentitySettings(hold_seconds=60)) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        newborn = here.network.create_account(here.now_ms(), 0)
        did = newborn[0].message.did
        del here.network.directory._documents[did]
        here.send(worker, *newborn, write(here, anna))
        await trio.sleep(55)
        assert worker.dropped() == {}
        await worker.settled()

        assert here.story(did) == []
        assert here.story(anna.did)[4:] == ["commit"]
        assert worker.dropped() == {Reason.IDENTITY_UNRESOLVED: 4}
        with here.store.view() as view:
            assert view.account(did) is None


async def test_a_did_that_registers_while_it_is_held_is_passed(tmp_path: Path, autojump_clock: Clock) -> None:
    """A read copy that lags behind a registration answers 404 for a while."""
    async with country(tmp_path) as (here, (worker,)):
        here.network.directory.lag()
        newborn = here.network.create_account(here.now_ms(), 0)
        here.send(worker, *newborn)
        await trio.sleep(20)
        here.network.directory.catch_up()
        await worker.settled()

        assert here.story(newborn[0].message.did) == ["identity", "active", "commit", "sync"]


async def test_the_time_of_an_outage_is_not_held_against_a_did(tmp_path: Path, autojump_clock: Clock) -> None:
    """It is not registered yet when the directory comes back, and has its whole time from then on."""
    async with country(tmp_path) as (here, (worker,)):
        here.network.directory.lag()
        here.is_down = True
        newborn = here.network.create_account(here.now_ms(), 0)
        here.send(worker, *newborn)
        await trio.sleep(HOUR_SECONDS)
        here.is_down = False
        await trio.sleep(IdentitySettings().hold_seconds / 2)
        here.network.directory.catch_up()
        await worker.settled()

        assert here.story(newborn[0].message.did) == ["identity", "active", "commit", "sync"]
        assert worker.dropped() == {}


async def test_repeated_announcements_are_harmless(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 185, 187: each is passed on, and they cost a few lookups."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        before = here.looked_up.total()
        for _ in range(100):
            here.send(worker, announces(here, anna.did))
        here.send(worker, write(here, anna))
        await worker.settled()

        assert here.story(anna.did)[4:] == [*["identity"] * 100, "commit"]
        assert here.looked_up.total() - before <= 2


async def test_an_announcement_of_a_stranger_is_looked_into_and_not_passed(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    """Checklist 186, 164: a host may say it of any account; a few lookups follow, and nothing else."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        before = here.looked_up.total()
        for _ in range(30):
            here.send(worker, Emission(1, identity_message(anna.did, "stolen.example.com")))
            await trio.sleep(0.2)
        here.send(worker, Emission(1, account_message(anna.did, "deleted")), write(here, anna))
        await worker.settled()

        assert here.story(anna.did)[4:] == ["commit"]
        assert here.looked_up.total() - before <= 7
        assert worker.dropped() == {Reason.HOST_MISMATCH: 31}


async def test_host_names_are_compared_as_hosts(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 165: case and the default port of a document's endpoint do not matter."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        here.network.directory.put(anna.did, did_document(anna, "https://PDS0.Example.com:443"))
        here.send(worker, announces(here, anna.did), write(here, anna), says(anna))
        await worker.settled()

        assert here.story(anna.did)[4:] == ["identity", "commit", "active"]
        assert worker.dropped() == {}
