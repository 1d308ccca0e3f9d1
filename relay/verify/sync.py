"""The verdict on a `#sync`: its signed commit block is the new baseline, whatever came before (protocol.md 16)."""

from relay.protocol.events import SyncEvent
from relay.verify.facts import REPEATED, Facts
from relay.verify.signed import SignedSlice, check_signed, settled_state
from relay.verify.verdict import Accept, Drop, Reason, Verdict


def judge_sync(event: SyncEvent, facts: Facts) -> Verdict:
    """Whether this `#sync` passes. An old rev is ignored like that of a commit (checklist 191).

    So is an equal one, but for one case in which it changes nothing and is passed on: it carries the very commit that
    is stored, for the first time. Hosts announce an account so that is new or active again, and an operator of one can
    tell consumers to look at a repo once more. What comes after that is the rewind that protocol.md section 13 ignores.
    """
    signed = check_signed(event, facts)
    if not isinstance(signed, SignedSlice):
        return signed
    account = facts.account
    if event.rev == account.rev:
        if signed.slice.root[4:] != account.commit:
            return Drop(Reason.REV_NOT_NEWER)
        return Accept(facts.advanced(event.seq)._replace(flags=account.flags | REPEATED))
    return Accept(settled_state(signed, event.seq, facts))
