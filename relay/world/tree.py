"""A Merkle Search Tree from its definition, persistent, for producing commits (protocol.md section 8).

`build` is the plain recursive definition from the key set. `put` and `remove` give a new root that shares every
untouched node with the old one, so that a commit costs its path and many repos can start from one large tree; the tests
hold them against `build`. `seal` hashes the nodes made since the last seal: those are the new nodes a slice must carry.
It imports nothing of `relay.protocol`, whose trees the tests hold against it.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from relay.world.dagcbor import Link, cid_of, head, link


class Node:
    """One immutable node. `children[i]` holds the keys between `keys[i - 1]` and `keys[i]`.

    `block`, `cid` and `count` (records in the subtree) are filled in once, by `seal`.
    """

    __slots__ = ("block", "children", "cid", "count", "keys", "layer", "values")

    def __init__(
        self,
        layer: int,
        keys: tuple[bytes, ...],
        values: tuple[bytes, ...],
        children: tuple["Node | None", ...],
    ) -> None:
        assert len(keys) == len(values) == len(children) - 1
        self.layer: Final = layer
        self.keys: Final = keys
        self.values: Final = values
        self.children: Final = children
        self.block = b""
        self.cid = Link()
        self.count = 0


def key_layer(key: bytes) -> int:
    """Half the leading zero bits of the key's SHA-256, rounded down (checklist 106)."""
    digest = int.from_bytes(hashlib.sha256(key).digest(), "big")
    return (256 - digest.bit_length()) // 2


def empty_tree() -> Node:
    """The tree of no records: one node without entries."""
    return Node(0, (), (), (None,))


def build(records: Iterable[tuple[bytes, bytes]]) -> Node:
    """The tree of `(key, record CID)` pairs, in any order, by the definition alone; not sealed."""
    entries = [(key, value, key_layer(key)) for key, value in sorted(records)]
    if not entries:
        return empty_tree()
    root = _subtree(entries, max(layer for _, _, layer in entries))
    assert root is not None
    return root


def _subtree(entries: Sequence[tuple[bytes, bytes, int]], layer: int) -> Node | None:
    if not entries:
        return None
    here = [index for index, entry in enumerate(entries) if entry[2] == layer]
    gaps = pairwise([-1, *here, len(entries)])
    return Node(
        layer,
        tuple(entries[index][0] for index in here),
        tuple(entries[index][1] for index in here),
        tuple(_subtree(entries[before + 1 : after], layer - 1) for before, after in gaps),
    )


def put(root: Node, key: bytes, value: bytes) -> Node:
    """The tree with `key` set to `value`, replacing what was there."""
    layer = key_layer(key)
    if _is_bare(root):
        return Node(layer, (key,), (value,), (None, None))
    while root.layer < layer:
        root = Node(root.layer + 1, (), (), (root,))
    return _put(root, key, value, layer)


def _put(node: Node, key: bytes, value: bytes, layer: int) -> Node:
    at = bisect_left(node.keys, key)
    if node.layer > layer:
        child = node.children[at] or Node(node.layer - 1, (), (), (None,))
        return _with_child(node, at, _put(child, key, value, layer))
    if node.keys[at : at + 1] == (key,):
        return Node(layer, node.keys, (*node.values[:at], value, *node.values[at + 1 :]), node.children)
    return Node(
        layer,
        (*node.keys[:at], key, *node.keys[at:]),
        (*node.values[:at], value, *node.values[at:]),
        (*node.children[:at], *_split(node.children[at], key), *node.children[at + 1 :]),
    )


def _split(node: Node | None, key: bytes) -> tuple[Node | None, Node | None]:
    """What of a subtree lies before and after `key`, which is not in it."""
    if node is None:
        return None, None
    at = bisect_left(node.keys, key)
    left, right = _split(node.children[at], key)
    return (
        _unless_bare(Node(node.layer, node.keys[:at], node.values[:at], (*node.children[:at], left))),
        _unless_bare(Node(node.layer, node.keys[at:], node.values[at:], (right, *node.children[at + 1 :]))),
    )


def remove(root: Node, key: bytes) -> Node:
    """The tree without `key`. Raises KeyError when it is not there."""
    rest = _remove(root, key)
    while rest is not None and not rest.keys:
        rest = rest.children[0]
    return rest or empty_tree()


def _remove(node: Node | None, key: bytes) -> Node | None:
    if node is None:
        raise KeyError(key)
    at = bisect_left(node.keys, key)
    if node.keys[at : at + 1] != (key,):
        return _unless_bare(_with_child(node, at, _remove(node.children[at], key)))
    joined = _join(node.children[at], node.children[at + 1])
    return _unless_bare(
        Node(
            node.layer,
            node.keys[:at] + node.keys[at + 1 :],
            node.values[:at] + node.values[at + 1 :],
            (*node.children[:at], joined, *node.children[at + 2 :]),
        )
    )


def _join(left: Node | None, right: Node | None) -> Node | None:
    """Two neighbouring subtrees of one layer as one."""
    if left is None or right is None:
        return left or right
    middle = _join(left.children[-1], right.children[0])
    children = (*left.children[:-1], middle, *right.children[1:])
    return Node(left.layer, left.keys + right.keys, left.values + right.values, children)


def _with_child(node: Node, at: int, child: Node | None) -> Node:
    return Node(node.layer, node.keys, node.values, (*node.children[:at], child, *node.children[at + 1 :]))


def _is_bare(node: Node) -> bool:
    return not node.keys and node.children[0] is None


def _unless_bare(node: Node) -> Node | None:
    return None if _is_bare(node) else node


def seal(root: Node) -> list[Node]:
    """Hashes every node that has no CID yet and returns those nodes, parents first."""
    if root.cid:
        return []
    below = [node for child in root.children if child is not None for node in seal(child)]
    root.count = len(root.keys) + sum(child.count for child in root.children if child is not None)
    root.block = encode_node(root)
    root.cid = cid_of(root.block)
    return [root, *below]


def encode_node(node: Node) -> bytes:
    """The node as its canonical block; its children are sealed."""
    parts = [b"\xa2\x61e", head(4, len(node.keys))]
    previous = b""
    for key, value, child in zip(node.keys, node.values, node.children[1:], strict=True):
        shared = shared_prefix(previous, key)
        parts += (b"\xa4\x61k", head(2, len(key) - shared), key[shared:], b"\x61p", head(0, shared))
        parts += (b"\x61t", _child_link(child), b"\x61v", link(value))
        previous = key
    parts += (b"\x61l", _child_link(node.children[0]))
    return b"".join(parts)


def shared_prefix(left: bytes, right: bytes) -> int:
    """How many bytes two keys have in common at their start (checklist 107)."""
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))


def _child_link(child: Node | None) -> bytes:
    return b"\xf6" if child is None else link(child.cid)
