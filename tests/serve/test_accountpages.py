"""A page of accounts out of several read txns: what is on it, where it ends, and how much is read for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.serve.accountpages import ROWS_PER_TXN, account_page
from relay.store.settings import LogSettings
from relay.store.store import Store
from relay.verify.facts import AccountState
from tests.support.log_writer import START_MS, LogWriter, did_of

ACCOUNTS = 2 * ROWS_PER_TXN + 50


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Two hosts; every third account is the second's, every hundredth has a rev."""
    made = Store.open(tmp_path, LogSettings(sync=False, state_map_bytes=1 << 28), create=True, now_ms=START_MS)
    log = LogWriter(made)
    other = made.add_host("other.example.com", insecure=False, now_ms=START_MS)
    for number in range(ACCOUNTS):
        host_id = log.host.host_id if number % 3 else other.host_id
        log.put_account(did_of(number), AccountState(host_id=host_id, rev="" if number % 100 else "3kxyz2abcde2a"))
    yield made
    made.close()


async def numbers(
    store: Store, after: int, limit: int, reads_max: int, *, rare: bool = False
) -> tuple[list[int], bool]:
    """The numbers of the accounts on a page behind an account, and whether it is the last page."""
    order = {did_of(number): number for number in range(ACCOUNTS)}
    page = await account_page(store, did_of(after), limit, lambda row: not rare or bool(row.rev), reads_max=reads_max)
    return [order[did] for did, _ in page.accounts], page.next_after is None


async def test_a_page_is_filled_over_several_reads(store: Store) -> None:
    limit = ROWS_PER_TXN + 30

    assert await numbers(store, 0, limit, 10) == (list(range(1, limit + 1)), False)
    assert await numbers(store, limit, limit, 10) == (list(range(limit + 1, ACCOUNTS)), True)


async def test_only_wanted_accounts_are_on_it(store: Store) -> None:
    assert await numbers(store, 0, 200, 10, rare=True) == ([100, 200, 300], True)


async def test_after_so_many_reads_it_is_given_out_short(store: Store) -> None:
    """It goes on behind the last row that was looked at, wanted or not, so nothing is read twice."""
    assert await numbers(store, 0, 50, 1, rare=True) == ([], False)

    page = await account_page(store, did_of(0), 50, lambda row: bool(row.rev), reads_max=3)
    assert (len(page.accounts), page.next_after) == (1, did_of(150 - 1))


async def test_only_accounts_of_one_host(store: Store) -> None:
    with store.view() as view:
        other = view.host_named("other.example.com")
    assert other is not None

    page = await account_page(store, "", 5, lambda _: True, reads_max=10, host_id=other.host_id)

    assert [did for did, _ in page.accounts] == [did_of(number) for number in range(0, 15, 3)]
