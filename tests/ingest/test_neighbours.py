"""Accounts of one host, read over one stream: whatever one of them does, the others wait for seconds at most."""

import math
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from relay.identity.refreshes import REFRESHES_PER_DID_BURST
from relay.ingest.settings import IngestSettings
from relay.ingest.stream import HostStream
from relay.ingest.waiting import HURRIED_HOLD_SECONDS
from relay.verify.verdict import Reason
from relay.world.accounts import Account, new_key
from relay.world.messages import account_message, identity_message
from relay.world.network import Emission
from tests.ingest.test_account_life import alive, write
from tests.support.desks import Country, OneWorker, country

Clock = trio.testing.MockClock
NEIGHBOUR_SECONDS_MAX = HURRIED_HOLD_SECONDS + 2
LANE_ITEMS = IngestSettings().lane_items


class Line:
    """The stream of host 0 as it is read: one message after the other, none while there is no room."""

    def __init__(self, here: Country, worker: OneWorker) -> None:
        self.here = here
        self._stream = HostStream(worker.judge(0))
        self._sent, self._unread = trio.open_memory_channel[bytes](math.inf)

    def say(self, *emissions: Emission) -> None:
        """The host sends this."""
        for emission in emissions:
            self._sent.send_nowait(self.here.number(emission))

    async def run(self) -> None:
        async for message in self._unread:
            self._stream.take([message])
            await self._stream.wait_for_room()

    async def read(self) -> None:
        """Until everything sent was read."""
        while self._unread.statistics().current_buffer_used:  # noqa: ASYNC110 -- no event for this, and virtual time
            await trio.sleep(0.05)


def announcement(account: Account) -> Emission:
    return Emission(0, identity_message(account.did, account.handle))


async def announces_and_writes(line: Line, account: Account, writes: int = 300) -> None:
    """More changes than there are refreshes, then plain commits."""
    for _ in range(REFRESHES_PER_DID_BURST + 3):
        line.say(announcement(account), write(line.here, account))
        await trio.sleep(0.2)
    line.say(*(write(line.here, account) for _ in range(writes)))


async def announces_without_end(line: Line, account: Account) -> None:
    """Many full lanes one after the other."""
    for _ in range(60):
        line.say(*[announcement(account)] * 100)
        await trio.sleep(0.02)


async def signs_wrongly(line: Line, account: Account) -> None:
    """With a key that no document shows, and announcements that promise one."""
    account.key = new_key(line.here.network._rng)
    for _ in range(5):
        line.say(announcement(account), *(write(line.here, account) for _ in range(70)))


async def does_not_resolve(line: Line, account: Account) -> None:
    """Its directory is a web host of its own, which is dead."""
    del account
    line.say(*[Emission(0, account_message("did:web:x.com"))] * (LANE_ITEMS * 4))


@pytest.mark.parametrize("act", [announces_and_writes, announces_without_end, signs_wrongly, does_not_resolve])
async def test_one_account_does_not_hold_up_its_host(
    act: Callable[[Line, Account], Awaitable[None]], tmp_path: Path, autojump_clock: Clock, nursery: trio.Nursery
) -> None:
    async with country(tmp_path, hosts=1) as (here, (worker,)):
        anna, bert = await alive(here, worker, 2)
        line = Line(here, worker)
        nursery.start_soon(line.run)
        await act(line, anna)
        line.say(write(here, bert))
        await trio.sleep(NEIGHBOUR_SECONDS_MAX)

        assert here.story(bert.did)[4:] == ["commit"]
        nursery.cancel_scope.cancel()


async def test_accounts_that_wait_together_do_not_hold_up_their_host(
    tmp_path: Path, autojump_clock: Clock, nursery: trio.Nursery
) -> None:
    """No lane of theirs is full, but together they are all that the host may have in flight."""
    async with country(tmp_path, hosts=1) as (here, (worker,)):
        bert, *others = await alive(here, worker, 8)
        line = Line(here, worker)
        nursery.start_soon(line.run)
        async with trio.open_nursery() as acting:
            for account in others:
                acting.start_soon(announces_and_writes, line, account, 90)
        line.say(write(here, bert))
        await trio.sleep(NEIGHBOUR_SECONDS_MAX)

        assert here.story(bert.did)[4:] == ["commit"]
        nursery.cancel_scope.cancel()


async def test_who_held_up_its_host_loses_nothing_by_it(
    tmp_path: Path, autojump_clock: Clock, nursery: trio.Nursery
) -> None:
    """All its events pass in order, for a few lookups more."""
    async with country(tmp_path, hosts=1) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        before = here.looked_up.total()
        line = Line(here, worker)
        nursery.start_soon(line.run)
        await announces_and_writes(line, anna)
        await line.read()
        await worker.settled()

        announced = REFRESHES_PER_DID_BURST + 3
        assert here.story(anna.did)[4:] == [*["identity", "commit"] * announced, *["commit"] * 300]
        assert worker.dropped() == {}
        assert here.looked_up.total() - before <= announced
        nursery.cancel_scope.cancel()


async def test_what_a_document_covers_needs_no_other_one(tmp_path: Path, autojump_clock: Clock) -> None:
    """Something is announced into each lookup, so each answer is outdated; what came before its question passes."""
    async with country(tmp_path, hosts=1) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        before = here.looked_up.total()
        minute = 4_000
        for _ in range(minute + 100):
            here.send(worker, announcement(anna))
            await trio.sleep(60 / minute)

        assert len(here.story(anna.did)[4:]) >= minute - 100
        assert here.looked_up.total() - before <= REFRESHES_PER_DID_BURST + 1


@pytest.mark.parametrize("is_known", [True, False])
async def test_what_is_announced_into_a_lookup_is_looked_up_again(
    is_known: bool, tmp_path: Path, autojump_clock: Clock
) -> None:
    """Checklist 184: a key that was taken away does not sign for the moment that an answer is on its way."""
    async with country(tmp_path, hosts=1) as (here, (worker,)):
        if is_known:
            (anna,) = await alive(here, worker)
            begin = [announcement(anna)]
        else:
            begin = here.network.create_account(here.now_ms(), 0)
            anna = next(each for each in here.network.writers if each.did == begin[0].message.did)
        here.network.directory.lag()
        here.send(worker, *begin)
        await trio.sleep(0.01)
        old_key = anna.key
        told = here.network.rotate(anna, here.now_ms())[0]
        anna.key = old_key
        here.send(worker, told, write(here, anna))
        await trio.sleep(0.011)
        here.network.directory.catch_up()
        await worker.settled()

        passed = ["identity", "active", "commit", "sync"]
        assert here.story(anna.did) == [*passed, *(["identity"] if is_known else []), "identity"]
        assert worker.dropped() == {Reason.SIGNATURE_INVALID: 1}


async def test_a_lookup_for_another_host_does_not_answer_for_an_announcement(
    tmp_path: Path, autojump_clock: Clock
) -> None:
    """Invariant 12: it was under way before, and the account is elsewhere by now."""
    async with country(tmp_path, hosts=3) as (here, (worker,)):
        (anna,) = await alive(here, worker)
        here.network.directory.lag()
        here.send(worker, Emission(2, identity_message(anna.did, None)))
        await trio.sleep(0.01)
        here.network.migrate(anna, here.now_ms())
        here.send(worker, announcement(anna))
        await trio.sleep(0.011)
        here.network.directory.catch_up()
        await worker.settled()

        assert here.story(anna.did)[4:] == []
        assert worker.dropped() == {Reason.HOST_MISMATCH: 2}
