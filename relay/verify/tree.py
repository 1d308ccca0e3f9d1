"""The operations of a `#commit` held against its tree (protocol.md section 14, steps 13 to 16).

Undoing the ops must lead back to the tree that `prevData` names; then the list is accurate and complete. What that
takes is behind the pure border `check_slice`; here is only what follows from its answer (design section 4, "Modes per
host").

The first commit of an account, as far as we know it, may leave `prevData` out when its ops lead back to the empty tree.
That proves the commit, but not that the host knows `prevData`: hosts from before Sync 1.1 send the same for every new
account. So it does not end a ratchet. Nor does a commit without ops, whose tree may never have been seen.
"""

from collections.abc import Sequence
from enum import Enum, auto

from relay.protocol.errors import MstError, NodeInvalid, NodeMissing, OpNotInTree, RecordMissing
from relay.protocol.events import CommitEvent, RepoOp
from relay.protocol.inversion import check_forward, check_slice
from relay.protocol.mst import EMPTY_TREE_CID
from relay.verify.modes import passes_unproven
from relay.verify.ops import SoundOps
from relay.verify.signed import SignedSlice
from relay.verify.verdict import Drop, Reason

_REASONS: dict[type[MstError], Reason] = {
    NodeInvalid: Reason.MST_INVALID,
    NodeMissing: Reason.SLICE_INCOMPLETE,
    RecordMissing: Reason.RECORD_MISSING,
    OpNotInTree: Reason.OP_NOT_IN_TREE,
}


class Proof(Enum):
    """How far the ops of a commit that passes are shown to be all that happened."""

    FULL = auto()  # they lead back to the prevData it names
    FIRST = auto()  # they lead back to the empty tree, and it names no prevData
    EMPTY = auto()  # there are none, and prevData names the same tree
    NONE = auto()  # only the forward check holds


def check_tree(event: CommitEvent, signed: SignedSlice, sound: SoundOps, mode: str, *, first: bool) -> Proof | Drop:
    """Steps 13 to 16. `first` says that nothing is stored of the account's repo."""
    is_optional = first or passes_unproven(mode)
    if event.prev_data is None and not is_optional:
        return Drop(Reason.PREV_DATA_MISSING, "this is not the first commit of the account")
    try:
        if sound.deleted and not _is_absent(signed, sound.deleted):
            sound = sound._replace(can_be_undone=False)
        if not sound.can_be_undone or (event.prev_data is None and not first):
            return _pass_forward(signed, sound)
        return _undo(event, signed, sound, mode)
    except MstError as error:
        return Drop(_REASONS[type(error)], str(error))


def _undo(event: CommitEvent, signed: SignedSlice, sound: SoundOps, mode: str) -> Proof | Drop:
    """Undo the ops and compare. Raises `MstError`."""
    try:
        before = check_slice(signed.slice.blocks, sound.ops, signed.commit.data, expected=event.prev_data)
    except MstError:
        if event.prev_data is None and passes_unproven(mode):
            return _pass_forward(signed, sound)
        raise
    if event.prev_data is not None:
        if before != event.prev_data:
            return Drop(Reason.INVERSION_MISMATCH)
        return Proof.FULL if sound.ops else Proof.EMPTY
    if before == EMPTY_TREE_CID:
        return Proof.FIRST
    if passes_unproven(mode):
        return Proof.NONE
    return Drop(Reason.PREV_DATA_MISSING, "the operations do not lead back to an empty repo")


def _pass_forward(signed: SignedSlice, sound: SoundOps) -> Proof:
    """The check that holds in every mode: what was created or updated is in the tree, and its record in the slice."""
    check_forward(signed.slice.blocks, sound.ops, signed.commit.data)
    return Proof.NONE


def _is_absent(signed: SignedSlice, deleted: Sequence[RepoOp]) -> bool:
    """Whether it is certain that none of these paths is in the tree. Raises `OpNotInTree` if one is."""
    blocks, data = signed.slice.blocks, signed.commit.data
    try:
        check_slice(blocks, deleted, data)
    except NodeMissing:
        check_forward(blocks, deleted, data)
        return False
    return True
