"""What a DID resolves to, as verification needs it, and the verdict on an `#identity`."""

from typing import NamedTuple

from relay.protocol.events import IdentityEvent
from relay.protocol.multikey import PublicKey
from relay.verify.chain import AccountState, HostView, advanced, is_replayed
from relay.verify.verdict import Accept, Drop, Reason, Refresh, Verdict


class Identity(NamedTuple):
    """A resolved DID. `host` is the normalised host[:port] of its PDS, None when the document names no usable one.

    `key` is None when the document has no usable signing key. `tombstone` marks a DID that its method says is gone.
    `fetched_ms` is when the document was read; `stale` asks for a refresh before the next use.
    """

    did: str
    key: PublicKey | None
    host: str | None
    fetched_ms: int
    stale: bool = False
    tombstone: bool = False


def judge_identity(
    event: IdentityEvent,
    identity: Identity,
    account: AccountState,
    host: HostView,
    *,
    refreshed: bool,
) -> Verdict:
    """Whether this `#identity` passes (design section 4, "#identity").

    It always makes the cached document stale; the caller does that before anything else (checklist 184). It passes when
    a document read afresh names the host it came from, because any host can send one for any DID, and the account may
    have moved away from the one that it used to be at.
    """
    if is_replayed(event.seq, account, host):
        return Drop(Reason.REPLAYED)
    stored_host = account.version > 0 and account.host_id == host.host_id
    if identity.tombstone and stored_host:
        return Accept(advanced(account, host, event.seq))
    if identity.host == host.hostname:
        if identity.stale and not refreshed:
            return Refresh(Drop(Reason.IDENTITY_UNRESOLVED))
        return Accept(advanced(account, host, event.seq))
    drop = Drop(Reason.HOST_MISMATCH, f"the DID document names {identity.host or 'no usable PDS'}")
    return drop if refreshed else Refresh(drop)
