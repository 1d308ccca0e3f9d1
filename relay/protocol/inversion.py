"""Operation inversion: from a commit's tree and its ops back to the tree before (protocol.md section 14, steps 13-15).

Owns the partial tree of a CAR slice and what undoing ops does to it. A pure function of its arguments and the border at
which a compiled implementation may take over (design section 4): `check_slice`. What an op must look like (step 12) and
whether the answer is `prevData` is judged in `relay.verify`; a node by itself is `relay.protocol.mst`.

A subtree that is not in the slice is a stub, known by its CID only. Stubs are no fault until their contents are needed
(checklist 121, 208, 209). Nodes are read when first needed, checked against the node that links them, and kept as
objects until the end, when the changed ones are written and hashed from the bottom up. Undoing an op is its forward
check too: an op that does not agree with the tree cannot be undone (step 14).
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from relay.protocol import mst
from relay.protocol.cid import cid_of
from relay.protocol.errors import NodeInvalid, NodeMissing, OpNotInTree, RecordMissing
from relay.protocol.events import RepoOp
from relay.protocol.mst import EMPTY_TREE_CID, Link, Node


def check_slice(
    blocks: Mapping[bytes, bytes],
    ops: Sequence[RepoOp],
    data: bytes,
    *,
    expected: bytes | None = None,
    check_paths: bool = True,
) -> bytes:
    """The root before `ops`, given the root after them and the blocks of the slice. 36-byte CIDs.

    `blocks` must have been checked against their CIDs. Without ops the answer is `data`, and the slice may lack it. Ops
    are undone deletes first, then by path; an order is fixed only to be deterministic. Where the answer would be a
    subtree that the slice lacks, and that is not what is `expected`, it is a missing node instead. `check_paths=False`
    admits keys that are no repo paths.

    Raises `NodeInvalid`, `NodeMissing`, `RecordMissing` or `OpNotInTree`, all `MstError`.
    """
    if not ops and data not in blocks:
        return data
    tree = _PartialTree(blocks, data, check_paths=check_paths)
    for op in sorted(ops, key=_undo_order) if len(ops) > 1 else ops:
        tree.undo(op)
    return tree.seal(expected)


def check_forward(
    blocks: Mapping[bytes, bytes], ops: Sequence[RepoOp], data: bytes, *, check_paths: bool = True
) -> None:
    """Step 14 alone, for ops that cannot be undone because an old host left out `prev` (design section 4, "Modes").

    A deleted path counts as absent also where the slice ends before that is certain. Raises as `check_slice` does.
    """
    if not ops and data not in blocks:
        return
    tree = _PartialTree(blocks, data, check_paths=check_paths)
    for op in ops:
        tree.check(op)


def _undo_order(op: RepoOp) -> tuple[bool, str]:
    return op.action != "delete", op.path


class _Place(NamedTuple):
    """Where a key is: `node.keys[at]`. `above` are the nodes on the way there, each with the link that was followed."""

    node: Node
    at: int
    above: list[tuple[Node, int]]


class _PartialTree:
    """The tree of a slice while ops are undone."""

    def __init__(self, blocks: Mapping[bytes, bytes], data: bytes, *, check_paths: bool) -> None:
        self._blocks = blocks
        self._check_paths = check_paths
        is_empty = data == EMPTY_TREE_CID and data in blocks
        self._root: Link = None if is_empty else self._read(data, None, b"", None)

    def undo(self, op: RepoOp) -> None:
        if op.action == "delete":
            if op.prev is None:
                raise OpNotInTree("a delete without prev cannot be undone")
            self._insert(op.path.encode(), op.prev)
            return
        place = self._find_record(op)
        if op.action == "create":
            self._remove(place)
        elif op.action == "update" and op.prev is not None:
            place.node.values[place.at] = op.prev
            place.node.block = None
        else:
            raise OpNotInTree("an update without prev, or an unknown action, cannot be undone")

    def check(self, op: RepoOp) -> None:
        if op.action != "delete":
            self._find_record(op)
            return
        try:
            self._find(op.path.encode())
        except (NodeMissing, OpNotInTree):
            return
        raise OpNotInTree("a deleted path is still in the tree")

    def _find_record(self, op: RepoOp) -> _Place:
        place = self._find(op.path.encode())
        if place.node.values[place.at] != op.cid:
            raise OpNotInTree("the tree has another record at the path of an op")
        if op.cid not in self._blocks:
            raise RecordMissing("the slice lacks the record of an op")
        return place

    def seal(self, expected: bytes | None) -> bytes:
        """The CID of the tree as it is now. A top without keys is pruned; if a stub comes up, its CID is the answer.

        An answer other than the one that is `expected` may only mean that there was more to prune below the stub.
        """
        root = self._root
        while type(root) is Node and not root.keys:
            root = self._touch(root, 0)
        if type(root) is bytes and expected not in (None, root):
            raise NodeMissing("the slice lacks the node that comes up as the root")
        return _seal(root) or EMPTY_TREE_CID

    def _read(self, cid: bytes, layer: int | None, low: bytes, high: bytes | None) -> Node:
        """Read a node of the slice and check its place; the root, whose `layer` is None, says its layer itself."""
        block = self._blocks.get(cid)
        if block is None:
            raise NodeMissing("the slice lacks a node that the ops touch")
        node = mst.decode_node(block, check_paths=self._check_paths)
        if layer is None:
            if not node.keys:
                raise NodeInvalid("a root without keys")
            layer = mst.key_layer(node.keys[0])
        mst.settle(node, layer, low, high)
        node.cid = cid
        return node

    def _child(self, parent: Node, at: int) -> Node | None:
        """The subtree at a link, read on first use and checked against its parent as that was in the commit."""
        link = parent.links[at]
        if type(link) is bytes:
            keys = parent.keys
            low = keys[at - 1] if at else parent.low
            high = keys[at] if at < len(keys) else parent.high
            link = parent.links[at] = self._read(link, parent.layer - 1, low, high)
        return link  # type: ignore[return-value]  # bytes were replaced above

    def _touch(self, parent: Node, at: int) -> Link:
        """A link, followed if the slice has what it leads to. A stub stays one."""
        link = parent.links[at]
        return self._child(parent, at) if link in self._blocks else link

    def _find(self, key: bytes) -> _Place:
        above: list[tuple[Node, int]] = []
        node = self._root
        while type(node) is Node:
            keys = node.keys
            at = bisect_left(keys, key)
            if at < len(keys) and keys[at] == key:
                return _Place(node, at, above)
            above.append((node, at))
            node = self._child(node, at)
        raise OpNotInTree("the tree has nothing at the path of an op")

    def _remove(self, place: _Place) -> None:
        """Take a key out and join the subtrees on its two sides. A node left with nothing disappears, and so on up."""
        node, at, above = place
        node.links[at : at + 2] = [self._join(node, at, node, at + 1)]
        del node.keys[at], node.values[at]
        # What two keys share is the least of what is shared on the way from one to the other.
        gone = node.shared.pop(at)
        if at < len(node.shared):
            node.shared[at] = min(gone, node.shared[at])
        node.block = None
        while above and not node.keys and node.links[0] is None:
            node, at = above.pop()
            node.links[at] = None
            node.block = None

    def _join(self, left: Node, left_at: int, right: Node, right_at: int) -> Link:
        """The subtrees at two links as one; in the commit's tree a key that is now going stood between them.

        A subtree that needs no joining is read all the same if the slice has it: once that key is gone, its bounds are
        not to be had any more.
        """
        if left.links[left_at] is None:
            return self._touch(right, right_at)
        if right.links[right_at] is None:
            return self._touch(left, left_at)
        first, second = self._child(left, left_at), self._child(right, right_at)
        assert first is not None
        assert second is not None
        inner = self._join(first, len(first.keys), second, 0)
        if first.keys and second.keys:
            second.shared[0] = mst.shared_length(first.keys[-1], second.keys[0])
        return Node(
            first.keys + second.keys,
            first.values + second.values,
            [*first.links[:-1], inner, *second.links[1:]],
            first.shared + second.shared,
            layer=first.layer,
            low=first.low,
            high=second.high,
        )

    def _insert(self, key: bytes, value: bytes) -> None:
        layer = mst.key_layer(key)
        root = self._root
        if type(root) is not Node:
            self._root = _single(key, value, None, None, layer)
        elif layer > root.layer:
            left, right = self._split(root, key)
            self._root = _single(key, value, _wrap(left, layer), _wrap(right, layer), layer)
        else:
            self._insert_below(root, key, value, layer)

    def _insert_below(self, node: Node, key: bytes, value: bytes, layer: int) -> None:
        """Insert a key whose layer is not above that of `node`."""
        while node.layer > layer:
            at = bisect_left(node.keys, key)
            child = self._child(node, at)
            if child is None:
                node.links[at] = _wrap(_single(key, value, None, None, layer), node.layer)
                node.block = None
                return
            node = child
        keys, shared = node.keys, node.shared
        at = bisect_left(keys, key)
        if at < len(keys) and keys[at] == key:
            raise OpNotInTree("a deleted path is still in the tree")
        node.links[at : at + 1] = self._split(self._child(node, at), key)
        keys.insert(at, key)
        node.values.insert(at, value)
        shared.insert(at, mst.shared_length(keys[at - 1], key) if at else 0)
        if at + 1 < len(keys):
            shared[at + 1] = mst.shared_length(key, keys[at + 1])
        node.block = None

    def _split(self, node: Node | None, key: bytes) -> tuple[Node | None, Node | None]:
        """What lies before and after a key that is not in the subtree, being of a higher layer."""
        if node is None:
            return None, None
        at = bisect_left(node.keys, key)
        left, right = self._split(self._child(node, at), key)
        sides = []
        for part, links in (
            (slice(0, at), [*node.links[:at], left]),
            (slice(at, None), [right, *node.links[at + 1 :]]),
        ):
            keys, shared = node.keys[part], node.shared[part]
            if keys:
                shared[0] = 0
            side = Node(keys, node.values[part], links, shared, layer=node.layer, low=node.low, high=node.high)
            sides.append(side if keys or links[0] is not None else None)
        return sides[0], sides[1]


def _single(key: bytes, value: bytes, left: Node | None, right: Node | None, layer: int) -> Node:
    return Node([key], [value], [left, right], [0], layer=layer)


def _wrap(node: Node | None, below: int) -> Node | None:
    """The subtree one layer under `below`: a skipped layer has a node without keys (checklist 116)."""
    while node is not None and node.layer < below - 1:
        node = Node([], [], [node], [], layer=node.layer + 1)
    return node


def _seal(link: Link) -> bytes | None:
    """The CID of a subtree after all changes, None for none."""
    if type(link) is not Node:
        return link  # type: ignore[return-value]  # a CID or None
    block = link.block
    links = link.links
    for index, child in enumerate(links):
        if type(child) is Node:
            links[index] = sealed = _seal(child)
            if block is not None and sealed is not None and sealed != child.cid:
                block = mst.replace_link(block, index, child.cid, sealed)
    if block is None:
        block = mst.encode_node(link)
    elif block is link.block:
        return link.cid
    return cid_of(block)
