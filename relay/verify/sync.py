"""The verdict on a `#sync`: its signed commit block is the new baseline, whatever came before (protocol.md 16)."""

from relay.protocol.events import SyncEvent
from relay.verify.chain import AccountState, HostView
from relay.verify.identity import Identity
from relay.verify.signed import Proven, check_signed, settled_state
from relay.verify.verdict import Accept, Verdict


def judge_sync(
    event: SyncEvent,
    identity: Identity,
    account: AccountState,
    host: HostView,
    now_ms: int,
    *,
    refreshed: bool,
) -> Verdict:
    """Whether this `#sync` passes. An old or equal rev is ignored like that of a commit (checklist 191)."""
    proven = check_signed(event, identity, account, host, now_ms, refreshed=refreshed)
    if not isinstance(proven, Proven):
        return proven
    return Accept(settled_state(proven, event.seq, account, host))
