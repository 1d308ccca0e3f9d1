"""What becomes of accounts: taken down, deleted, gone, moved, forgotten to be woken. Workers on virtual time."""

from pathlib import Path

import pytest
import trio
import trio.testing

from relay.crawl.repostatus import CHECKS_PER_MINUTE_PER_HOST
from relay.identity.resolver import GONE_CONFIRM_SECONDS
from relay.store.store import Store
from relay.verify.facts import effective_status
from relay.world.accounts import Account
from relay.world.messages import account_message, identity_message
from relay.world.network import Emission
from tests.support.altering import altered
from tests.support.desks import LOG, Country, OneWorker, country

Clock = trio.testing.MockClock


def write(here: Country, account: Account) -> Emission:
    return here.network.write(account, here.now_ms())


def says(account: Account, status: str | None = None, host: int | None = None) -> Emission:
    return Emission(account.host if host is None else host, account_message(account.did, status))


async def alive(here: Country, worker: OneWorker, count: int = 1) -> list[Account]:
    """New accounts whose whole beginning was passed on."""
    found = []
    for _ in range(count):
        emissions = here.network.create_account(here.now_ms(), 0)
        here.send(worker, *emissions)
        found.append(next(each for each in here.network.writers if each.did == emissions[0].message.did))
        await trio.sleep(0.01)
    await worker.settled()
    return found


async def test_a_new_account_comes_through_in_order(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 182."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)

        assert here.story(anna.did) == ["identity", "active", "commit", "sync"]


async def test_takedown_and_restoration_are_told_in_their_place(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 173 to 175: no content between, the host's word hidden, and its present word shown at the end."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        before = here.account(anna.did).version
        down = here.store.set_local_status(anna.did, "takendown", now_ms=here.now_ms())
        assert (down.seq, down.account.version) == (here.store.tip().seq, before + 1)
        again = here.store.set_local_status(anna.did, "takendown", now_ms=here.now_ms())
        assert again == (down.account, None)
        here.send(worker, write(here, anna), says(anna, "deactivated"))
        await worker.settled()
        here.store.set_local_status(anna.did, "", now_ms=here.now_ms())
        here.send(worker, says(anna), write(here, anna))
        await worker.settled()

        assert here.story(anna.did)[4:] == ["takendown", "takendown", "deactivated", "active", "commit"]
        assert worker.dropped() == {"account_takendown": 1}


async def test_a_takedown_of_what_is_already_down_is_kept_and_not_told(tmp_path: Path, autojump_clock: Clock) -> None:
    """Consumers hear of changes of the effective status only."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        here.send(worker, says(anna, "takendown"))
        await worker.settled()
        told = here.story(anna.did)

        assert here.store.set_local_status(anna.did, "takendown", now_ms=here.now_ms()).seq is None
        assert here.account(anna.did).local_status == "takendown"
        assert here.store.set_local_status(anna.did, "", now_ms=here.now_ms()).seq is None
        assert here.story(anna.did) == told


async def test_a_takedown_survives_a_restart_and_needs_a_row(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 183: the state of accounts is on disk, ours and their hosts'."""
    async with country(tmp_path) as (here, (worker,)):
        anna, bert = await alive(here, worker, 2)
        here.store.set_local_status(anna.did, "suspended", now_ms=here.now_ms())
        here.send(worker, says(bert, "deactivated"))
        await worker.settled()
        with pytest.raises(KeyError):
            here.store.set_local_status("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "takendown", now_ms=here.now_ms())
    store = Store.open(tmp_path, LOG)
    with store.view() as view:
        statuses = [effective_status(account) for did in (anna.did, bert.did) if (account := view.account(did))]
    store.close()

    assert statuses == [(False, "suspended"), (False, "deactivated")]


async def test_a_takedown_overtakes_what_is_on_its_way(tmp_path: Path, autojump_clock: Clock) -> None:
    """Version compare: commits accepted but not appended are judged again, and none follows the takedown."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        worker.held = trio.Event()
        here.send(worker, write(here, anna), write(here, anna))
        await trio.sleep(1)
        here.store.set_local_status(anna.did, "takendown", now_ms=here.now_ms())
        worker.held.set()
        await worker.settled()

        assert here.story(anna.did)[4:] == ["takendown"]
        assert worker.dropped() == {"account_takendown": 2}


async def test_status_and_identity_still_flow_for_an_inactive_account(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 180, and 170: content does not."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        here.send(worker, says(anna, "suspended"), Emission(0, identity_message(anna.did, anna.handle)))
        here.send(worker, write(here, anna), says(anna, "takendown"))
        await worker.settled()

        assert here.story(anna.did)[4:] == ["suspended", "identity", "takendown"]


async def test_a_deleted_account_may_come_back(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 179, 169: it leaves the count of its host and joins it again; its chain goes on."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        count = here.counts()[0]
        here.send(worker, says(anna, "deleted"))
        await worker.settled()
        assert here.counts()[0] == count - 1
        here.send(worker, says(anna), write(here, anna))
        await worker.settled()

        assert here.counts()[0] == count
        assert here.story(anna.did)[4:] == ["deleted", "active", "commit"]


async def test_hosts_that_are_away_change_no_status(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 178: nothing but a host's own word does, however long it says nothing."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        here.store.update_host(here.rows[0].host_id, status="offline", last_error="refused")
        await trio.sleep(86_400)
        row = here.account(anna.did)

        assert effective_status(row) == (True, None)
        assert here.story(anna.did) == ["identity", "active", "commit", "sync"]


# A DID that is gone.


async def test_a_did_that_is_gone_is_deleted_once(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 145, 181: told at the first look that finds it gone; content is ignored, a farewell no news."""
    async with country(tmp_path) as (here, (worker,)):
        anna, bert = await alive(here, worker, 2)
        here.network.directory.tombstone(anna.did)
        here.send(worker, Emission(0, identity_message(anna.did, None)))
        for _ in range(3):
            here.send(worker, write(here, anna), write(here, bert))
            await trio.sleep(1)
        here.send(worker, says(anna, "deleted"), says(anna))
        await worker.settled()

        assert here.story(anna.did)[4:] == ["deleted", "identity"]
        assert here.story(bert.did)[4:] == ["commit"] * 3
        assert worker.dropped() == {"identity_tombstoned": 5}
        assert here.account(anna.did).upstream_status == "deleted"


@pytest.mark.parametrize("before", [(), ("deactivated",)])
async def test_a_did_that_is_gone_stays_deleted_whatever_its_host_says(
    before: tuple[str, ...], tmp_path: Path, autojump_clock: Clock
) -> None:
    """Checklist 145, 181: told once, and no other status takes its place."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        here.send(worker, *(says(anna, status) for status in before))
        await worker.settled()
        here.network.directory.tombstone(anna.did)
        here.send(worker, Emission(0, identity_message(anna.did, None)))
        for status in ("deactivated", "suspended", "deleted", "takendown", None):
            here.send(worker, says(anna, status))
            await trio.sleep(61)

        assert here.story(anna.did)[4:] == [*before, "deleted", "identity"]
        assert worker.dropped() == {"identity_tombstoned": 5}
        assert here.account(anna.did).upstream_status == "deleted"


async def test_a_did_that_another_worker_found_gone_is_not_brought_back(tmp_path: Path, autojump_clock: Clock) -> None:
    """Its own host's worker remembers the document of before, and does not believe it against the row."""
    async with country(tmp_path, workers=2) as (here, (own, other)):
        (anna,) = await alive(here, own)
        here.network.directory.tombstone(anna.did)
        here.send(other, Emission(1, identity_message(anna.did, None)))
        await other.settled()
        here.send(own, says(anna), write(here, anna))
        await own.settled()

        assert here.story(anna.did)[4:] == ["deleted"]
        assert own.dropped() == {"identity_tombstoned": 2}


async def test_a_directory_that_forgets_a_did_for_a_moment_deletes_nobody(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    """Consumers may delete for good what they are told is deleted."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        document = here.network.directory.document(anna.did)
        assert document is not None
        here.network.directory.tombstone(anna.did)
        here.send(worker, Emission(0, identity_message(anna.did, None)), write(here, anna))
        await trio.sleep(GONE_CONFIRM_SECONDS / 2)
        here.network.directory.put(anna.did, document)
        await worker.settled()

        assert here.story(anna.did)[4:] == ["identity", "commit"]
        assert worker.dropped() == {}


async def test_a_did_that_its_host_deleted_first_is_not_deleted_again(tmp_path: Path, autojump_clock: Clock) -> None:
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        here.send(worker, says(anna, "deleted"))
        await worker.settled()
        here.network.directory.tombstone(anna.did)
        here.send(worker, Emission(0, identity_message(anna.did, None)), write(here, anna))
        await worker.settled()

        assert here.story(anna.did)[4:] == ["deleted", "identity"]


async def test_a_word_of_ours_that_comes_second_is_said_of_the_newer_row(tmp_path: Path, autojump_clock: Clock) -> None:
    """Another writer changed the row between: the deletion is told all the same, and once."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        here.network.directory.tombstone(anna.did)
        worker.resolver.mark_stale(anna.did)
        worker.held = trio.Event()
        here.send(worker, write(here, anna))
        await trio.sleep(GONE_CONFIRM_SECONDS + 1)
        here.store.set_local_status(anna.did, "takendown", now_ms=here.now_ms())
        here.store.set_local_status(anna.did, "", now_ms=here.now_ms())
        worker.held.set()
        await worker.settled()

        assert here.story(anna.did)[4:] == ["takendown", "active", "deleted"]


# A flag that nobody lifted.


async def test_a_stale_flag_is_lifted_before_the_content_that_showed_it(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 171: the reactivation was lost; the host, asked, says active, and consumers hear that first."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        here.send(worker, says(anna, "deactivated"))
        await worker.settled()
        here.number(says(anna))  # lost
        here.send(worker, write(here, anna), write(here, anna))
        await worker.settled()

        assert here.story(anna.did)[4:] == ["deactivated", "active", "commit", "commit"]
        assert here.asked.total() == 1
        assert worker.dropped() == {}


async def test_a_flag_that_holds_is_asked_for_once_a_minute(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 172, 170."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        here.send(worker, says(anna, "deactivated"))
        for _ in range(10):
            here.send(worker, write(here, anna))
            await trio.sleep(1)
        assert here.asked.total() == 1
        await trio.sleep(60)
        here.send(worker, write(here, anna))
        await worker.settled()

        assert here.asked.total() == 2
        assert here.story(anna.did)[4:] == ["deactivated"]
        assert worker.dropped() == {"account_inactive": 11}


async def test_a_host_is_asked_about_so_many_accounts_a_minute(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 172."""
    async with country(tmp_path) as (here, (worker,)):
        many = await alive(here, worker, CHECKS_PER_MINUTE_PER_HOST + 10)
        for account in many:
            here.send(worker, says(account, "deactivated"), write(here, account))
        await trio.sleep(1)
        await worker.settled()

        assert here.asked.total() == CHECKS_PER_MINUTE_PER_HOST
        assert worker.dropped() == {"account_inactive": len(many)}


async def test_a_host_that_does_not_answer_lifts_nothing(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 178."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        here.send(worker, says(anna, "deactivated"))
        await worker.settled()
        content = write(here, anna)
        del here.windows[0].accounts[anna.did]
        worker.receive(0, content.message.frame(100, here.now_ms()))
        await worker.settled()

        assert here.story(anna.did)[4:] == ["deactivated"]
        assert here.account(anna.did).upstream_status == "deactivated"


async def test_a_takedown_is_not_lifted_by_the_host(tmp_path: Path, autojump_clock: Clock) -> None:
    """The host is not even asked."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        here.send(worker, says(anna, "deactivated"))
        await worker.settled()
        here.store.set_local_status(anna.did, "takendown", now_ms=here.now_ms())
        here.number(says(anna))
        here.send(worker, write(here, anna))
        await worker.settled()

        assert here.asked.total() == 0
        assert effective_status(here.account(anna.did)) == (False, "takendown")


# Moving to another host.


def arrival(here: Country, account: Account) -> tuple[list[Emission], Emission]:
    """The account has moved to the other host: what the new one says, and the farewell of the old one."""
    old = account.host
    emissions = [emission for emission in here.network.migrate(account, here.now_ms()) if emission.passes]
    return emissions, says(account, "deactivated", old)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("order", ["farewell last", "farewell first", "farewell between", "at once"])
async def test_a_migration_shows_the_new_host_only(
    order: str, workers: int, tmp_path: Path, autojump_clock: Clock
) -> None:
    """Checklist 161 to 163, 168, 169: in any order of arrival, read by one worker or by one for each host."""
    async with country(tmp_path, workers=workers) as (here, them):
        old, new = them[0], them[-1]
        (anna,) = await alive(here, old)
        here.send(old, write(here, anna))
        await old.settled()
        counts = here.counts()
        arrivals, farewell = arrival(here, anna)
        steps = {
            "farewell last": [*arrivals, farewell],
            "farewell first": [farewell, *arrivals],
            "farewell between": [arrivals[0], farewell, *arrivals[1:]],
            "at once": [*arrivals, farewell],
        }[order]
        for step in steps:
            here.send(old if step is farewell else new, step)
            if order != "at once":
                await trio.sleep(10)
        for worker in them:
            await worker.settled()
        here.send(new, write(here, anna))
        await new.settled()

        told = here.story(anna.did)[5:]
        early = ["deactivated"] if "deactivated" in told else []
        assert told == [*early, "identity", "active", "commit", "commit"]
        assert not early or order in ("farewell first", "at once")
        assert here.counts() == [counts[0] - 1, counts[1] + 1]
        assert here.account(anna.did).host_id == here.rows[1].host_id
        assert effective_status(here.account(anna.did)) == (True, None)


@pytest.mark.parametrize("workers", [1, 2])
async def test_content_of_the_old_host_is_refused_after_the_move(
    workers: int, tmp_path: Path, autojump_clock: Clock
) -> None:
    """Checklist 161: the other worker remembers the old document, and still does not believe it against the row."""
    async with country(tmp_path, workers=workers) as (here, them):
        (anna,) = await alive(here, them[0])
        arrivals, _ = arrival(here, anna)
        here.send(them[-1], *arrivals)
        await them[-1].settled()
        stray = here.network.write(anna, here.now_ms())
        for emission in (
            stray._replace(host=0),
            Emission(0, identity_message(anna.did, None)),
            says(anna, "deleted", host=0),
        ):
            here.send(them[0], emission)
            await them[0].settled()

        assert here.story(anna.did)[4:] == ["identity", "active", "commit"]
        assert them[0].dropped() == {"host_mismatch": 3}
        assert here.account(anna.did).host_id == here.rows[1].host_id


async def test_a_migration_without_any_announcement(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 163: the first thing heard of it is a commit of the new host, with a new key."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        here.send(worker, arrival(here, anna)[0][-1])
        await worker.settled()

        assert here.story(anna.did)[4:] == ["commit"]
        assert worker.dropped() == {}


async def test_moving_there_and_back(tmp_path: Path, autojump_clock: Clock) -> None:
    """Two workers, each of which has to forget what it knew."""
    async with country(tmp_path, workers=2) as (here, them):
        (anna,) = await alive(here, them[0])
        counts = here.counts()
        for _ in range(2):
            arrivals, farewell = arrival(here, anna)
            here.send(them[anna.host], *arrivals)
            await them[anna.host].settled()
            here.send(them[1 - anna.host], farewell)
            await them[1 - anna.host].settled()
            await trio.sleep(120)

        assert here.story(anna.did)[4:] == ["identity", "active", "commit"] * 2
        assert here.counts() == counts


# What a dropped event leaves behind: nothing.


async def test_a_rev_from_the_future_does_not_lock_the_account_out(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 192, 193: the stored rev stays, and the next commit of today passes as a break."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        stored = here.account(anna.did).rev
        ahead = here.network.write(anna, here.now_ms() + 6 * 60_000)
        here.send(worker, ahead)
        await worker.settled()
        assert here.account(anna.did).rev == stored
        anna.repo._time_us = 0  # its host's clock is set right
        here.send(worker, write(here, anna))
        await worker.settled()

        assert here.story(anna.did)[4:] == ["commit"]
        assert worker.dropped() == {"rev_in_future": 1}
        assert here.account(anna.did).rev == anna.repo.rev


async def test_the_stored_state_moves_on_what_is_accepted_only(tmp_path: Path, autojump_clock: Clock) -> None:
    """Checklist 197, 217: a commit that was spoilt on its way passes when it comes again, under the same rev."""
    async with country(tmp_path) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        row = here.account(anna.did)
        good = write(here, anna)
        spoilt = altered(good.message, ops=[])
        here.send(worker, good._replace(message=spoilt))
        await worker.settled()
        assert here.account(anna.did) == row
        here.send(worker, good)
        await worker.settled()

        assert here.story(anna.did)[4:] == ["commit"]
        assert worker.dropped() == {"inversion_mismatch": 1}
        assert here.account(anna.did).rev == good.message.rev
