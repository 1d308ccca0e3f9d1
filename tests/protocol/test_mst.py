"""`relay.protocol.mst`: every rule that a node can break (checklist 106-120), against a tree built by definition."""

import json
from itertools import pairwise
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol import cid, mst
from relay.protocol.errors import NodeInvalid
from relay.protocol.syntax import is_repo_path_bytes
from relay.world.tree import key_layer, shared_prefix
from tests.support.shared import shared_dir
from tests.support.trees import blocks_of, tree_of

LEAF = bytes.fromhex("01711220" + "9d156bc3f3a520066252c708a9361fd3d089223842500e3713d404fdccb33cef")
CHILD = cid.cid_of(b"child")
POST = b"app.bsky.feed.post/"

# protocol.md section 8: keys after `com.example.record/3jqfcqzm`, and the root of their tree with LEAF at each
ELEVEN = "3fo2j 3fp2j 3fr2j 3fs2j 3ft2j 3fz2j 4fc2j 4fd2j 4ff2j 4fg2j 4fh2j"
KNOWN_ROOTS = [
    ("", "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"),
    ("3fo2j", "bafyreibj4lsc3aqnrvphp5xmrnfoorvru4wynt6lwidqbm2623a6tatzdu"),
    ("3fx2j", "bafyreih7wfei65pxzhauoibu3ls7jgmkju4bspy4t2ha2qdjnzqvoy33ai"),
    ("3fp2j 3fr2j 3fs2j 3ft2j 4fc2j", "bafyreicmahysq4n6wfuxo522m6dpiy7z7qzym3dzs756t5n7nfdgccwq7m"),
    ("3fn2j 3fo2j 3fp2j 3fs2j 3ft2j 3fu2j", "bafyreifnqrwbk6ffmyaz5qtujqrzf5qmxf7cbxvgzktl4e3gabuxbtatv4"),
    ("3fn2j 3fo2j 3fp2j 3ft2j 3fu2j", "bafyreie4kjuxbwkhzg2i5dljaswcroeih4dgiqq6pazcmunwt2byd725vi"),
    (ELEVEN, "bafyreiettyludka6fpgp33stwxfuwhkzlur6chs4d2v4nkmq2j3ogpdjem"),
    (ELEVEN + " 3fx2j", "bafyreid2x5eqs4w4qxvc5jiwda4cien3gw2q6cshofxwnvv7iucrmfohpm"),
    ("3ft2j 3fz2j", "bafyreidfcktqnfmykz2ps3dbul35pepleq7kvv526g47xahuz3rqtptmky"),
    ("3ft2j 3fz2j 3fx2j", "bafyreiavxaxdz7o7rbvr3zg2liox2yww46t7g6hkehx4i4h3lwudly7dhy"),
    ("3ft2j 3fz2j 3fx2j 4fd2j", "bafyreig4jv3vuajbsybhyvb7gggvpwh2zszwfyttjrj6qwvcsp24h6popu"),
]


def known_keys(names: str) -> list[bytes]:
    return [b"com.example.record/3jqfcqzm" + name.encode() for name in names.split()]


def link(cid_bytes: bytes) -> Any:
    return cbor2.CBORTag(42, b"\0" + cid_bytes)


def entry(key: bytes, prefix: int = 0, right: Any = None, value: Any = None) -> dict[str, Any]:
    return {"k": key, "p": prefix, "t": right, "v": value or link(LEAF)}


def block_over(keys: list[bytes]) -> bytes:
    """A node of sorted keys without links, compressed as it must be."""
    shared = [0, *(shared_prefix(a, b) for a, b in pairwise(keys))]
    return block_of([entry(key[length:], length) for key, length in zip(keys, shared, strict=True)])


def block_of(entries: Any, left: Any = None) -> bytes:
    return cbor2.dumps({"e": entries, "l": left}, canonical=True)


@pytest.mark.parametrize(
    ("key", "layer"),
    [
        ("2653ae71", 0),
        ("blue", 1),
        ("app.bsky.feed.post/454397e440ec", 4),
        ("app.bsky.feed.post/9adeb165882c", 8),
        ("", 0),
    ],
)
def test_layer_known_answers(key: str, layer: int) -> None:
    """Checklist 106."""
    assert mst.key_layer(key.encode()) == layer


def test_layer_vectors() -> None:
    """Checklist 106, by the public vectors."""
    folder = shared_dir() / "vectors" / "atproto" / "mst"
    cases = json.loads((folder / "key_heights.json").read_bytes())
    keys = (folder / "example_keys.txt").read_bytes().splitlines()
    assert (len(cases), len(keys)) == (9, 156)
    assert all(mst.key_layer(case["key"].encode()) == case["height"] for case in cases)
    assert all(mst.key_layer(key) == int(key[1:2]) for key in keys), "the digit in these keys is their layer"


@given(st.binary(max_size=30))
def test_layer_counts_pairs_of_zero_bits(key: bytes) -> None:
    assert mst.key_layer(key) == key_layer(key)


def test_shared_length_vectors() -> None:
    """Checklist 107, by the public vectors."""
    cases = json.loads((shared_dir() / "vectors" / "atproto" / "mst" / "common_prefix.json").read_bytes())
    assert len(cases) == 13
    for case in cases:
        assert mst.shared_length(case["left"].encode(), case["right"].encode()) == case["len"]


@given(st.binary(max_size=12), st.binary(max_size=6), st.binary(max_size=6))
def test_shared_length(start: bytes, left: bytes, right: bytes) -> None:
    """Checklist 107."""
    count = mst.shared_length(start + left, start + right)
    assert (start + left)[:count] == (start + right)[:count]
    assert (start + left)[count : count + 1] != (start + right)[count : count + 1] or start + left == start + right
    assert count >= len(start)


def test_empty_tree() -> None:
    assert bytes.fromhex("a2616580616cf6") == mst.EMPTY_TREE_BLOCK
    assert cid.to_text(mst.EMPTY_TREE_CID) == KNOWN_ROOTS[0][1]
    node = mst.decode_node(mst.EMPTY_TREE_BLOCK)
    assert (node.keys, node.values, node.links, node.shared) == ([], [], [None], [])


@pytest.mark.parametrize(("names", "root"), KNOWN_ROOTS)
def test_known_roots_and_round_trip(names: str, root: str) -> None:
    """The root of a key set (checklist 119), and that each of its nodes is read and written again byte for byte."""
    tree = tree_of(dict.fromkeys(known_keys(names), LEAF))
    assert cid.to_text(tree.cid) == root
    for block in blocks_of(tree).values():
        assert mst.encode_node(mst.decode_node(block)) == block


def test_all_example_keys() -> None:
    """A tree of five layers whose keys are no repo paths (protocol.md section 8)."""
    keys = (shared_dir() / "vectors" / "atproto" / "mst" / "example_keys.txt").read_bytes().splitlines()
    tree = tree_of(dict.fromkeys(keys, LEAF))
    assert cid.to_text(tree.cid) == "bafyreicp3ghg3qdepi7bx3letryyerzfoky5htzymzljibxhd3m3z3xfb4"
    for block in blocks_of(tree).values():
        assert mst.encode_node(mst.decode_node(block, check_paths=False)) == block
        with pytest.raises(NodeInvalid, match="path"):
            mst.decode_node(block)


def test_columns_of_a_node() -> None:
    other = cid.cid_of(b"other record")
    block = block_of([entry(POST + b"3aaa", right=link(CHILD)), entry(b"b", 22, value=link(other))], link(LEAF))
    node = mst.decode_node(block)
    assert node.keys == [POST + b"3aaa", POST + b"3aab"]
    assert node.values == [LEAF, other]
    assert node.links == [LEAF, CHILD, None]
    assert node.shared == [0, 22]
    assert node.block == block


@pytest.mark.parametrize(
    ("entries", "left"),
    [
        ([entry(b"x", 1)], None),  # the first entry shares nothing (checklist 108)
        ([entry(POST + b"3a"), entry(b"b", 200)], None),  # beyond the previous key (109)
        ([entry(POST + b"3a"), entry(b"b", -1)], None),
        ([entry(POST + b"3a"), entry(b"3b", len(POST))], None),  # not maximal, `3` is shared too (110)
        ([entry(POST + b"3a"), entry(POST + b"3b")], None),
        ([entry(POST + b"3b"), entry(b"a", len(POST) + 1)], None),  # out of order (112)
        ([entry(POST + b"3a"), entry(b"", len(POST) + 2)], None),  # the same key twice
        ([entry(POST + b"3a"), entry(b"", len(POST))], None),  # shorter than the one before
        ([entry(b"")], None),  # empty key (117)
        ([], link(cid.RAW_PREFIX + CHILD[4:])),  # links are dag-cbor (89)
        ([], CHILD),  # bytes that are no link
        ([], "x"),
        ([], 0),
        ([], False),
        ([entry(POST + b"3a", right=link(cid.RAW_PREFIX + CHILD[4:]))], None),
        ([entry(POST + b"3a", right=CHILD)], None),
        ([entry(POST + b"3a", right=False)], None),
        ([entry(POST + b"3a", value=LEAF)], None),
        ([entry(POST + b"3a", value=LEAF[:20])], None),
        ([entry(POST + b"3a", value="x" * 36)], None),
        ([entry(POST + b"3a", value=link(b"\0" + LEAF))], None),
        ([entry(POST + b"3a") | {"v": None}], None),
        ([entry(POST + b"3a") | {"x": None}], None),
        ([entry(POST + b"3a") | {"k": "app.bsky.feed.post/3a"}], None),
        ([entry(POST + b"3a") | {"k": None}], None),
        ([entry(POST + b"3a") | {"k": [1]}], None),
        ([entry(POST + b"3a") | {"p": None}], None),
        ([entry(POST + b"3a") | {"p": False}], None),
        ([entry(POST + b"3a"), entry(b"b", len(POST) + 1) | {"p": True}], None),
        ([entry(POST + b"3a") | {"p": 0.0}], None),
        ([entry(POST + b"3a") | {"p": "0"}], None),
        ([{key: value for key, value in entry(POST + b"3a").items() if key != "t"}], None),  # t is required (111)
        ([{key: value for key, value in entry(POST + b"3a").items() if key != "p"}], None),
        ([[]], None),
        ([None], None),
        (["kptv"], None),
        ({}, None),  # a map for the array
        ({}, link(CHILD)),
        (None, None),
        ("", None),
        (b"", None),
    ],
)
def test_invalid_nodes(entries: Any, left: Any) -> None:
    """Checklist 89, 108 to 112 and 117, as marked in the table."""
    with pytest.raises(NodeInvalid):
        mst.decode_node(block_of(entries, left))


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\xa2ae\x80al",
        b"\xa2ae\x80al\xf6\xf6",
        b"\xa1ae\x80",  # l is required (111)
        b"\xa1al\xf6",
        b"\xa3ae\x80al\xf6az\xf6",
        b"\xa3" + block_of([entry(POST + b"3a")])[1:] + b"az\xf6",
        b"\xa2ae\x98\x00al\xf6",  # a length that is not shortest
        b"\xa2ae\x9f\xffal\xf6",
        b"\xa2al\xf6ae\x80",
        b"\x82ae",
        b"\xf6",
        b"\x00",
        b"aeal",
    ],
)
def test_not_a_node(block: bytes) -> None:
    """Checklist 86, 111."""
    with pytest.raises(NodeInvalid):
        mst.decode_node(block)


def test_empty_node_with_a_link_may_be_inside_a_tree() -> None:
    """Intermediate nodes without entries are required where a layer is skipped (checklist 116)."""
    assert mst.decode_node(block_of([], link(CHILD))).links == [CHILD]


@pytest.mark.parametrize("value", [cid.RAW_PREFIX + LEAF[4:], bytes.fromhex("01711e20") + LEAF[4:]])
def test_unusual_record_cids_are_tolerated(value: bytes) -> None:
    """Records that no op names may have any CID, here raw and BLAKE3 (protocol.md section 24, #16)."""
    block = block_of([entry(POST + b"3a", value=link(value))])
    node = mst.decode_node(block)
    assert node.values == [value]
    assert mst.encode_node(node) == block


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"a/b", None),
        (b"app.bsky.feed.post", None),
        (POST, None),
        (POST + b"a\n", None),
        (POST + b"a/b", None),
        (POST + b"..", None),
        (POST + b"\xff", None),
        (POST + b"a" * 513, None),
        (POST + b"3aaaa", b"b\n"),
        (POST + b"3aaaa", b"b/b"),
        (POST + b"3aaaa", b"b\xff"),
        (POST + b"3aaaa", b"b" * 520),
        (POST + b".", b"."),
        (POST + b".-", b"."),
    ],
)
def test_keys_are_repo_paths(first: bytes, second: bytes | None) -> None:
    """In the first key and where only the end of a key is new (checklist 118)."""
    more = [entry(second, len(first) - 1 if len(second) > 1 or first[-1:] == b"-" else len(first))] if second else []
    block = block_of([entry(first), *more])
    assert len(mst.decode_node(block, check_paths=False).keys) == 1 + len(more)
    with pytest.raises(NodeInvalid, match="path"):
        mst.decode_node(block)


PATH_ENDS = st.text(st.sampled_from("ab.:~-_/\n"), max_size=3).map(str.encode)


@given(st.lists(st.tuples(st.sampled_from([b"a.b.c/", b"a.b.d/", b"a.b/", POST]), PATH_ENDS), min_size=1, max_size=6))
def test_key_check_agrees_with_the_matcher(parts: list[tuple[bytes, bytes]]) -> None:
    """Matching only the ends of keys that share a collection finds the same as matching each of them."""
    keys = sorted({start + end for start, end in parts})
    block = block_over(keys)
    if all(map(is_repo_path_bytes, keys)):
        assert mst.decode_node(block).keys == keys
    else:
        with pytest.raises(NodeInvalid, match="path"):
            mst.decode_node(block)


def test_too_many_entries() -> None:
    """Far more than chance makes (checklist 120)."""
    keys = [POST + b"%05d" % number for number in range(1_025)]
    assert len(mst.decode_node(block_over(keys[:-1])).keys) == 1_024
    with pytest.raises(NodeInvalid, match="more entries"):
        mst.decode_node(block_over(keys))


def test_settle_checks_the_layer_of_every_key() -> None:
    """All keys in a node are of one layer, its parent's less one (checklist 113)."""
    by_layer: dict[int, list[bytes]] = {}
    for number in range(200):
        key = POST + b"3%03d" % number
        by_layer.setdefault(key_layer(key), []).append(key)
    zero, one = by_layer[0][:3], by_layer[1][:3]
    for keys, layer in ((zero, 0), (one, 1)):
        mst.settle(mst.decode_node(block_over(keys)), layer, b"", None)
        for wrong in {0, 1, 2, 3, 32, 33, -1} - {layer}:
            with pytest.raises(NodeInvalid):
                mst.settle(mst.decode_node(block_over(keys)), wrong, b"", None)
    with pytest.raises(NodeInvalid, match="another layer"):
        mst.settle(mst.decode_node(block_over(sorted([*zero, one[0]]))), 0, b"", None)


def test_a_tree_has_33_layers_at_most() -> None:
    """A key of layer 32 takes 2**64 hashes to mine (checklist 120)."""
    block = block_of([], link(CHILD))
    mst.settle(mst.decode_node(block), 32, b"", None)
    with pytest.raises(NodeInvalid, match="deeper"):
        mst.settle(mst.decode_node(block), 33, b"", None)


def test_settle_checks_the_range() -> None:
    """Keys lie strictly between the keys of the parent on both sides (checklist 112)."""
    keys = [key for key in (POST + b"3%03d" % number for number in range(60)) if key_layer(key) == 0]
    block = block_over(keys[1:4])
    mst.settle(mst.decode_node(block), 0, keys[0], keys[4])
    for low, high in ((keys[1], None), (keys[2], None), (b"", keys[3]), (b"", keys[2])):
        with pytest.raises(NodeInvalid, match="range"):
            mst.settle(mst.decode_node(block), 0, low, high)


def test_settle_refuses_an_empty_node() -> None:
    """Neither keys nor a link is only for the whole empty tree (checklist 115)."""
    with pytest.raises(NodeInvalid, match="empty"):
        mst.settle(mst.decode_node(mst.EMPTY_TREE_BLOCK), 0, b"", None)
    mst.settle(mst.decode_node(block_of([], link(CHILD))), 1, b"", None)


def test_replace_link() -> None:
    other = cid.cid_of(b"other")
    block = block_of([entry(POST + b"3a", right=link(CHILD), value=link(CHILD))], link(LEAF))
    assert mst.decode_node(mst.replace_link(block, 0, LEAF, other)).links == [other, CHILD]
    changed = mst.decode_node(mst.replace_link(block, 1, CHILD, other))
    assert (changed.links, changed.values) == ([LEAF, other], [CHILD]), "a value of the same CID stays"
    twice = block_of([entry(POST + b"3a", right=link(CHILD)), entry(b"b", len(POST) + 1, right=link(CHILD))])
    with pytest.raises(NodeInvalid, match="twice"):
        mst.replace_link(twice, 1, CHILD, other)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_node_or_an_error(data: bytes) -> None:
    for candidate in (data, b"\xa2ae" + data, b"\xa2ae\x81\xa4ak" + data):
        try:
            assert mst.encode_node(mst.decode_node(candidate)) == candidate
        except NodeInvalid:
            continue
