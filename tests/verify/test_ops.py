"""Ops by themselves: protocol.md section 14 step 12."""

import pytest

from relay.protocol.cid import RAW_PREFIX
from relay.protocol.events import RepoOp
from relay.verify.modes import LENIENT, RATCHET, STRICT
from relay.verify.ops import SoundOps, check_ops
from relay.verify.verdict import Drop, Reason
from tests.support.handmade import cid

A, B = cid(b"a"), cid(b"b")
PATH = "app.bsky.feed.post/3kxyz2abcde2b"


@pytest.mark.parametrize("mode", [STRICT, RATCHET, LENIENT])
@pytest.mark.parametrize(
    "op",
    [
        RepoOp("create", PATH, A, None),
        RepoOp("update", PATH, A, B),
        RepoOp("update", PATH, A, A),  # changes nothing, and inverts exactly
        RepoOp("delete", PATH, None, B),
        RepoOp("delete", PATH, None, RAW_PREFIX + bytes(32)),
        RepoOp("create", "com.example.note/self:one~2._-", A, None),
    ],
)
def test_sound_ops(op: RepoOp, mode: str) -> None:
    assert check_ops([op], mode) == SoundOps([op])


@pytest.mark.parametrize("mode", [STRICT, RATCHET, LENIENT])
@pytest.mark.parametrize(
    "op",
    [
        RepoOp("create", PATH, None, None),
        RepoOp("create", PATH, A, B),
        RepoOp("update", PATH, None, B),
        RepoOp("delete", PATH, A, B),
        RepoOp("delete", PATH, A, None),
        RepoOp("move", PATH, A, B),
        RepoOp("Create", PATH, A, None),
        RepoOp("", PATH, A, None),
        RepoOp("create", "", A, None),
        RepoOp("create", "app.bsky.feed.post", A, None),
        RepoOp("create", "app.bsky.feed.post/", A, None),
        RepoOp("create", "app.bsky.feed.post/a/b", A, None),
        RepoOp("create", "app.bsky.feed.post/..", A, None),
        RepoOp("create", "feed/a", A, None),
        RepoOp("create", PATH + "\n", A, None),
        RepoOp("create", PATH + "é", A, None),
        RepoOp("delete", "app.bsky.feed.post/" + "a" * 513, None, B),
    ],
)
def test_unsound_ops_in_every_mode(op: RepoOp, mode: str) -> None:
    """Checklist 68, 69 and 71: the CIDs of each action and no other action, and paths."""
    found = check_ops([op], mode)
    assert isinstance(found, Drop)
    assert found.reason is Reason.OPS_INVALID


@pytest.mark.parametrize("op", [RepoOp("update", PATH, A, None), RepoOp("delete", PATH, None, None)])
def test_a_missing_prev_is_for_old_hosts_only(op: RepoOp) -> None:
    """Checklist 70."""
    refused = check_ops([op], STRICT)
    assert isinstance(refused, Drop)
    assert refused.reason is Reason.OP_PREV_MISSING
    for mode in (RATCHET, LENIENT):
        assert check_ops([op], mode) == SoundOps([op], can_be_undone=False)


CREATE, TAKEN_BACK = RepoOp("create", PATH, A, None), RepoOp("delete", PATH, None, None)
OTHER = RepoOp("create", "app.bsky.feed.post/3kxyz2abcde2c", B, None)


@pytest.mark.parametrize("taken_back", [TAKEN_BACK, RepoOp("delete", PATH, None, A)])
def test_only_lenient_collapses_what_one_commit_makes_and_takes_back(taken_back: RepoOp) -> None:
    """protocol.md section 24, #8."""
    ops = [CREATE, OTHER, taken_back]
    for mode in (STRICT, RATCHET):
        assert check_ops(ops, mode) == Drop(Reason.OP_DUPLICATE_PATH)
    assert check_ops(ops, LENIENT) == SoundOps([OTHER], [taken_back._replace(prev=A)])


@pytest.mark.parametrize(
    "ops",
    [
        [CREATE, CREATE],
        [TAKEN_BACK, CREATE],
        [CREATE, RepoOp("delete", PATH, None, B)],
        [CREATE, RepoOp("update", PATH, B, A)],
        [CREATE, TAKEN_BACK, CREATE],
    ],
)
def test_other_lists_for_one_path_never_pass(ops: list[RepoOp]) -> None:
    """Checklist 72."""
    for mode in (STRICT, RATCHET, LENIENT):
        refused = check_ops(ops, mode)
        assert isinstance(refused, Drop)
        assert refused.reason is Reason.OP_DUPLICATE_PATH
