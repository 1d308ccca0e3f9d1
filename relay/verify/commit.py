"""The verdict on a `#commit` (protocol.md section 14, steps 6 to 18)."""

from relay.protocol.events import CommitEvent
from relay.verify.facts import Facts
from relay.verify.ops import check_ops
from relay.verify.signed import SignedSlice, check_signed, settled_state
from relay.verify.tree import Proof, check_tree
from relay.verify.verdict import Accept, Drop, Verdict


def judge_commit(event: CommitEvent, facts: Facts) -> Verdict:
    """Whether this commit passes, given what is known of its account.

    Steps 1 to 3 came before (`relay.protocol`). A commit that is valid by itself but does not follow on the stored one
    passes: its state is adopted, the break only marked (step 17, checklist 216).
    """
    signed = check_signed(event, facts)
    if not isinstance(signed, SignedSlice):
        return signed
    account, mode = facts.account, facts.host.mode
    sound = check_ops(event.ops, mode)
    if isinstance(sound, Drop):
        return sound
    is_first = not account.rev
    proof = check_tree(event, signed, sound, mode, first=is_first)
    if isinstance(proof, Drop):
        return proof
    return Accept(
        settled_state(signed, event.seq, facts),
        chain_break=not is_first and event.prev_data is not None and event.prev_data[4:] != account.data,
        since_differs=not is_first and event.since != account.rev,
        proven=proof is Proof.FULL,
        unproven=proof is Proof.NONE,
    )
