"""The verdict on an `#account`: hosting status is believed of the account's own host only (checklist 162)."""

from relay.protocol.events import AccountEvent
from relay.verify.authority import check_host
from relay.verify.chain import AccountState, HostView, advanced, is_replayed
from relay.verify.identity import Identity
from relay.verify.verdict import Accept, Drop, Reason, Verdict


def judge_account(
    event: AccountEvent,
    identity: Identity,
    account: AccountState,
    host: HostView,
    *,
    refreshed: bool,
) -> Verdict:
    """Whether this status passes; the state returned holds it as the upstream status.

    What consumers are told is `effective_status` of that state. Once the DID itself is gone nobody can be named by its
    document, and the host we stored may still say so (design section 4, "Tombstone").
    """
    if is_replayed(event.seq, account, host):
        return Drop(Reason.REPLAYED)
    refused = check_host(identity, host, refreshed=refreshed)
    stored_host = account.version > 0 and account.host_id == host.host_id
    if refused is not None and not (isinstance(refused, Drop) and identity.tombstone and stored_host):
        return refused
    state = advanced(account, host, event.seq)
    return Accept(state._replace(upstream_active=event.active, upstream_status=event.status or ""))
