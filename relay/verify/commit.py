"""The verdict on a `#commit` (protocol.md section 14)."""

from relay.protocol.events import CommitEvent
from relay.verify.chain import AccountState, HostView
from relay.verify.identity import Identity
from relay.verify.signed import Proven, check_signed, settled_state
from relay.verify.verdict import Accept, Verdict


def judge_commit(
    event: CommitEvent,
    identity: Identity,
    account: AccountState,
    host: HostView,
    now_ms: int,
    *,
    refreshed: bool,
) -> Verdict:
    """Whether this commit passes, given what is known of its account.

    `refreshed` says that `identity` was read for this very event: then a mismatch is final, else it asks for a refresh.
    Steps 1 to 3 came before (`relay.protocol`); steps 6 to 11 are `check_signed`.
    """
    proven = check_signed(event, identity, account, host, now_ms, refreshed=refreshed)
    if not isinstance(proven, Proven):
        return proven
    return Accept(settled_state(proven, event.seq, account, host))
