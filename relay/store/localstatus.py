"""An operator's word on an account: takedown, suspension and their end, as items of the log like any event.

The append stays what it is, a pure function of log, state and batch: this module only makes the batch, for the row as
it is, and makes it again when another writer came first. A local status lies over what the host says and hides it; its
end shows what the host says by then, which need not be what it said before (protocol.md section 17, checklist 173 to
175).
"""

from collections.abc import Callable
from typing import NamedTuple

from relay.protocol.frame import account_frame
from relay.store.batch import Appended, Batch, Item, TakedownMark
from relay.verify.facts import AccountState, effective_status

OPERATOR_STATUSES = ("takendown", "suspended", "")


class StatusChange(NamedTuple):
    """What became of it: the row with its new version, and the seq of the `#account`, None when none was needed."""

    account: AccountState
    seq: int | None


def status_item(did: str, account: AccountState, changed: AccountState, time_ms: int) -> Item:
    """The item that makes `account` into `changed`; it emits `#account` when consumers have to hear of it.

    It belongs to no host's stream: its host id is 0, so no cursor and no count follows from it.
    """
    before, after = effective_status(account), effective_status(changed)
    template = account_frame(did, time_ms, *after) if before != after else None
    return Item(did, account.version, changed, template, 0, 0)


def set_local_status(
    append: Callable[[Batch], Appended],
    read: Callable[[str], AccountState | None],
    did: str,
    status: str,
    time_ms: int,
    *,
    takedown: TakedownMark | None = None,
) -> StatusChange:
    """Give an account a local status, or with "" take it away. Raises `KeyError` for a DID without a row.

    Asking for what is so already changes nothing and appends nothing. `takedown` is written with the row in one append.
    """
    assert status in OPERATOR_STATUSES, "throttled is the word of a quota, not of an operator"
    while True:
        account = read(did)
        if account is None:
            raise KeyError(did)
        if account.local_status == status and takedown is None:
            return StatusChange(account, None)
        item = status_item(did, account, account._replace(local_status=status), time_ms)
        appended = append(Batch(time_ms, (item,), takedown=takedown))
        if not appended.refused:
            state = item.state._replace(version=account.version + 1)
            return StatusChange(state, appended.tip_seq if item.template is not None else None)
