"""The list of operations of a `#commit`, by itself (protocol.md section 14 step 12): what each op may hold, paths once.

What the tree says about them is `relay.verify.tree`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from relay.protocol.events import RepoOp
from relay.protocol.syntax import is_repo_path
from relay.verify.modes import LENIENT, passes_unproven
from relay.verify.verdict import Drop, Reason


class SoundOps(NamedTuple):
    """Ops that can be held against a tree, each path once.

    `deleted` are the deletes that a create of the same commit cancelled out (lenient mode only), with the record it had
    created as `prev`; their paths must be absent.
    `can_be_undone` is False when an update or a delete does not say what was there before.
    """

    ops: Sequence[RepoOp]
    deleted: Sequence[RepoOp] = ()
    can_be_undone: bool = True


def check_ops(ops: Sequence[RepoOp], mode: str) -> SoundOps | Drop:
    """Known actions, valid paths, no path twice, and just the CIDs that belong to the action.

    An update from a record to itself is sound: it inverts exactly (protocol.md section 14 step 12).
    """
    for op in ops:
        fault = _fault_of(op)
        if fault:
            return Drop(Reason.OPS_INVALID, fault)
    deleted: Sequence[RepoOp] = ()
    if len(ops) > 1 and len({op.path for op in ops}) < len(ops):
        if mode != LENIENT:
            return Drop(Reason.OP_DUPLICATE_PATH)
        ops, deleted = _collapsed(ops)
        if len({op.path for op in ops}) < len(ops):
            return Drop(Reason.OP_DUPLICATE_PATH, "not just a create that a delete takes back")
    for op in ops:
        if op.prev is None and op.action != "create":
            if not passes_unproven(mode):
                return Drop(Reason.OP_PREV_MISSING, f"{op.action} without prev")
            return SoundOps(ops, deleted, can_be_undone=False)
    return SoundOps(ops, deleted)


def _fault_of(op: RepoOp) -> str:
    """What is wrong with an op whatever the mode, "" for nothing."""
    action, path, cid, prev = op
    if action == "create":
        if cid is None or prev is not None:
            return "create without cid" if cid is None else "create with prev"
    elif action == "update":
        if cid is None:
            return "update without cid"
    elif action == "delete":
        if cid is not None:
            return "delete with cid"
    else:
        return "an action other than create, update and delete"
    return "" if is_repo_path(path) else "a path that is not collection/rkey"


def _collapsed(ops: Sequence[RepoOp]) -> tuple[list[RepoOp], list[RepoOp]]:
    """The ops without every create that the same commit takes back, and the deletes of those paths.

    Some hosts write so when one batch makes and deletes a record (protocol.md section 24, #8). A delete that names
    another record than the one created, and any other list of ops for one path, stays as it is.
    """
    by_path: dict[str, list[RepoOp]] = {}
    for op in ops:
        by_path.setdefault(op.path, []).append(op)
    kept: list[RepoOp] = []
    deleted: list[RepoOp] = []
    for same in by_path.values():
        if [op.action for op in same] == ["create", "delete"] and same[1].prev in (None, same[0].cid):
            deleted.append(same[1]._replace(prev=same[0].cid))
        else:
            kept += same
    return kept, deleted
