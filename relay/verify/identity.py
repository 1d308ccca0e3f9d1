"""The verdict on an `#identity`: any host can send one for any DID, so it has to come from the DID's own."""

from relay.protocol.events import IdentityEvent
from relay.verify.authority import check_host
from relay.verify.facts import Facts
from relay.verify.verdict import Accept, Drop, Reason, Verdict


def judge_identity(event: IdentityEvent, facts: Facts) -> Verdict:
    """Whether this `#identity` passes (design section 4, "#identity").

    It always makes the cached document stale; the caller does that before anything else (checklist 184). It passes when
    a document read afresh names the host it came from, because the account may have moved away from the one that it
    used to be at. Of a DID that is gone, it passes from the host we stored.
    """
    if facts.is_replayed(event.seq):
        return Drop(Reason.REPLAYED)
    if facts.identity.tombstone and facts.is_own_host:
        return Accept(facts.advanced(event.seq))
    return check_host(facts) or Accept(facts.advanced(event.seq))
