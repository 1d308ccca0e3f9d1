"""One node of the Merkle Search Tree: its bytes, its layer, and every rule that concerns it (protocol.md section 8).

Owns reading and writing a node, `key_layer`, and `settle`: whether a node may stand where its parent links it. Walking
and changing a tree is `relay.protocol.inversion`. Keys are the bytes of repo paths; CIDs are 36 raw bytes.

One canonical rule needs no code: the links are fields of the entries, so that two subtrees cannot stand side by side
without a key between them.
"""

from hashlib import sha256
from typing import Any, TypeAlias

from relay.protocol import cbor, limits, syntax
from relay.protocol.cid import CID_BYTES, DAG_CBOR_PREFIX
from relay.protocol.errors import CborError, NodeInvalid

EMPTY_TREE_BLOCK = b"\xa2ae\x80al\xf6"
EMPTY_TREE_CID = DAG_CBOR_PREFIX + sha256(EMPTY_TREE_BLOCK).digest()

_LINK_START = b"\xd8\x2a\x58\x25\x00"  # tag 42 and the head of 37 bytes: what stands before the 36 bytes of a CID


def _layer_range(layer: int) -> tuple[bytes, bytes]:
    """The least digest of a layer, and the least one beyond it."""
    least = (1 << (254 - 2 * layer)).to_bytes(32, "big")
    return least, (b"\xff" * 32 + b"\0" if layer == 0 else (1 << (256 - 2 * layer)).to_bytes(32, "big"))


# A digest is of layer n exactly if it lies in this half-open range: comparing bytes is cheaper than counting zero bits.
_LAYER_RANGES = tuple(_layer_range(layer) for layer in range(limits.MST_LAYER_MAX + 1))


class Node:
    """A node in memory, in columns, because that is what searching and splicing want. For n keys:

    `keys` and `values` (CIDs) have n items, `links` n + 1 (`links[i]` is the subtree before `keys[i]`, the last one the
    subtree after all keys; None where there is none), `shared` n (bytes that a key shares with the one before it).

    The rest is its place in a tree, where it has one: `layer`, and `low` and `high`, between which its keys lie (None:
    open above). `cid` and `block` are as read. Whoever changes a column owns the node and sets `block` to None.
    """

    __slots__ = ("block", "cid", "high", "keys", "layer", "links", "low", "shared", "values")

    def __init__(
        self,
        keys: list[bytes],
        values: list[bytes],
        links: "list[Link]",
        shared: list[int],
        *,
        layer: int = 0,
        low: bytes = b"",
        high: bytes | None = None,
    ) -> None:
        self.keys = keys
        self.values = values
        self.links = links
        self.shared = shared
        self.layer = layer
        self.low = low
        self.high = high
        self.cid = b""
        self.block: bytes | None = None


Link: TypeAlias = Node | bytes | None  # a subtree that was read or made, the CID of one that was not, or none


def key_layer(key: bytes) -> int:
    """Pairs of leading zero bits in the SHA-256 of a key (checklist 106)."""
    return (256 - int.from_bytes(sha256(key).digest(), "big").bit_length()) // 2


def shared_length(left: bytes, right: bytes) -> int:
    """How many first bytes two keys have in common (checklist 107)."""
    length = min(len(left), len(right))
    difference = int.from_bytes(left[:length], "big") ^ int.from_bytes(right[:length], "big")
    return length - (difference.bit_length() + 7) // 8


def decode_node(block: bytes, *, check_paths: bool = True) -> Node:
    """Read a node and check every rule that it can break by itself (checklist 107-112, 117, 118, 120).

    A node without keys passes if it has a link, or is the empty tree. `check_paths=False` admits keys that are no repo
    paths, as public test vectors have them. Raises `NodeInvalid`.
    """
    try:
        fields = cbor.decode_fast(block)
        left, entries = fields["l"], fields["e"]
        if len(fields) != 2 or type(entries) is not list or len(entries) > limits.MST_ENTRIES_MAX:
            raise NodeInvalid("a node with fields other than e and l, or more entries than any natural one")
        node = _read_entries(left, entries, check_paths=check_paths)
    except (CborError, KeyError, TypeError, IndexError) as error:
        raise NodeInvalid("not a node in canonical form") from error
    if not node.keys and left is None and block != EMPTY_TREE_BLOCK:
        raise NodeInvalid("a node with neither keys nor a link")
    node.block = block
    return node


def _read_entries(left: Any, entries: list[Any], *, check_paths: bool) -> Node:
    """The columns. What has a wrong type raises `TypeError` at the latest where bytes are put together or looked up.

    Paths are matched in full only where they must be. One that shares with a valid path the collection and two bytes of
    the record key, and is not too long, is valid if it goes on with characters of record keys, which is asked of all
    such suffixes at once: half a microsecond less for a node of five keys.
    """
    keys: list[bytes] = []
    values: list[bytes] = []
    links: list[Link] = [left]
    shared: list[int] = []
    suffixes: list[bytes] = []
    key = b""
    size = 0
    same_collection = 1  # of `length`, from here on; the first key shares nothing
    if left is not None and (left[:4] != DAG_CBOR_PREFIX or len(left) != CID_BYTES):
        raise NodeInvalid("a link to a subtree that is not a dag-cbor CID")
    for entry in entries:
        length, suffix, link, value = entry["p"], entry["k"], entry["t"], entry["v"]
        if len(entry) != 4 or type(length) is not int or not 0 <= length <= size or not suffix:
            raise NodeInvalid("an entry with an impossible prefix length, an empty key, or fields other than k p t v")
        # At the first byte that differs the new key must be greater. That one comparison proves the order of keys and
        # that the prefix is maximal; a key that extends the one before it is greater anyway.
        if length < size and suffix[0] <= key[length]:
            raise NodeInvalid("keys out of order, or a prefix that is not maximal")
        if link is not None and (link[:4] != DAG_CBOR_PREFIX or len(link) != CID_BYTES):
            raise NodeInvalid("a link to a subtree that is not a dag-cbor CID")
        if (value[:4] != DAG_CBOR_PREFIX or len(value) != CID_BYTES) and not _is_link(value):
            raise NodeInvalid("a value that is not a CID")
        key = key[:length] + suffix
        size = len(key)
        if length >= same_collection and size <= limits.RECORD_KEY_CHARS_MAX:
            suffixes.append(suffix)
        elif check_paths and not syntax.is_repo_path_bytes(key):
            raise NodeInvalid("a key that is not a repo path")
        else:
            same_collection = key.find(b"/") + 3
        keys.append(key)
        values.append(value)
        links.append(link)
        shared.append(length)
    if check_paths and b"".join(suffixes).strip(syntax.RECORD_KEY_CHARS):
        raise NodeInvalid("a key that is not a repo path")
    return Node(keys, values, links, shared)


def _is_link(value: Any) -> bool:
    """Whether an unusual `v` stood in tag 42: any CID will do for records that no op names (protocol.md 24 #16).

    The block is known to be what the encoder makes of it, and the encoder makes a link of just what parses as a CID.
    """
    return type(value) is bytes and cbor.encode_fast(value).startswith(_LINK_START[:2])


def settle(node: Node, layer: int, low: bytes, high: bytes | None) -> None:
    """Give a node its place: all keys of exactly `layer`, and strictly between `low` and `high` (None: open above).

    Raises `NodeInvalid` (checklist 112, 113, 115, 120).
    """
    if not 0 <= layer <= limits.MST_LAYER_MAX:
        raise NodeInvalid("a node below layer 0" if layer < 0 else "a tree deeper than any natural one")
    keys = node.keys
    least, beyond = _LAYER_RANGES[layer]
    for key in keys:
        if not least <= sha256(key).digest() < beyond:
            raise NodeInvalid("a key of another layer than its node")
    if not keys:
        if node.links[0] is None:
            raise NodeInvalid("an empty node inside a tree")
    elif keys[0] <= low or (high is not None and keys[-1] >= high):
        raise NodeInvalid("a key outside the range that the parent gives")
    node.layer = layer
    node.low = low
    node.high = high


def encode_node(node: Node) -> bytes:
    """The canonical bytes of a node whose links are all CIDs or None; `decode_node` gives it back."""
    links = node.links
    entries = [
        {"k": key[length:], "p": length, "t": link, "v": value}
        for key, value, link, length in zip(node.keys, node.values, links[1:], node.shared, strict=True)
    ]
    return cbor.encode_fast({"e": entries, "l": links[0]})


def replace_link(block: bytes, index: int, old: bytes, new: bytes) -> bytes:
    """The block of a node with `links[index]` changed from `old` to `new`, without decoding it.

    Raises `NodeInvalid` when the node links `old` twice, which no tree does: subtrees hold different keys.
    """
    # With its name the link cannot be taken for a value, nor for something inside one or inside a path.
    before = (b"at" if index else b"al") + _LINK_START
    if block.count(before + old) != 1:
        raise NodeInvalid("a node that links one subtree twice")
    return block.replace(before + old, before + new)
