"""Reading a tree: where a key is, which nodes its inversion touches, the n-th record.

Changes nothing; the shape itself is `relay.world.tree`.
"""

from bisect import bisect_left
from collections.abc import Iterator

from relay.world.tree import Node


def search_path(root: Node, key: bytes) -> Iterator[Node]:
    """The nodes from the root to the one that holds `key`, or to where it would be."""
    node: Node | None = root
    while node is not None:
        yield node
        at = bisect_left(node.keys, key)
        if node.keys[at : at + 1] == (key,):
            return
        node = node.children[at]


def inversion_path(root: Node, key: bytes) -> Iterator[Node]:
    """The search path of `key` and those of its neighbours in key order (protocol.md section 5, rule 3).

    The neighbours of a key that is absent are on its own path; those of a key that is present may end the spines of
    the two subtrees beside it.
    """
    last = root
    for last in search_path(root, key):
        yield last
    at = bisect_left(last.keys, key)
    if last.keys[at : at + 1] != (key,):
        return
    before, after = last.children[at], last.children[at + 1]
    while before is not None:
        yield before
        before = before.children[-1]
    while after is not None:
        yield after
        after = after.children[0]


def get(root: Node, key: bytes) -> bytes | None:
    """The record CID under `key`, or None."""
    *_, last = search_path(root, key)
    at = bisect_left(last.keys, key)
    return last.values[at] if last.keys[at : at + 1] == (key,) else None


def nth(root: Node, index: int) -> bytes:
    """The key at position `index` in key order, of a sealed tree; `root.count` is the number of keys."""
    for key, child in zip((*root.keys, None), root.children, strict=True):
        if child is not None:
            if index < child.count:
                return nth(child, index)
            index -= child.count
        if key is not None and index == 0:
            return key
        index -= 1
    raise IndexError(index)


def items(root: Node) -> Iterator[tuple[bytes, bytes]]:
    """All `(key, record CID)` pairs in key order."""
    for position, child in enumerate(root.children):
        if child is not None:
            yield from items(child)
        if position < len(root.keys):
            yield root.keys[position], root.values[position]
