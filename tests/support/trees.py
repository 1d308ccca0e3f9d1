"""Merkle Search Trees to hold the fast ones of `relay.protocol` against, as blocks.

The trees are those of `relay.world.tree`, by the definition alone; they share no code with `relay.protocol`, its CBOR
and hashing included.
"""

from collections.abc import Iterable, Iterator, Mapping

from relay.world.tree import Node, build, seal
from relay.world.treewalk import inversion_path


def tree_of(records: Mapping[bytes, bytes]) -> Node:
    """The tree of record CIDs by their keys, with its blocks and CIDs."""
    tree = build(records.items())
    seal(tree)
    return tree


def nodes_of(tree: Node) -> Iterator[Node]:
    """Every node, parents first."""
    yield tree
    for child in tree.children:
        if child is not None:
            yield from nodes_of(child)


def blocks_of(tree: Node) -> dict[bytes, bytes]:
    """The block of every node by its CID."""
    return {node.cid: node.block for node in nodes_of(tree)}


def slice_of(tree: Node, before: Node, touched: Iterable[bytes]) -> dict[bytes, bytes]:
    """What a host ships (protocol.md section 5): new nodes, and those on the way to the changed keys and neighbours."""
    known = blocks_of(before)
    new = {cid: block for cid, block in blocks_of(tree).items() if cid not in known}
    return new | {node.cid: node.block for key in touched for node in inversion_path(tree, key)}
