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
from relay.verify.facts import REPEATED, AccountState, Facts
from relay.verify.signature import is_canonical, verify_signature
from relay.verify.verdict import Drop, Reason, Recheck, Refresh, unless_fresh


class SignedSlice(NamedTuple):
    """A slice and the commit block at its root, which bears a signature; `check_signature` says whether it is good."""

    slice: CarSlice
    commit: SignedCommit


def check_signed(event: CommitEvent | SyncEvent, facts: Facts) -> SignedSlice | Drop | Refresh | Recheck:
    """Steps 6 to 11. Returns the slice, its signature found good, or the verdict that ends the event here."""
    if facts.is_replayed(event.seq):
        return Drop(Reason.REPLAYED)
    account = facts.account
    may_repeat = isinstance(event, SyncEvent) and not account.flags & REPEATED
    refused = (
        check_host(facts) or check_status(account) or check_rev(event.rev, account, facts.now_ms, may_repeat=may_repeat)
    )
    if refused is not None:
        return refused
    signed = read_slice(event)
    if isinstance(signed, Drop):
        return signed
    return check_signature(signed, facts) or signed


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
    return SignedSlice(car, commit)


def check_signature(signed: SignedSlice, facts: Facts) -> Drop | Refresh | None:
    """Step 11. A key that does not fit is read afresh once: it may have been rotated without a word (checklist 137)."""
    key, commit = facts.identity.key, signed.commit
    if key is None:
        drop = Drop(Reason.IDENTITY_INCOMPLETE, "the DID document has no usable signing key")
    elif verify_signature(key, commit.digest, commit.sig):
        return None
    elif not is_canonical(key, commit.sig):
        drop = Drop(Reason.SIGNATURE_FORMAT)
    else:
        drop = Drop(Reason.SIGNATURE_INVALID)
    return unless_fresh(drop, facts)


def settled_state(signed: SignedSlice, seq: int, facts: Facts) -> AccountState:
    """The row after this commit: its rev and digests, and the host's place (protocol.md section 14 step 18)."""
    return facts.account._replace(
        host_id=facts.host.host_id,
        epoch=facts.host.epoch,
        upstream_seq=seq,
        rev=signed.commit.rev,
        data=signed.commit.data[4:],
        commit=signed.slice.root[4:],
        flags=facts.account.flags & ~REPEATED,
    )
