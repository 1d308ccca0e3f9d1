"""A page of the account table, put together out of short read txns (design section 3).

Owns the order, which is that of the DIDs, so that an insert never shifts a page, and how much is read at a time. Which
accounts belong on a page, and how many reads it may take to find them, is the endpoint's word.
"""

from collections.abc import Callable

import trio

from relay.store.accounts import AccountPage
from relay.store.store import Store
from relay.verify.facts import AccountState

ROWS_PER_TXN = 128  # about 1 ms of the loop


async def account_page(
    store: Store,
    after_did: str,
    limit: int,
    wanted: Callable[[AccountState], bool],
    *,
    reads_max: int,
    host_id: int | None = None,
) -> AccountPage:
    """Up to `limit` accounts that are `wanted`, from behind `after_did`; only those of one host with `host_id`.

    After `reads_max` reads the page is given out as it is: where few are wanted it may be short, or empty.
    """
    page: list[tuple[str, AccountState]] = []
    after: str | None = after_did
    for _ in range(reads_max):
        with store.view() as view:
            rows, after = view.accounts(after or "", min(ROWS_PER_TXN, limit - len(page)), host_id)
        page += [row for row in rows if wanted(row[1])]
        if after is None or len(page) == limit:
            break
        await trio.lowlevel.checkpoint()
    return AccountPage(page, after)
