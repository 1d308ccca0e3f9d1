"""`relay.protocol.inversion`: from the tree after and the ops to the tree before (checklist 198-211).

The trees come from `relay.world.tree`, which shares no code with what is tested.
"""

import json
from collections.abc import Mapping
from itertools import count, pairwise
from typing import NamedTuple

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol import car, cid
from relay.protocol.commit import parse_commit
from relay.protocol.errors import MstError, NodeInvalid, NodeMissing, OpNotInTree, RecordMissing
from relay.protocol.events import CommitEvent, RepoOp, parse_event
from relay.protocol.frame import MessageFrame, parse_frame
from relay.protocol.inversion import check_forward, check_slice
from relay.protocol.mst import EMPTY_TREE_BLOCK, EMPTY_TREE_CID
from relay.world.corpus import read_frames
from relay.world.tree import Node, key_layer, shared_prefix
from tests.support.shared import shared_dir
from tests.support.trees import blocks_of, slice_of, tree_of

RECORDS = {cid.cid_of(block): block for block in (b"\xa1aa\x00", b"\xa1aa\x01", b"\xa1aa\x02")}
ONE, TWO, THREE = RECORDS
Tree = Mapping[bytes, bytes]


def _keys_by_layer(per_layer: int, layers: int) -> list[bytes]:
    """Repo paths in order, as many of each layer: so that a few of them make a tall tree."""
    found: dict[int, list[bytes]] = {layer: [] for layer in range(layers)}
    for number in range(40_000):
        key = b"com.example.%s/3%05d" % (b"post" if number % 3 else b"like", number)
        layer = key_layer(key)
        if len(found.get(layer, range(per_layer))) < per_layer:
            found[layer].append(key)
    assert all(len(keys) == per_layer for keys in found.values())
    return sorted(key for keys in found.values() for key in keys)


KEYS = _keys_by_layer(per_layer=6, layers=6)


def ops_between(before: Tree, after: Tree) -> tuple[RepoOp, ...]:
    ops = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old != new:
            action = "update" if old and new else "create" if new else "delete"
            ops.append(RepoOp(action, key.decode(), new, old))
    return tuple(ops)


def whole_slice(after: Tree) -> tuple[dict[bytes, bytes], bytes]:
    tree = tree_of(after)
    return blocks_of(tree) | RECORDS, tree.cid


def slice_between(before: Tree, after: Tree) -> tuple[dict[bytes, bytes], bytes]:
    """What a host sends: new nodes, and those next to the changed keys."""
    tree = tree_of(after)
    touched = [op.path.encode() for op in ops_between(before, after)]
    return slice_of(tree, tree_of(before), touched) | RECORDS, tree.cid


def outcome(blocks: Mapping[bytes, bytes], ops: tuple[RepoOp, ...], data: bytes) -> bytes | None:
    try:
        return check_slice(blocks, ops, data)
    except MstError:
        return None


TREES = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(list(RECORDS)), max_size=len(KEYS))
CHANGES = st.dictionaries(st.sampled_from(KEYS), st.sampled_from([*RECORDS, None]), min_size=1, max_size=12)


def changed(before: Tree, changes: Mapping[bytes, bytes | None]) -> dict[bytes, bytes]:
    return {key: value for key, value in {**before, **changes}.items() if value is not None}


@given(TREES, TREES)
def test_any_tree_inverts_to_any_other(before: Tree, after: Tree) -> None:
    """With the whole tree as slice, whatever creates, updates and deletes lie between (checklist 198-201, 211)."""
    blocks, data = whole_slice(after)
    assert check_slice(blocks, ops_between(before, after), data) == tree_of(before).cid


@given(TREES, CHANGES)
def test_a_hosts_slice_is_enough(before: Tree, changes: Mapping[bytes, bytes | None]) -> None:
    """The new nodes and those next to the changed keys; the rest are stubs (checklist 121, 209)."""
    after = changed(before, changes)
    blocks, data = slice_between(before, after)
    ops = ops_between(before, after)
    assert check_slice(blocks, ops, data) == tree_of(before).cid
    assert check_slice(blocks, ops[::-1], data) == tree_of(before).cid, "in any order"
    if ops:
        check_forward(blocks, ops, data)


@given(TREES, CHANGES, st.data())
def test_a_missing_node_is_an_error_or_not_needed(
    before: Tree, changes: Mapping[bytes, bytes | None], data: st.DataObject
) -> None:
    """Never a root made up of less (checklist 208); a stub at the top is taken for the root, right or not (210)."""
    after = changed(before, changes)
    blocks, root = slice_between(before, after)
    missing = data.draw(st.sets(st.sampled_from(sorted(blocks)), max_size=3))
    for name in missing:
        del blocks[name]
    assert outcome(blocks, ops_between(before, after), root) in (None, tree_of(before).cid, *missing)


@given(TREES, CHANGES, st.data())
def test_ops_that_are_not_the_truth_do_not_invert(
    before: Tree, changes: Mapping[bytes, bytes | None], data: st.DataObject
) -> None:
    """One op left out, repeated, or with another cid, prev, path or action (checklist 202-205, 207)."""
    after = changed(before, changes)
    ops = ops_between(before, after)
    blocks, root = whole_slice(after)
    before_root = tree_of(before).cid
    for index, op in enumerate(ops):
        cids = [value for value in (ONE, TWO, THREE) if value != op.cid]
        prevs = [value for value in (ONE, TWO, THREE) if value != op.prev]
        lies = {
            "left out": (),
            "repeated": (op, op),
            "other cid": (op._replace(cid=data.draw(st.sampled_from(cids))),),
            "other prev": (op._replace(prev=data.draw(st.sampled_from(prevs))),),
            "other path": (op._replace(path=data.draw(st.sampled_from([k.decode() for k in KEYS if k not in after]))),)
            if len(after) < len(KEYS)
            else (),
            "no action": (op._replace(action="rename"),),
        }
        for name, lie in lies.items():
            if (name, op.action) in {("other cid", "delete"), ("other prev", "create")}:
                continue  # not looked at for this action; forbidden before (protocol.md section 14 step 12)
            told = ops[:index] + lie + ops[index + 1 :]
            if sorted(told) != sorted(ops):
                assert outcome(blocks, told, root) != before_root, name


@given(TREES, CHANGES, st.data())
def test_a_damaged_node_never_inverts(before: Tree, changes: Mapping[bytes, bytes | None], data: st.DataObject) -> None:
    """A tree that is not the canonical one of any key set cannot lead back to the tree before.

    One node of the new tree is replaced, and its ancestors hashed anew, as a dishonest host would.
    """
    after = changed(before, changes)
    tree = tree_of(after)
    victim, block = data.draw(st.sampled_from(sorted(blocks_of(tree).items())))
    fields = cbor2.loads(block)
    entries = fields["e"]
    if not entries:
        return
    number = data.draw(st.integers(0, len(entries) - 1))
    kind = data.draw(st.sampled_from(["drop", "value", "double", "lift"]))
    if kind == "drop":
        del entries[number]
    elif kind == "value":
        entries[number]["v"] = cbor2.CBORTag(42, b"\0" + cid.cid_of(b"another record"))
    elif kind == "double":
        entries.insert(number, dict(entries[number]))
    else:
        entries[number]["t"] = cbor2.CBORTag(42, b"\0" + tree.cid)
    blocks, root = rehashed(tree, victim, cbor2.dumps(fields))
    told = ops_between(before, after)
    if told:
        assert outcome(blocks | RECORDS, told, root) != tree_of(before).cid


def rehashed(tree: Node, victim: bytes, block: bytes) -> tuple[dict[bytes, bytes], bytes]:
    """The blocks of a tree with one node replaced, and every node above it hashed anew."""
    made = blocks_of(tree)
    blocks = dict(made)
    root, old, new = tree.cid, victim, block
    while True:
        blocks[cid.cid_of(new)] = new
        if old == root:
            return blocks, cid.cid_of(new)
        parent = next(name for name, text in made.items() if old in text)
        new = made[parent].replace(old, cid.cid_of(new))
        old = parent


def test_empty_and_back() -> None:
    """First record of a repo, last record of a repo, and the empty tree as root on either side (checklist 115, 212)."""
    some = {KEYS[0]: ONE}
    blocks, data = whole_slice(some)
    assert check_slice(blocks, ops_between({}, some), data) == EMPTY_TREE_CID
    blocks, data = whole_slice({})
    assert data == EMPTY_TREE_CID
    assert check_slice(blocks, ops_between(some, {}), data) == tree_of(some).cid
    with pytest.raises(NodeMissing):
        check_slice({}, ops_between(some, {}), EMPTY_TREE_CID)


def test_no_ops_change_nothing() -> None:
    """Then `data` must be `prevData`, which the caller compares (checklist 215). A root that is there is read."""
    assert check_slice({}, (), ONE) == ONE
    check_forward({}, (), ONE)
    for tree in ({}, dict.fromkeys(KEYS[:6], ONE)):
        blocks, data = whole_slice(tree)
        assert check_slice(blocks, (), data) == data
    garbage = b"\xa0"
    for check in (check_slice, check_forward):
        with pytest.raises(NodeInvalid):
            check({cid.cid_of(garbage): garbage}, (), cid.cid_of(garbage))


def test_what_is_wrong_has_its_own_error() -> None:
    before = dict.fromkeys(KEYS[::2], ONE)
    after = {**before, KEYS[1]: TWO}
    blocks, data = whole_slice(after)
    (op,) = ops_between(before, after)
    assert check_slice(blocks, (op,), data) == tree_of(before).cid
    gone = RepoOp("delete", KEYS[1].decode(), None, ONE)
    for lie in (
        op._replace(cid=ONE),
        op._replace(cid=None),
        op._replace(path=KEYS[3].decode()),
        op._replace(action="update"),
        op._replace(action="rename", prev=ONE),
        gone,
        gone._replace(path=KEYS[3].decode(), prev=None),
    ):
        with pytest.raises(OpNotInTree):
            check_slice(blocks, (lie,), data)
    with pytest.raises(NodeMissing):
        check_slice({name: block for name, block in blocks.items() if name != data}, (op,), data)
    with pytest.raises(RecordMissing):
        check_slice({name: block for name, block in blocks.items() if name != TWO}, (op,), data)


def test_create_and_delete_of_one_path_do_not_invert() -> None:
    """Forbidden in one commit; a tree either has the path or not (protocol.md section 24, #8)."""
    before = dict.fromkeys(KEYS[::2], ONE)
    blocks, data = whole_slice(before)
    path = KEYS[0].decode()
    with pytest.raises(OpNotInTree):
        check_slice(blocks, (RepoOp("create", path, ONE, None), RepoOp("delete", path, None, ONE)), data)


def of_layer(layer: int) -> list[bytes]:
    return [key for key in KEYS if key_layer(key) == layer]


def test_pruning_onto_a_stub_takes_its_cid() -> None:
    """A created key alone in the root, over one subtree that the slice does not have (checklist 210).

    Where that is not the root which is expected, there may be more to prune below it: then a node is missing.
    """
    low = {key: ONE for key in KEYS if key_layer(key) == 3 and key < of_layer(4)[-1]}
    before = {**low, of_layer(3)[0]: ONE}
    top = of_layer(4)[-1]
    assert all(key < top for key in before)
    after = {**before, top: TWO}
    tree = tree_of(after)
    only_root = {tree.cid: tree.block, **RECORDS}
    assert len(blocks_of(tree)) == 2
    ops = ops_between(before, after)
    for expected in (None, tree_of(before).cid):
        assert check_slice(only_root, ops, tree.cid, expected=expected) == tree_of(before).cid
    with pytest.raises(NodeMissing):
        check_slice(only_root, ops, tree.cid, expected=ONE)


def test_pruning_goes_through_empty_nodes() -> None:
    """A top of several layers goes with the one key that held it up, and so do the empty nodes (checklist 116, 211)."""
    before = {of_layer(0)[0]: ONE}
    after = {**before, of_layer(5)[-1]: TWO}
    tree = tree_of(after)
    assert len(blocks_of(tree)) == 6
    blocks, data = whole_slice(after)
    assert check_slice(blocks, ops_between(before, after), data) == tree_of(before).cid
    blocks, shrunk = whole_slice(before)
    assert check_slice(blocks, ops_between(after, before), shrunk) == data, "and the way back grows them"


def test_an_unpruned_root_is_refused() -> None:
    """A root without keys over the real one (checklist 114)."""
    after = dict.fromkeys(KEYS[:6], ONE)
    blocks, data = whole_slice(after)
    lone = node([], [blocks[data]])
    blocks[cid.cid_of(lone)] = lone
    with pytest.raises(NodeInvalid, match="root"):
        check_slice(blocks, (RepoOp("create", KEYS[0].decode(), ONE, None),), cid.cid_of(lone))


@pytest.mark.parametrize("layer", [5, 3])
def test_a_child_is_one_layer_lower(layer: int) -> None:
    """Neither of its parent's layer nor two lower (checklist 113)."""
    top = of_layer(5)[0]
    inner = next(key for key in of_layer(layer) if key > top)
    child = node([inner], [None, None])
    root = node([top], [None, child])
    blocks = {cid.cid_of(root): root, cid.cid_of(child): child, **RECORDS}
    with pytest.raises(NodeInvalid, match="another layer"):
        check_slice(blocks, (RepoOp("create", inner.decode(), ONE, None),), cid.cid_of(root))


@pytest.mark.parametrize("on_wrong_side", [True, False])
def test_keys_of_a_child_lie_between_those_of_its_parent(on_wrong_side: bool) -> None:
    """A subtree filed before a key that it should follow (checklist 112).

    The op is at the parent's key, whose removal takes the bound away: it must be judged before.
    """
    top = of_layer(5)[2]
    lower = next(key for key in of_layer(4) if (key > top) is on_wrong_side)
    child = node([lower], [None, None])
    root = node([top], [child, None])
    blocks = {cid.cid_of(root): root, cid.cid_of(child): child, **RECORDS}
    ops = (RepoOp("create", top.decode(), ONE, None),)
    if on_wrong_side:
        with pytest.raises(NodeInvalid, match="range"):
            check_slice(blocks, ops, cid.cid_of(root))
    else:
        assert check_slice(blocks, ops, cid.cid_of(root)) == tree_of({lower: ONE}).cid


@pytest.mark.parametrize("first_undone", ["alone", "joining", "splitting"])
def test_bounds_outlive_the_keys_that_set_them(first_undone: str) -> None:
    """A subtree read for a later op is judged by where it stood in the commit's tree, not in the tree half undone.

    A leaf before `top` holds a key that is greater than `top`. It is read last, after the node above it was read alone,
    was joined with its neighbour, or was split.
    """
    before, victim, middle, wanted, top, stray = ascending(2, 3, 2, 1, 3, 1)
    leaf = node([wanted, stray], [None, None, None])
    child = node([middle], [None, leaf])
    neighbour = node([before], [None, None])
    root = {
        "alone": node([top], [child, None]),
        "joining": node([victim, top], [neighbour, child, None]),
        "splitting": node([top], [child, None]),
    }[first_undone]
    ops = {
        "alone": (),
        "joining": (RepoOp("create", victim.decode(), ONE, None),),
        "splitting": (RepoOp("delete", victim.decode(), None, ONE),),
    }[first_undone]
    blocks = {cid.cid_of(block): block for block in (root, child, neighbour, leaf)} | RECORDS
    with pytest.raises(NodeInvalid, match="range"):
        check_slice(blocks, (*ops, RepoOp("create", wanted.decode(), ONE, None)), cid.cid_of(root))


def ascending(*layers: int) -> list[bytes]:
    """Paths in ascending order, of the given layers."""
    paths = (b"com.example.post/3%05d" % number for number in count())
    return [next(path for path in paths if key_layer(path) == layer) for layer in layers]


def node(keys: list[bytes], links: list[bytes | None]) -> bytes:
    """A node by hand; `links` are blocks."""
    tags = [cbor2.CBORTag(42, b"\0" + cid.cid_of(block)) if block else None for block in links]
    shared = [0, *(shared_prefix(left, right) for left, right in pairwise(keys))][: len(keys)]
    value = cbor2.CBORTag(42, b"\0" + ONE)
    entries = [
        {"k": key[length:], "p": length, "t": right, "v": value}
        for key, length, right in zip(keys, shared, tags[1:], strict=True)
    ]
    return cbor2.dumps({"e": entries, "l": tags[0]})


def test_a_link_below_layer_0_is_refused() -> None:
    """Checklist 113, and section 8 rule 6."""
    low = sorted(of_layer(0))
    child = node([low[0]], [None, None])
    root = node([low[1]], [child, None])
    blocks = {cid.cid_of(root): root, cid.cid_of(child): child, **RECORDS}
    with pytest.raises(NodeInvalid, match="below layer 0"):
        check_slice(blocks, (RepoOp("create", low[0].decode(), ONE, None),), cid.cid_of(root))


def test_keys_that_are_no_paths_are_refused_unless_asked_for() -> None:
    tree = tree_of({b"A0/374913": ONE})
    blocks = {**blocks_of(tree), **RECORDS}
    op = RepoOp("create", "A0/374913", ONE, None)
    assert check_slice(blocks, (op,), tree.cid, check_paths=False) == EMPTY_TREE_CID
    with pytest.raises(NodeInvalid, match="path"):
        check_slice(blocks, (op,), tree.cid)


def test_forward_check_alone() -> None:
    """For updates and deletes without prev: the rest of step 14 still holds (checklist 207)."""
    before = dict.fromkeys(KEYS[::2], ONE)
    after = changed(before, {KEYS[0]: TWO, KEYS[1]: THREE, KEYS[2]: None})
    blocks, data = slice_between(before, after)
    ops = tuple(op._replace(prev=None) for op in ops_between(before, after))
    check_forward(blocks, ops, data)
    with pytest.raises(OpNotInTree):
        check_slice(blocks, ops, data)
    for lie in (
        RepoOp("delete", KEYS[1].decode(), None, None),
        RepoOp("update", KEYS[0].decode(), ONE, None),
        RepoOp("update", KEYS[2].decode(), ONE, None),
    ):
        with pytest.raises(OpNotInTree):
            check_forward(blocks, (lie,), data)
    with pytest.raises(RecordMissing):
        check_forward({name: block for name, block in blocks.items() if name != TWO}, ops, data)
    with pytest.raises(NodeMissing):
        check_forward(RECORDS, ops, data)


# The one leaf of the public commit-proof fixtures
PROOF_LEAF = bytes.fromhex("01711220" + "9d156bc3f3a520066252c708a9361fd3d089223842500e3713d404fdccb33cef")


class Proof(NamedTuple):
    """A fixture: keys, all with PROOF_LEAF, and roots before and after; `blocks` None stands for the whole tree."""

    keys: list[str]
    adds: list[str]
    dels: list[str]
    root_before: str
    root_after: str
    blocks: list[str] | None = None


def test_commit_proof_known_answer() -> None:
    """The fixture "two deep split", written out: the new key splits two layers of nodes."""
    prove(
        Proof(
            keys=["A0/374913", "B1/986427", "C0/451630", "E0/670489", "F1/085263", "G0/765327"],
            adds=["D2/269196"],
            dels=[],
            root_before="bafyreicraprx2xwnico4tuqir3ozsxpz46qkcpox3obf5bagicqwurghpy",
            root_after="bafyreihvay6pazw3dfa47u5d2tn3rd6pa57sr37bo5bqyvjuqc73ib65my",
        )
    )


def test_commit_proof_fixtures() -> None:
    """Both ways: forward by building, back by inversion with no more blocks than the fixture lists."""
    path = shared_dir() / "vectors" / "atproto" / "firehose" / "commit-proof-fixtures.json"
    cases = json.loads(path.read_bytes())
    assert len(cases) == 6
    for case in cases:
        assert case["leafValue"] == cid.to_text(PROOF_LEAF)
        roots = case["rootBeforeCommit"], case["rootAfterCommit"]
        prove(Proof(case["keys"], case["adds"], case["dels"], *roots, case["blocksInProof"]))


def prove(proof: Proof) -> None:
    before = {key.encode(): PROOF_LEAF for key in proof.keys}
    after = before | {key.encode(): PROOF_LEAF for key in proof.adds}
    for key in proof.dels:
        del after[key.encode()]
    old, new = tree_of(before), tree_of(after)
    assert (cid.to_text(old.cid), cid.to_text(new.cid)) == (proof.root_before, proof.root_after)
    by_text = {cid.to_text(name): (name, block) for name, block in blocks_of(new).items()}
    blocks = dict(by_text[text] for text in proof.blocks or by_text) | {PROOF_LEAF: b""}
    assert check_slice(blocks, ops_between(before, after), new.cid, check_paths=False) == old.cid
    blocks = blocks_of(old) | {PROOF_LEAF: b""}
    assert check_slice(blocks, ops_between(after, before), old.cid, check_paths=False) == new.cid


def test_blocks_that_inversion_does_not_touch_are_not_required() -> None:
    """The fixture "add on edge with neighbor two layers down" lists three blocks; the root suffices (checklist 209)."""
    before = dict.fromkeys((b"A0/374913", b"B2/827649", b"C0/451630"), PROOF_LEAF)
    after = {**before, b"D2/269196": PROOF_LEAF}
    tree = tree_of(after)
    blocks = {tree.cid: tree.block, PROOF_LEAF: b""}
    undone = check_slice(blocks, ops_between(before, after), tree.cid, check_paths=False)
    assert cid.to_text(undone) == "bafyreigc6ay2qwfk7kuevvrczummpd64nknfo4yxpaooknfymzyb7u3ntq"


@pytest.mark.parametrize(("name", "commits"), [("bulk-k256.frames", 2007), ("scenario-k256.frames", 153)])
def test_recorded_commits_invert_to_prev_data(name: str, commits: int) -> None:
    """Every commit of a real PDS; one without `prevData` is the first of its account."""
    seen = 0
    for message in read_frames(shared_dir() / "corpus" / name):
        frame = parse_frame(message)
        event = parse_event(frame, allow_localhost=True) if isinstance(frame, MessageFrame) else None
        if not isinstance(event, CommitEvent):
            continue
        seen += 1
        blocks = car.parse_car(event.blocks).blocks
        data = parse_commit(blocks[event.commit]).data
        assert check_slice(blocks, event.ops, data) == (event.prev_data or EMPTY_TREE_CID)
    assert seen == commits


def test_the_empty_tree_is_known_by_its_bytes() -> None:
    assert blocks_of(tree_of({})) == {EMPTY_TREE_CID: EMPTY_TREE_BLOCK}
