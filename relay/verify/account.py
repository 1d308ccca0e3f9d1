"""The verdict on an `#account`: hosting status is believed of the account's own host only (checklist 162)."""

from relay.protocol.events import AccountEvent
from relay.verify.authority import check_host
from relay.verify.facts import AccountState, Facts
from relay.verify.verdict import Accept, Drop, Reason, Verdict

DELETED = "deleted"


def judge_account(event: AccountEvent, facts: Facts) -> Verdict:
    """Whether this status passes; the state returned holds it as the upstream status.

    What consumers are told is `effective_status` of that state. Once the DID itself is gone nobody can be named by its
    document, and the host we stored may still say `deleted`, once, and nothing else (design section 4, "Tombstone").
    """
    if facts.is_replayed(event.seq):
        return Drop(Reason.REPLAYED)
    refused = check_host(facts)
    if refused is not None and not (isinstance(refused, Drop) and _is_farewell(event, facts)):
        return refused
    state = facts.advanced(event.seq)
    return Accept(state._replace(upstream_active=event.active, upstream_status=event.status or ""))


def _is_farewell(event: AccountEvent, facts: Facts) -> bool:
    """Whether the stored host of a DID that is gone says that the account is deleted, and is the first to say so."""
    is_deletion = not event.active and event.status == DELETED
    return facts.identity.tombstone and facts.is_own_host and is_deletion and not is_deleted(facts.account)


def is_deleted(account: AccountState) -> bool:
    """Whether the row says that the account is deleted."""
    return not account.upstream_active and account.upstream_status == DELETED


def of_a_gone_did(account: AccountState) -> AccountState | None:
    """The row once its DID is found gone: deleted (checklist 145, 181). None when there is none, or it says so already.

    A host's own word that the account is inactive in another way gives way to it: a DID does not come back.
    """
    if account.version == 0 or is_deleted(account):
        return None
    return account._replace(upstream_active=False, upstream_status=DELETED)


def of_a_recheck(account: AccountState, host_id: int, *, active: bool, status: str) -> AccountState | None:
    """The row once its host was asked what holds (checklist 171). None when nothing has to be told.

    Only a flag of that very host is lifted, and nothing but lifted: what the host says unasked comes in its stream.
    """
    if account.upstream_active or account.host_id != host_id or not active:
        return None
    return account._replace(upstream_active=True, upstream_status=status)
