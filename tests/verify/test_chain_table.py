"""The verdict on a `#commit` from step 12 on: ops against tree, first commits, absent `prevData`, breaks, modes.

Rows of protocol.md section 15 and of design section 4 ("Modes per host"). Commits are made by the independent world.
"""

from collections.abc import Callable

import pytest

from relay.protocol.events import CommitEvent
from relay.verify.commit import judge_commit
from relay.verify.facts import NO_ACCOUNT, AccountState
from relay.verify.modes import LENIENT, MODES, RATCHET, STRICT
from relay.verify.verdict import Accept, Drop, Reason, Verdict
from relay.world.dagcbor import Link, Value, cid_of, encode
from relay.world.messages import Message
from relay.world.repo import Write
from relay.world.tree import Node, encode_node, key_layer
from relay.world.treewalk import inversion_path
from tests.support.altering import altered, blocks_of, ops_of, resigned, with_blocks, without
from tests.support.scene import HOME, NOW_MS, Scene

RECORD, OTHER_RECORD = encode({"text": "a"}), encode({"text": "b"})
PATHS = [f"com.example.note/{number:03}" for number in range(60)]


def judge(scene: Scene, message: Message, account: AccountState, mode: str = STRICT) -> Verdict:
    event = scene.event(message)
    assert isinstance(event, CommitEvent)
    return judge_commit(event, scene.facts(account, host=HOME._replace(mode=mode)))


def accepted(verdict: Verdict) -> Accept:
    assert isinstance(verdict, Accept), verdict
    return verdict


def reason(verdict: Verdict) -> Reason:
    assert isinstance(verdict, Drop), verdict
    return verdict.reason


def told(verdict: Verdict) -> set[str]:
    """The flags of an event that passes."""
    flags = accepted(verdict)._asdict()
    del flags["state"]
    return {name for name, is_so in flags.items() if is_so}


def grown(scene: Scene) -> AccountState:
    """A repo of sixty records, stored."""
    commit(scene, [Write(path, RECORD) for path in PATHS])
    return scene.stored()


def commit(scene: Scene, writes: list[Write], *, now_ms: int = NOW_MS) -> Message:
    return scene.account.repo.commit(writes, scene.account.key, now_ms)


CHANGES = [Write("com.example.note/new", RECORD), Write(PATHS[7], OTHER_RECORD), Write(PATHS[31], None)]
KINDS = {"create": CHANGES[:1], "update": CHANGES[1:2], "delete": CHANGES[2:], "all": CHANGES, "none": []}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_commit_that_follows_on_the_stored_one_is_proven(kind: str, mode: str) -> None:
    """Checklist 73, 198 to 201, 215. A commit without ops proves nothing, and so ends no ratchet."""
    scene = Scene()
    account = grown(scene)
    verdict = accepted(judge(scene, commit(scene, KINDS[kind]), account, mode))

    assert told(verdict) == ({"proven"} if KINDS[kind] else set())
    assert verdict.state.data == bytes(scene.account.repo.tree.cid)[4:]


@pytest.mark.parametrize("mode", MODES)
def test_a_commit_without_ops_is_held_to_its_tree(mode: str) -> None:
    """Checklist 215: `data` is `prevData`. The root need not be there, but if it is, it is a node."""
    scene = Scene()
    account = grown(scene)
    message = commit(scene, [])
    blocks = blocks_of(message)
    del blocks[scene.account.repo.tree.cid]
    assert told(judge(scene, with_blocks(message, blocks), account, mode)) == set()
    other = altered(message, prevData=cid_of(b"else"))
    assert reason(judge(scene, other, account, mode)) is Reason.INVERSION_MISMATCH

    garbage = encode({"no": "node"})
    signed = resigned(scene, message, lambda fields: fields.update(data=cid_of(garbage)))
    forged = altered(with_blocks(signed, {**blocks_of(signed), cid_of(garbage): garbage}), prevData=cid_of(garbage))
    assert reason(judge(scene, forged, account, mode)) is Reason.MST_INVALID
    if mode != STRICT:
        assert reason(judge(scene, without(forged, "prevData"), account, mode)) is Reason.MST_INVALID


# First commits.


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("writes", [[], [Write(PATHS[0], RECORD)], [Write(path, RECORD) for path in PATHS]])
@pytest.mark.parametrize("row", ["none", "without repo"])
def test_a_first_commit_needs_no_prev_data(writes: list[Write], mode: str, row: str) -> None:
    """Checklist 212. It does not end a ratchet: an old host sends the same for every new account."""
    scene = Scene()
    account = NO_ACCOUNT if row == "none" else scene.known()
    assert told(judge(scene, commit(scene, writes), account, mode)) == set()


@pytest.mark.parametrize("mode", MODES)
def test_a_first_commit_may_name_the_tree_before_it(mode: str) -> None:
    """An account that is older than our knowledge of it; any tree will do, there is nothing to compare it with."""
    scene = Scene()
    grown(scene)
    assert told(judge(scene, commit(scene, CHANGES), NO_ACCOUNT, mode)) == {"proven"}


def test_a_first_commit_must_lead_back_to_what_it_names() -> None:
    scene = Scene()
    grown(scene)
    message = altered(commit(scene, CHANGES), prevData=scene.account.repo.tree.cid)
    for mode in MODES:
        assert reason(judge(scene, message, NO_ACCOUNT, mode)) is Reason.INVERSION_MISMATCH


def test_a_first_commit_without_prev_data_must_lead_back_to_nothing() -> None:
    """Not the first of its repo, though the first that we see: passes only while a host is listed as legacy."""
    scene = Scene()
    grown(scene)
    message = without(commit(scene, CHANGES), "prevData")

    assert reason(judge(scene, message, NO_ACCOUNT)) is Reason.PREV_DATA_MISSING
    for mode in (RATCHET, LENIENT):
        assert told(judge(scene, message, NO_ACCOUNT, mode)) == {"unproven"}


# Absent prevData and absent prev.


@pytest.mark.parametrize("since", ["kept", "null"])
def test_prev_data_may_be_absent_on_old_hosts_only(since: str) -> None:
    """Checklist 213; `since` is not signed and excuses nothing."""
    scene = Scene()
    account = grown(scene)
    message = without(commit(scene, CHANGES), "prevData")
    if since == "null":
        message = altered(message, since=None)

    assert reason(judge(scene, message, account)) is Reason.PREV_DATA_MISSING
    for mode in (RATCHET, LENIENT):
        assert "unproven" in told(judge(scene, message, account, mode))
        assert "proven" not in told(judge(scene, message, account, mode))


@pytest.mark.parametrize("kind", ["update", "delete", "all"])
def test_prev_may_be_absent_on_old_hosts_only(kind: str) -> None:
    scene = Scene()
    account = grown(scene)
    message = commit(scene, KINDS[kind])
    ops = ops_of(message)
    for op in ops:
        op.pop("prev", None)
    message = altered(message, ops=ops)

    assert reason(judge(scene, message, account)) is Reason.OP_PREV_MISSING
    for mode in (RATCHET, LENIENT):
        assert told(judge(scene, message, account, mode)) == {"unproven"}
        assert told(judge(scene, without(message, "prevData"), account, mode)) == {"unproven"}


def test_an_old_host_may_send_an_empty_commit() -> None:
    scene = Scene()
    account = grown(scene)
    message = without(commit(scene, []), "prevData")
    assert told(judge(scene, message, account, RATCHET)) == {"unproven"}


@pytest.mark.parametrize("mode", [RATCHET, LENIENT])
def test_the_forward_check_holds_for_old_hosts_too(mode: str) -> None:
    """Design section 4: what an op says must be in the tree, its record in the slice; a deleted path must be gone."""
    scene = Scene()
    account = grown(scene)
    message = without(commit(scene, CHANGES), "prevData")
    create, update, delete = ops_of(message)
    wrong: list[tuple[dict[str, Value], Reason]] = [
        ({**create, "path": "com.example.note/else"}, Reason.OP_NOT_IN_TREE),
        ({**update, "cid": cid_of(RECORD)}, Reason.OP_NOT_IN_TREE),
        ({**delete, "path": PATHS[9]}, Reason.OP_NOT_IN_TREE),
    ]
    for op, expected in wrong:
        others = [other for other in (create, update, delete) if other["action"] != op["action"]]
        assert reason(judge(scene, altered(message, ops=[*others, op]), account, mode)) is expected
    blocks = blocks_of(message)
    del blocks[cid_of(OTHER_RECORD)]
    assert reason(judge(scene, with_blocks(message, blocks), account, mode)) is Reason.RECORD_MISSING


@pytest.mark.parametrize("mode", MODES)
def test_a_failed_inversion_passes_in_no_mode(mode: str) -> None:
    """Checklist 202, 203: what names `prevData` and all `prev` is held to it."""
    scene = Scene()
    account = grown(scene)
    message = commit(scene, CHANGES)
    for left_out in range(3):
        ops = ops_of(message)
        del ops[left_out]
        found = reason(judge(scene, altered(message, ops=ops), account, mode))
        assert found is Reason.INVERSION_MISMATCH


# Breaks.


def test_a_break_of_the_chain_passes_and_is_adopted() -> None:
    """Checklist 216: a commit in between was never seen."""
    scene = Scene()
    account = grown(scene)
    commit(scene, CHANGES[:1])
    verdict = accepted(judge(scene, commit(scene, CHANGES[1:]), account))

    assert told(verdict) == {"chain_break", "since_differs", "proven"}
    assert verdict.state.rev == scene.account.repo.rev
    assert verdict.state.data == bytes(scene.account.repo.tree.cid)[4:]


@pytest.mark.parametrize("since", [None, "3kxyz2abcdd2a"])
def test_another_since_alone_is_no_break(since: str | None) -> None:
    """Some implementations always send null (design section 4)."""
    scene = Scene()
    account = grown(scene)
    message = altered(commit(scene, CHANGES), since=since)
    assert told(judge(scene, message, account)) == {"since_differs", "proven"}


def test_a_commit_after_a_dropped_one_is_a_break() -> None:
    """Checklist 217; protocol.md section 16: intended."""
    scene = Scene()
    account = grown(scene)
    dropped = without(commit(scene, CHANGES[:1]), "prevData")
    assert reason(judge(scene, dropped, account)) is Reason.PREV_DATA_MISSING
    assert "chain_break" in told(judge(scene, commit(scene, CHANGES[1:]), account))


# Reasons, one meaning each.


def test_ops_that_are_unsound_by_themselves() -> None:
    scene = Scene()
    account = grown(scene)
    message = commit(scene, CHANGES[:1])
    (op,) = ops_of(message)
    assert reason(judge(scene, altered(message, ops=[{**op, "action": "move"}]), account)) is Reason.OPS_INVALID
    assert reason(judge(scene, altered(message, ops=[op, op]), account)) is Reason.OP_DUPLICATE_PATH


def test_ops_are_judged_after_the_signature() -> None:
    """protocol.md section 14: identity before signature before ops."""
    scene = Scene()
    account = grown(scene)
    message = commit(scene, CHANGES[:1])
    (op,) = ops_of(message)
    unsound = altered(message, ops=[{**op, "action": "move"}])
    forged = resigned(scene, unsound, lambda fields: fields.update(sig=b"\x01" * 64))
    assert reason(judge(scene, forged, account)) is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda ops: [{**ops[0], "cid": cid_of(OTHER_RECORD)}, *ops[1:]], Reason.OP_NOT_IN_TREE),  # checklist 204
        (lambda ops: [ops[0], {**ops[1], "prev": cid_of(b"else")}, ops[2]], Reason.INVERSION_MISMATCH),  # 205
        (lambda ops: [*ops[:2], {**ops[2], "prev": cid_of(b"else")}], Reason.INVERSION_MISMATCH),
        (lambda ops: [*ops[:2], {**ops[2], "path": PATHS[7]}], Reason.OP_DUPLICATE_PATH),
        (lambda ops: [{**ops[0], "path": "com.example.note/else"}, *ops[1:]], Reason.OP_NOT_IN_TREE),  # 207
        (lambda ops: [ops[0], ops[2], {**ops[2], "path": PATHS[9]}], Reason.OP_NOT_IN_TREE),
        (lambda ops: ops[:0], Reason.INVERSION_MISMATCH),  # 215
    ],
)
def test_ops_that_do_not_fit_the_tree(
    change: Callable[[list[dict[str, Value]]], list[Value]], expected: Reason
) -> None:
    """Checklist 72, 204, 205, 207."""
    scene = Scene()
    account = grown(scene)
    message = commit(scene, CHANGES)
    assert reason(judge(scene, altered(message, ops=change(ops_of(message))), account)) is expected


def test_another_prev_data_is_invalid_and_no_break() -> None:
    """Checklist 206."""
    scene = Scene()
    account = grown(scene)
    message = altered(commit(scene, CHANGES), prevData=cid_of(b"else"))
    assert reason(judge(scene, message, account)) is Reason.INVERSION_MISMATCH


def test_a_slice_without_a_node_that_is_needed() -> None:
    """Checklist 208; the root is always needed."""
    scene = Scene()
    account = grown(scene)
    message = commit(scene, CHANGES)
    blocks = blocks_of(message)
    del blocks[scene.account.repo.tree.cid]
    assert reason(judge(scene, with_blocks(message, blocks), account)) is Reason.SLICE_INCOMPLETE


def test_a_node_may_be_missing_below_a_top_that_is_pruned() -> None:
    """Checklist 208, 210: the ops may be right, and the reason says what is wrong."""
    scene = Scene()
    commit(scene, [Write(path, RECORD) for path in PATHS if key_layer(path.encode()) == 0])
    account = scene.stored()
    leaf = scene.account.repo.tree.cid
    tops = (f"com.example.note/z{number}" for number in range(10_000))
    message = commit(scene, [Write(next(path for path in tops if key_layer(path.encode()) == 3), RECORD)])
    between = [child for child in scene.account.repo.tree.children if child is not None]
    while between[-1].cid != leaf:
        between += [child for child in between[-1].children if child is not None]
    assert len(between) == 3
    for node, expected in zip(between, [Reason.SLICE_INCOMPLETE] * 2 + [None], strict=True):
        blocks = blocks_of(message)
        blocks.pop(node.cid, None)
        verdict = judge(scene, with_blocks(message, blocks), account)
        assert told(verdict) == {"proven"} if expected is None else reason(verdict) is expected


def test_a_slice_without_a_record() -> None:
    """Checklist 104."""
    scene = Scene()
    account = grown(scene)
    message = commit(scene, CHANGES)
    for record in (RECORD, OTHER_RECORD):
        blocks = blocks_of(message)
        del blocks[cid_of(record)]
        assert reason(judge(scene, with_blocks(message, blocks), account)) is Reason.RECORD_MISSING


def test_a_tree_that_is_not_canonical() -> None:
    """A root whose keys are not all of its layer, signed by the account itself."""
    scene = Scene()
    paths = [path.encode() for path in PATHS[:3]]
    cids = tuple(cid_of(RECORD) for _ in paths)
    root = Node(0, tuple(paths), cids, (None, None, None, None))
    block = encode_node(root)
    message = commit(scene, [Write(path.decode(), RECORD) for path in paths])
    blocks = {cid_of(block): block, cid_of(RECORD): RECORD}
    made = with_blocks(message, {**blocks, **blocks_of(message)})
    forged = resigned(scene, made, lambda fields: fields.update(data=cid_of(block)))
    assert reason(judge(scene, forged, NO_ACCOUNT)) is Reason.MST_INVALID


# Lenient.


def test_lenient_collapses_a_create_that_the_commit_takes_back() -> None:
    """Design section 5, #8. The path must be absent all the same; where the slice does not tell, that is not proven."""
    scene = Scene()
    account = grown(scene)
    message = commit(scene, CHANGES[:1])
    tree = scene.account.repo.tree
    pair: list[Value] = [
        {"action": "create", "path": "com.example.note/gone", "cid": cid_of(RECORD)},
        {"action": "delete", "path": "com.example.note/gone", "cid": None},
    ]
    made = altered(message, ops=[*pair, *ops_of(message)])

    assert reason(judge(scene, made, account, RATCHET)) is Reason.OP_DUPLICATE_PATH
    assert told(judge(scene, made, account, LENIENT)) == {"proven"}
    there: list[Value] = [{**op, "path": PATHS[3]} for op in pair if isinstance(op, dict)]
    blocks = {**blocks_of(message), **{node.cid: node.block for node in inversion_path(tree, PATHS[3].encode())}}
    still = altered(message, ops=[*there, *ops_of(message)])
    assert told(judge(scene, still, account, LENIENT)) == {"unproven"}
    assert reason(judge(scene, with_blocks(still, blocks), account, LENIENT)) is Reason.OP_NOT_IN_TREE


# Nothing that inversion does not need.


def test_nodes_that_inversion_does_not_touch_may_be_missing_or_extra() -> None:
    """Checklist 100, 209."""
    scene = Scene()
    account = grown(scene)
    highest = max(PATHS, key=lambda path: key_layer(path.encode()))
    message = commit(scene, [Write(highest, OTHER_RECORD)])
    blocks = blocks_of(message)
    stray = encode({"stray": True})
    assert told(judge(scene, with_blocks(message, {cid_of(stray): stray, **blocks}), account)) == {"proven"}
    needed = {scene.account.repo.tree.cid, cid_of(OTHER_RECORD), list(blocks)[-1]}
    assert len(blocks) > len(needed)
    fewer = {cid: block for cid, block in blocks.items() if cid in needed}
    assert told(judge(scene, with_blocks(message, fewer), account)) == {"proven"}


def test_links_are_compared_in_full() -> None:
    """A `prevData` of another codec is against the schema; here only digests differ by one bit."""
    scene = Scene()
    account = grown(scene)
    message = commit(scene, CHANGES[:1])
    named = message.payload["prevData"]
    assert isinstance(named, bytes)
    for at in (4, 35):
        off = bytearray(named)
        off[at] ^= 1
        assert reason(judge(scene, altered(message, prevData=Link(off)), account)) is Reason.INVERSION_MISMATCH
