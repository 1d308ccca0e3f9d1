"""A Merkle Search Tree by its definition, to check the fast one against (protocol.md section 8).

A tree is built anew from all its keys, recursively, in no hurry. It shares no code with `relay.protocol`, its CBOR and
hashing included. Keys are bytes, values and CIDs 36 raw bytes.
"""

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

import cbor2


class NaiveTree(NamedTuple):
    """The root's CID, and the block of every node by its CID."""

    root: bytes
    blocks: dict[bytes, bytes]


def cid_of(block: bytes) -> bytes:
    return bytes.fromhex("01711220") + hashlib.sha256(block).digest()


@cache
def layer_of(key: bytes) -> int:
    bits = "".join(f"{byte:08b}" for byte in hashlib.sha256(key).digest())
    return (len(bits) - len(bits.lstrip("0"))) // 2


def build(records: Mapping[bytes, bytes]) -> NaiveTree:
    """The tree of a key set."""
    blocks: dict[bytes, bytes] = {}
    top = max(map(layer_of, records), default=0)
    return NaiveTree(_node(sorted(records), top, records, blocks), blocks)


def _node(keys: list[bytes], layer: int, records: Mapping[bytes, bytes], blocks: dict[bytes, bytes]) -> bytes:
    """The node of one layer over sorted keys: those of the layer stand in it, the runs between them go one lower."""
    runs: list[list[bytes]] = [[]]
    own: list[bytes] = []
    for key in keys:
        if layer_of(key) == layer:
            own.append(key)
            runs.append([])
        else:
            runs[-1].append(key)
    links = [_link(_node(run, layer - 1, records, blocks)) if run else None for run in runs]
    entries = []
    for index, key in enumerate(own):
        shared = common(own[index - 1], key) if index else 0
        entries.append({"k": key[shared:], "p": shared, "t": links[index + 1], "v": _link(records[key])})
    block = cbor2.dumps({"e": entries, "l": links[0]})
    blocks[cid_of(block)] = block
    return cid_of(block)


def common(left: bytes, right: bytes) -> int:
    """How many first bytes two keys share."""
    count = 0
    while count < min(len(left), len(right)) and left[count] == right[count]:
        count += 1
    return count


def _link(cid: bytes) -> cbor2.CBORTag:
    return cbor2.CBORTag(42, b"\0" + cid)


def slice_of(tree: NaiveTree, before: NaiveTree, touched: Iterable[bytes]) -> dict[bytes, bytes]:
    """What a host ships (protocol.md section 5): new nodes, and those on the way to the changed keys and neighbours."""
    found = {cid: block for cid, block in tree.blocks.items() if cid not in before.blocks}
    keys = sorted(_keys(tree, tree.root))
    for key in touched:
        below = [other for other in keys if other < key][-1:]
        above = [other for other in keys if other > key][:1]
        for wanted in (*below, key, *above):
            found.update((cid, tree.blocks[cid]) for cid in _way(tree, wanted))
    return found


def _entries(tree: NaiveTree, cid: bytes) -> tuple[list[bytes], list[bytes | None]]:
    node = cbor2.loads(tree.blocks[cid])
    keys: list[bytes] = []
    for entry in node["e"]:
        keys.append((keys[-1] if keys else b"")[: entry["p"]] + entry["k"])
    links = [node["l"], *(entry["t"] for entry in node["e"])]
    return keys, [link.value[1:] if link else None for link in links]


def _keys(tree: NaiveTree, cid: bytes) -> list[bytes]:
    keys, links = _entries(tree, cid)
    return keys + [key for link in links if link for key in _keys(tree, link)]


def _way(tree: NaiveTree, key: bytes) -> list[bytes]:
    """The nodes that a search for a key passes, from the root to the key or to nowhere."""
    way: list[bytes] = []
    cid: bytes | None = tree.root
    while cid is not None:
        way.append(cid)
        keys, links = _entries(tree, cid)
        cid = None if key in keys else links[sum(other < key for other in keys)]
    return way
