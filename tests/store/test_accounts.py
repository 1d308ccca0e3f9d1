"""Account rows: packing, the count of accounts a host has, and the queue of throttled ones."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.store.accounts import pack_account, read_accounts, standing, unpack_account, version_of
from relay.store.errors import Corrupt
from relay.store.store import Store
from relay.verify.account import is_deleted
from relay.verify.facts import AccountState
from tests.store.batches import batch, did, item, mark, row

NOTHING_OR_DIGEST = st.just(b"") | st.binary(min_size=32, max_size=32).filter(any)
STATUSES = st.sampled_from(["", "takendown", "suspended", "deleted", "deactivated", "desynchronized", "throttled"])
STATES = st.builds(
    AccountState,
    version=st.integers(0, 2**64 - 1),
    host_id=st.integers(0, 2**32 - 1),
    upstream_active=st.booleans(),
    upstream_status=STATUSES | st.text(max_size=64),
    local_status=st.sampled_from(["", "takendown", "suspended", "throttled"]),
    rev=st.just("") | st.text("234567abcdefghij", min_size=13, max_size=13),
    data=NOTHING_OR_DIGEST,
    commit=NOTHING_OR_DIGEST,
    upstream_seq=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**32 - 1),
    flags=st.integers(0, 2**32 - 1),
)


@given(STATES)
def test_a_row_gives_back_what_was_packed(state: AccountState) -> None:
    packed = pack_account(state, state.version)
    assert unpack_account(packed) == state
    assert version_of(packed) == state.version
    assert standing(packed) == (state.host_id, not is_deleted(state), state.local_status == "throttled")


@given(STATES, STATUSES)
def test_a_row_of_a_known_status_has_at_most_110_bytes(state: AccountState, status: str) -> None:
    assert len(pack_account(state._replace(upstream_status=status), 1)) <= 110


@given(st.binary(max_size=120) | st.binary(min_size=107, max_size=107))
def test_any_bytes_are_a_row_or_corrupt(data: bytes) -> None:
    """Doubt about our own data has one name, whatever is wrong with it."""
    for read in (unpack_account, standing):
        with contextlib.suppress(Corrupt):
            read(data)


@pytest.mark.parametrize(
    ("place", "value"), [(12, 0x07), (13, 0x04), (14, 0xFF)], ids=["upstream status", "local status", "rev"]
)
def test_a_row_with_one_byte_that_cannot_be_is_corrupt(place: int, value: int) -> None:
    packed = bytearray(pack_account(row(), 1))
    packed[place] = value

    with pytest.raises(Corrupt, match=r"^account row: "):
        unpack_account(bytes(packed))


def test_a_row_that_was_cut_off_is_corrupt() -> None:
    with pytest.raises(Corrupt):
        unpack_account(b"short")
    with pytest.raises(Corrupt):
        standing(b"short")


@pytest.mark.parametrize(
    "wrong", [{"rev": "short"}, {"data": b"x"}, {"commit": b"x" * 33}], ids=lambda fields: next(iter(fields))
)
def test_shapes_that_verification_cannot_give_are_a_bug_of_ours(wrong: dict[str, object]) -> None:
    with pytest.raises(AssertionError):
        pack_account(row()._replace(**wrong), 1)  # type: ignore[arg-type]  # wrong on purpose


def counts(store: Store) -> list[int]:
    with store.view() as view:
        return [host.account_count for host in view.hosts(0, 10)]


def test_a_host_counts_its_accounts_through_creation_migration_and_deletion(store: Store) -> None:
    store.append(batch(item(1, 0, 1), item(2, 0, 2)))
    assert counts(store) == [2, 0]
    store.append(batch(item(1, 1, 5, host_id=2)))
    assert counts(store) == [1, 1]
    store.append(batch(item(2, 1, 6, upstream_active=False, upstream_status="deleted")))
    assert counts(store) == [0, 1]
    store.append(batch(item(2, 2, 7, upstream_active=False, upstream_status="deleted")))
    assert counts(store) == [0, 1]  # twice deleted is counted once
    store.append(batch(item(2, 3, 8)))
    assert counts(store) == [1, 1]  # and may come back


def test_an_account_that_is_said_to_be_active_and_deleted_counts(store: Store) -> None:
    """It is treated as active, so the contradiction must not take it out of the quota."""
    store.append(batch(item(1, 0, 1, upstream_status="deleted")))
    assert counts(store) == [1, 0]
    store.append(batch(item(1, 1, 2, upstream_active=False, upstream_status="deleted")))
    assert counts(store) == [0, 0]


def test_several_changes_of_one_account_in_a_batch_count_by_their_outcome(store: Store) -> None:
    gone = item(1, 2, 3, host_id=2, upstream_active=False, upstream_status="deleted")
    store.append(batch(item(1, 0, 1), item(1, 1, 2, host_id=2), gone))
    assert counts(store) == [0, 0]


def test_other_status_changes_leave_the_count(store: Store) -> None:
    store.append(batch(item(1, 0, 1)))
    store.append(batch(item(1, 1, 2, upstream_active=False, upstream_status="deactivated", local_status="takendown")))
    assert counts(store) == [1, 0]


def queue(store: Store, host_id: int = 1, limit: int = 100) -> list[str]:
    with store.view() as view:
        return view.throttled(host_id, limit)


def test_throttled_accounts_wait_in_the_order_they_came(store: Store) -> None:
    store.append(batch(*(item(number, 0, number, local_status="throttled") for number in (3, 1, 2))))
    store.append(batch(item(9, 0, 9, host_id=2, local_status="throttled")))
    assert queue(store) == [did(3), did(1), did(2)]
    assert queue(store, limit=2) == [did(3), did(1)]
    assert queue(store, host_id=2) == [did(9)]


def test_release_and_migration_leave_the_queue(store: Store) -> None:
    store.append(batch(*(item(number, 0, number, local_status="throttled") for number in (1, 2, 3))))
    store.append(batch(item(2, 1, 4), item(3, 1, 5, host_id=2, local_status="throttled")))
    assert queue(store) == [did(1)]
    assert queue(store, host_id=2) == [did(3)]
    store.append(batch(item(1, 1, 6, local_status="takendown")))
    assert queue(store) == []


def test_a_throttled_account_that_only_moves_on_keeps_its_place(store: Store) -> None:
    store.append(batch(*(item(number, 0, number, local_status="throttled") for number in (1, 2))))
    store.append(batch(item(1, 1, 9, local_status="throttled")))
    assert queue(store) == [did(1), did(2)]


def test_accounts_are_listed_in_pages_in_order_of_did(store: Store) -> None:
    store.append(batch(*(item(number, 0, number, host_id=1 + number % 2) for number in range(10)), marks=(mark(9),)))
    with store.view() as view:
        first = view.accounts("", 4)
        second = view.accounts(first.next_after or "", 100)
        odd = view.accounts("", 3, host_id=2)
    assert [name for name, _ in first.accounts + second.accounts] == [did(number) for number in range(10)]
    assert second.next_after is None
    assert [name for name, _ in odd.accounts] == [did(1), did(3), did(5)]
    assert odd.next_after == did(5)


def test_a_page_ends_where_it_has_looked_at_enough_rows(store: Store) -> None:
    """A look for accounts of a host that has none in a large table is bounded; `next_after` goes on behind it."""
    store.append(batch(*(item(number, 0, number) for number in range(5)), marks=(mark(9),)))
    with store._state.reading() as txn:
        found = [
            read_accounts(store._state.env, txn, after, 9, 2, rows_max=rows_max)
            for after, rows_max in (("", 4), (did(3), 4), ("", 5))
        ]
    assert found == [([], did(3)), ([], None), ([], None)]


def test_a_did_that_cannot_be_a_key_has_no_row(store: Store) -> None:
    with store.view() as view:
        for text in ("", "did:web:" + "x" * 2000, "did:plc:é"):
            assert view.account(text) is None
            assert view.identity(text) is None
            assert view.notes(text) == []
        assert view.accounts("z" * 3000, 5).accounts == []
