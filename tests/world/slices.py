"""Reading what the world sends, by roads of its own: cbor2, a loop over the CAR, and a partial tree with stubs.

The inversion here is the tree's own `put` and `remove` on the nodes a slice carries; a node it does not carry raises
when it is looked into. It shows that a slice is sufficient and true, not how a relay should check it.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cbor2

from relay.world.dagcbor import Link, cid_of
from relay.world.tree import Node, empty_tree, key_layer, put, remove, seal


class StubTouchedError(Exception):
    """The slice lacks a node that the inversion needs."""


class Stub(Node):
    """A node known by its CID only."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name in {"keys", "values", "children", "block"}:
            raise StubTouchedError
        return super().__getattribute__(name)


class Frame(NamedTuple):
    """A decoded frame; CIDs are `Link`."""

    header: Mapping[str, Any]
    payload: Mapping[str, Any]


def read_frame(message: bytes) -> Frame:
    """Both items of a message; asserts that nothing follows them."""
    file = io.BytesIO(message)
    frame = Frame(decode(file), decode(file))
    assert file.read() == b""
    return frame


def decode(file: io.BytesIO) -> Any:
    """The next CBOR item, with tag 42 as `Link`."""

    def to_link(tag: Any, _: object) -> Link:
        assert tag.tag == 42
        assert tag.value[:1] == b"\0"
        return Link(tag.value[1:])

    return cbor2.CBORDecoder(file, tag_hook=to_link).decode()


def read_block(block: bytes) -> Any:
    """The one item of a block."""
    file = io.BytesIO(block)
    value = decode(file)
    assert file.read() == b""
    return value


def read_car(data: bytes) -> tuple[Link, list[tuple[Link, bytes]]]:
    """The root of a CAR and its blocks in order; asserts every hash."""
    file = io.BytesIO(data)
    header = decode(io.BytesIO(file.read(read_varint(file))))
    assert header["version"] == 1
    (root,) = header["roots"]
    blocks = []
    while file.tell() < len(data):
        section = file.read(read_varint(file))
        blocks.append((Link(section[:36]), section[36:]))
    assert all(cid_of(block) == cid for cid, block in blocks)
    return root, blocks


def read_varint(file: io.BytesIO) -> int:
    number = shift = 0
    while True:
        (byte,) = file.read(1)
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number
        shift += 7


def partial_tree(root: bytes, blocks: Mapping[Link, bytes], layer: int | None = None) -> Node:
    """The tree under `root` as far as `blocks` go, with stubs beyond."""
    block = blocks.get(Link(root))
    if block is None:
        if layer is None:
            raise StubTouchedError
        stub = Stub(layer, (), (), (None,))
        stub.cid = Link(root)
        return stub
    fields = read_block(block)
    keys: list[bytes] = []
    for entry in fields["e"]:
        keys.append((keys[-1] if keys else b"")[: entry["p"]] + entry["k"])
    if not keys and fields["l"] is None:
        return empty_tree()
    layer = key_layer(keys[0]) if layer is None else layer
    assert all(key_layer(key) == layer for key in keys)
    links = [fields["l"], *(entry["t"] for entry in fields["e"])]
    children = tuple(link and partial_tree(link, blocks, layer - 1) for link in links)
    node = Node(layer, tuple(keys), tuple(entry["v"] for entry in fields["e"]), children)
    seal(node)
    assert node.cid == root
    return node


def invert(root: bytes, blocks: Mapping[Link, bytes], ops: Sequence[Mapping[str, Any]]) -> Link:
    """The root of the tree before `ops`. Raises StubTouchedError when the slice does not say enough."""
    tree = partial_tree(root, blocks)
    for op in ops:
        key = op["path"].encode()
        tree = remove(tree, key) if op.get("prev") is None else put(tree, key, op["prev"])
    seal(tree)
    return tree.cid
