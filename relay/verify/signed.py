"""The part that `#commit` and `#sync` share: host, status, rev, slice, commit block, signature.

Steps 6 to 11 of protocol.md section 14, in that order: cheap before expensive, identity before signature, and nothing
is kept from an event that fails.
"""

from typing import NamedTuple

from relay.protocol.car import CarSlice, parse_car
from relay.protocol.commit import SignedCommit, parse_commit
from relay.protocol.errors import BlockHashMismatch, CarError, CommitError
from relay.protocol.events import CommitEvent, SyncEvent
from relay.protocol.limits import RECORD_BYTES_MAX, REV_SKEW_MS
from relay.protocol.syntax import tid_ms
from relay.verify.authority import check_host, check_status
from relay.verify.chain import REPEATED, AccountState, HostView, is_replayed
from relay.verify.identity import Identity
from relay.verify.signature import is_canonical, verify_signature
from relay.verify.verdict import Drop, Reason, Recheck, Refresh


class SignedSlice(NamedTuple):
    """A slice whose commit block is signed by the account: what the rest of the verdict works on."""

    slice: CarSlice
    commit: SignedCommit
    root: bytes


def check_signed(
    event: CommitEvent | SyncEvent,
    identity: Identity,
    account: AccountState,
    host: HostView,
    now_ms: int,
    *,
    refreshed: bool,
) -> SignedSlice | Drop | Refresh | Recheck:
    """Steps 6 to 11. Returns what was proven, or the verdict that ends the event here."""
    if is_replayed(event.seq, account, host):
        return Drop(Reason.REPLAYED)
    may_repeat = isinstance(event, SyncEvent) and not account.flags & REPEATED
    refused = (
        check_host(identity, host, refreshed=refreshed)
        or check_status(account)
        or check_rev(event.rev, account, now_ms, may_repeat=may_repeat)
    )
    if refused is not None:
        return refused
    proven = read_slice(event)
    if isinstance(proven, Drop):
        return proven
    return check_signature(proven, identity, refreshed=refreshed) or proven


def check_rev(rev: str, account: AccountState, now_ms: int, *, may_repeat: bool) -> Drop | None:
    """Revs only rise, and not from the future: one future rev would lock the account out (protocol.md section 13)."""
    if tid_ms(rev) > now_ms + REV_SKEW_MS:
        return Drop(Reason.REV_IN_FUTURE)
    if rev < account.rev or (rev == account.rev and not may_repeat):
        return Drop(Reason.REV_NOT_NEWER)
    return None


def read_slice(event: CommitEvent | SyncEvent) -> SignedSlice | Drop:
    """The CAR slice with every hash checked, and its commit block compared with the message (steps 9 and 10)."""
    try:
        car = parse_car(event.blocks)
    except BlockHashMismatch:
        return Drop(Reason.BLOCK_HASH_MISMATCH)
    except CarError as error:
        return Drop(Reason.CAR_INVALID, str(error))
    if isinstance(event, CommitEvent):
        if event.commit != car.root:
            return Drop(Reason.COMMIT_CID_MISMATCH)
        if len(event.blocks) > RECORD_BYTES_MAX and any(len(block) > RECORD_BYTES_MAX for block in car.blocks.values()):
            return Drop(Reason.RECORD_TOO_BIG)
    block = car.blocks.get(car.root)
    if block is None:
        return Drop(Reason.COMMIT_MISSING)
    try:
        commit = parse_commit(block)
    except CommitError as error:
        return Drop(Reason.COMMIT_INVALID, str(error))
    if commit.did != event.did:
        return Drop(Reason.COMMIT_DID_MISMATCH)
    if commit.rev != event.rev:
        return Drop(Reason.COMMIT_REV_MISMATCH)
    return SignedSlice(car, commit, car.root)


def check_signature(proven: SignedSlice, identity: Identity, *, refreshed: bool) -> Drop | Refresh | None:
    """Step 11. A key that does not fit is read afresh once: it may have been rotated without a word (checklist 137)."""
    if identity.key is None:
        drop = Drop(Reason.IDENTITY_INCOMPLETE, "the DID document has no usable signing key")
    elif verify_signature(identity.key, proven.commit.digest, proven.commit.sig):
        return None
    elif not is_canonical(identity.key, proven.commit.sig):
        drop = Drop(Reason.SIGNATURE_FORMAT)
    else:
        drop = Drop(Reason.SIGNATURE_INVALID)
    return drop if refreshed else Refresh(drop)


def settled_state(proven: SignedSlice, seq: int, account: AccountState, host: HostView) -> AccountState:
    """The row after this commit: its rev and digests, and the host's place (protocol.md section 14 step 18)."""
    return account._replace(
        host_id=host.host_id,
        epoch=host.epoch,
        upstream_seq=seq,
        rev=proven.commit.rev,
        data=proven.commit.data[4:],
        commit=proven.root[4:],
        flags=account.flags & ~REPEATED,
    )
