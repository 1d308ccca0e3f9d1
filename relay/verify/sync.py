"""The verdict on a `#sync`: its signed commit block is the new baseline, whatever came before (protocol.md 16)."""

from relay.protocol.events import SyncEvent
from relay.verify.chain import AccountState, HostView, advanced
from relay.verify.identity import Identity
from relay.verify.signed import SignedSlice, check_signed, settled_state
from relay.verify.verdict import Accept, Drop, Reason, Verdict


def judge_sync(
    event: SyncEvent,
    identity: Identity,
    account: AccountState,
    host: HostView,
    now_ms: int,
    *,
    refreshed: bool,
) -> Verdict:
    """Whether this `#sync` passes. An old rev is ignored like that of a commit (checklist 191).

    So is an equal one, unless it carries the very commit that is stored: hosts announce a new account so, right after
    its first `#commit`. That one changes nothing and is passed on.
    """
    proven = check_signed(event, identity, account, host, now_ms, refreshed=refreshed)
    if not isinstance(proven, SignedSlice):
        return proven
    if event.rev == account.rev:
        same = proven.root[4:] == account.commit
        return Accept(advanced(account, host, event.seq)) if same else Drop(Reason.REV_NOT_NEWER)
    return Accept(settled_state(proven, event.seq, account, host))
