"""The account quota of one host, judged by itself: who counts, who waits, who is turned away."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.ingest.quota import THROTTLED, Quota
from relay.protocol.events import AccountEvent
from relay.store.batch import Batch, Item
from relay.store.store import Store
from relay.verify.facts import NO_ACCOUNT, AccountState
from relay.verify.verdict import Accept, Drop, Reason
from tests.support.bench import store_of_home
from tests.support.scene import HOME, NOW_MS

LIMIT = 2
ACTIVE = AccountState(host_id=HOME.host_id)
CONTRADICTORY = ACTIVE._replace(upstream_status="deleted")
DELETED = CONTRADICTORY._replace(upstream_active=False)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with store_of_home(tmp_path / "data") as opened:
        yield opened


def did_of(number: int) -> str:
    return f"did:plc:{number:024d}"


def judge(quota: Quota, number: int, state: AccountState, before: AccountState = NO_ACCOUNT) -> Accept | Drop:
    """The quota's word on an `#account` that passes and leaves `state`."""
    event = AccountEvent(number, did_of(number), state.upstream_active, state.upstream_status or None)
    return quota.judge(event, Accept(state), before)


def fill(store: Store, *states: AccountState) -> None:
    """These rows are stored, of accounts 1 and on."""
    items = (Item(did_of(number), 0, state, None, state.host_id, number) for number, state in enumerate(states, 1))
    store.append(Batch(NOW_MS, tuple(items)))


def fate(verdict: Accept | Drop) -> str:
    return verdict.state.local_status or "in" if isinstance(verdict, Accept) else verdict.reason


@pytest.mark.parametrize("state", [ACTIVE, CONTRADICTORY], ids=["active", "active and deleted"])
def test_accounts_come_in_then_wait_then_are_turned_away(store: Store, state: AccountState) -> None:
    """Checklist 254; also those that their host calls active and deleted at once, which are active here."""
    quota = Quota(store, HOME.host_id, LIMIT)
    fates = [fate(judge(quota, number, state)) for number in range(1, 2 * LIMIT + 2)]

    assert fates == ["in"] * LIMIT + [THROTTLED] * LIMIT + [Reason.HOST_QUOTA]


def test_who_is_said_to_be_active_and_deleted_keeps_the_place_in_the_row_s_count(store: Store) -> None:
    """Else one event an account would make room for the next one, without end."""
    quota = Quota(store, HOME.host_id, LIMIT)
    fill(store, CONTRADICTORY, CONTRADICTORY)
    assert fate(judge(quota, 3, ACTIVE)) == THROTTLED
    known = CONTRADICTORY._replace(version=1)
    assert judge(quota, 1, ACTIVE, known) == Accept(ACTIVE)  # counted already, so it does not join anew


def test_a_deleted_account_counts_for_nobody_until_it_comes_back(store: Store) -> None:
    quota = Quota(store, HOME.host_id, LIMIT)
    fill(store, ACTIVE, ACTIVE, DELETED)
    assert judge(quota, 4, DELETED) == Accept(DELETED)
    assert fate(judge(quota, 3, ACTIVE, DELETED._replace(version=1))) == THROTTLED


def test_an_account_that_waits_stops_waiting_when_it_is_deleted_and_not_when_that_is_contradicted(
    store: Store,
) -> None:
    quota = Quota(store, HOME.host_id, LIMIT)
    waits = ACTIVE._replace(version=1, local_status=THROTTLED)
    gone = judge(quota, 1, DELETED._replace(version=1, local_status=THROTTLED), waits)
    contradicted = judge(quota, 1, CONTRADICTORY._replace(version=1, local_status=THROTTLED), waits)

    assert (fate(gone), fate(contradicted)) == ("in", THROTTLED)
