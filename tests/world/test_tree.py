"""The world's tree: known answers for the definition, and the definition for the incremental form."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.world.dagcbor import Link, Value, cid_of, cid_text, encode
from relay.world.tree import Node, empty_tree, encode_node, key_layer, put, remove, seal, shared_prefix
from relay.world.treewalk import get, inversion_path, items, nth, search_path
from tests.support.shared import shared_dir
from tests.support.trees import blocks_of, nodes_of, tree_of

LEAF = Link(bytes.fromhex("01711220" + "9d156bc3f3a520066252c708a9361fd3d089223842500e3713d404fdccb33cef"))
RECORD = "com.example.record/"


def rkeys(text: str) -> list[str]:
    """The keys of the known answers by the part in which they differ."""
    return [f"{RECORD}3jqfcqzm{part}2j" for part in text.split()]


KNOWN_ROOTS = [
    ("", "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"),
    ("3fo", "bafyreibj4lsc3aqnrvphp5xmrnfoorvru4wynt6lwidqbm2623a6tatzdu"),
    ("3fx", "bafyreih7wfei65pxzhauoibu3ls7jgmkju4bspy4t2ha2qdjnzqvoy33ai"),
    ("3fp 3fr 3fs 3ft 4fc", "bafyreicmahysq4n6wfuxo522m6dpiy7z7qzym3dzs756t5n7nfdgccwq7m"),
    ("3fn 3fo 3fp 3fs 3ft 3fu", "bafyreifnqrwbk6ffmyaz5qtujqrzf5qmxf7cbxvgzktl4e3gabuxbtatv4"),
    ("3fn 3fo 3fp 3ft 3fu", "bafyreie4kjuxbwkhzg2i5dljaswcroeih4dgiqq6pazcmunwt2byd725vi"),
    (
        "3fo 3fp 3fr 3fs 3ft 3fz 4fc 4fd 4ff 4fg 4fh",
        "bafyreiettyludka6fpgp33stwxfuwhkzlur6chs4d2v4nkmq2j3ogpdjem",
    ),
    (
        "3fo 3fp 3fr 3fs 3ft 3fz 4fc 4fd 4ff 4fg 4fh 3fx",
        "bafyreid2x5eqs4w4qxvc5jiwda4cien3gw2q6cshofxwnvv7iucrmfohpm",
    ),
    ("3ft 3fz", "bafyreidfcktqnfmykz2ps3dbul35pepleq7kvv526g47xahuz3rqtptmky"),
    ("3ft 3fz 3fx", "bafyreiavxaxdz7o7rbvr3zg2liox2yww46t7g6hkehx4i4h3lwudly7dhy"),
    ("3ft 3fz 3fx 4fd", "bafyreig4jv3vuajbsybhyvb7gggvpwh2zszwfyttjrj6qwvcsp24h6popu"),
]


def tree_over(keys: list[str]) -> Node:
    return tree_of(dict.fromkeys((key.encode() for key in keys), LEAF))


@pytest.mark.parametrize(
    ("key", "layer"),
    [("2653ae71", 0), ("blue", 1), ("app.bsky.feed.post/454397e440ec", 4), ("app.bsky.feed.post/9adeb165882c", 8)],
)
def test_known_layers(key: str, layer: int) -> None:
    assert key_layer(key.encode()) == layer


@pytest.mark.parametrize(("parts", "root"), KNOWN_ROOTS)
def test_known_roots_of_the_definition(parts: str, root: str) -> None:
    assert cid_text(tree_over(rkeys(parts)).cid) == root


@pytest.mark.parametrize(("parts", "root"), KNOWN_ROOTS)
def test_known_roots_by_putting_keys_one_by_one(parts: str, root: str) -> None:
    tree = empty_tree()
    for key in rkeys(parts):
        tree = put(tree, key.encode(), LEAF)
    seal(tree)

    assert cid_text(tree.cid) == root


def test_known_root_of_the_example_keys() -> None:
    """The twelfth known answer: 156 keys over all layers."""
    keys = (shared_dir() / "vectors/atproto/mst/example_keys.txt").read_text().split()
    assert len(keys) == 156

    assert cid_text(tree_over(keys).cid) == "bafyreicp3ghg3qdepi7bx3letryyerzfoky5htzymzljibxhd3m3z3xfb4"


def test_layer_and_prefix_vectors() -> None:
    folder = shared_dir() / "vectors/atproto/mst"
    for case in json.loads((folder / "key_heights.json").read_text()):
        assert key_layer(case["key"].encode()) == case["height"]
    for case in json.loads((folder / "common_prefix.json").read_text()):
        assert shared_prefix(case["left"].encode(), case["right"].encode()) == case["len"]


def test_commit_proof_vectors() -> None:
    """Both roots of each fixture, and every node it wants shipped is new or on an inversion path."""
    path = shared_dir() / "vectors/atproto/firehose/commit-proof-fixtures.json"
    for case in json.loads(path.read_text()):
        before = tree_over(case["keys"])
        after = before
        for key in case["adds"]:
            after = put(after, key.encode(), LEAF)
        for key in case["dels"]:
            after = remove(after, key.encode())
        shipped = {node.cid for node in seal(after)}
        shipped |= {node.cid for key in case["adds"] + case["dels"] for node in inversion_path(after, key.encode())}

        assert cid_text(before.cid) == case["rootBeforeCommit"]
        assert cid_text(after.cid) == case["rootAfterCommit"]
        assert set(case["blocksInProof"]) <= {cid_text(cid) for cid in shipped}


def test_a_node_is_encoded_as_the_generic_encoder_would() -> None:
    """The spliced node encoding is the map of protocol.md section 8, for nodes of all shapes."""
    tree = tree_over([f"{RECORD}{number}" for number in range(400)] + ["a/" + "x" * 300, "a/" + "x" * 299])
    for node in nodes_of(tree):
        entries: list[Value] = []
        previous = b""
        for key, value, child in zip(node.keys, node.values, node.children[1:], strict=True):
            shared = shared_prefix(previous, key)
            link = None if child is None else child.cid
            entries.append({"p": shared, "k": key[shared:], "v": Link(value), "t": link})
            previous = key
        first = node.children[0]

        assert encode_node(node) == encode({"l": None if first is None else first.cid, "e": entries})
        assert cid_of(node.block) == node.cid


# Short keys with a fair share of high layers, so that small trees are deep, skip layers and grow or lose their top.
POOL = sorted(
    (f"a/{number}" for number in range(4000)),
    key=lambda key: (-key_layer(key.encode()), key),
)[:60]
CHANGES = st.lists(st.tuples(st.sampled_from(POOL), st.sampled_from([b"\x01", b"\x02", None])), max_size=60)


def cid(mark: bytes) -> bytes:
    return cid_of(mark)


@settings(max_examples=200)
@given(CHANGES)
def test_changing_a_tree_gives_the_tree_of_the_definition(changes: list[tuple[str, bytes | None]]) -> None:
    """After every put and remove the root is that of `build`, and so are all nodes; unknown removals raise."""
    tree = empty_tree()
    records: dict[bytes, bytes] = {}
    for text, mark in changes:
        key = text.encode()
        if mark is not None:
            tree, records[key] = put(tree, key, cid(mark)), cid(mark)
        elif key in records:
            tree = remove(tree, key)
            del records[key]
        else:
            with pytest.raises(KeyError):
                remove(tree, key)
        seal(tree)
        expected = tree_of(records)

        assert tree.cid == expected.cid
        assert blocks_of(tree) == blocks_of(expected)
        assert tree.count == len(records)


@settings(max_examples=200)
@given(CHANGES, CHANGES)
def test_seal_answers_all_nodes_that_are_new(
    base: list[tuple[str, bytes | None]], changes: list[tuple[str, bytes | None]]
) -> None:
    """No node of the changed tree is outside of the old tree and of what `seal` gave out."""
    old = tree_of({key.encode(): cid(mark) for key, mark in base if mark is not None})
    new = old
    for key, mark in changes:
        if mark is not None:
            new = put(new, key.encode(), cid(mark))
        elif get(new, key.encode()) is not None:
            new = remove(new, key.encode())
    fresh = {node.cid for node in seal(new)}

    assert set(blocks_of(new)) <= set(blocks_of(old)) | fresh


def test_walking() -> None:
    """`items` and `nth` follow key order, `get` finds what is there, paths start at the root and end at the key."""
    rng = random.Random(5)
    records = {f"a/{rng.randrange(10**6)}".encode(): cid_of(bytes([number])) for number in range(200)}
    tree = tree_of(records)

    assert list(items(tree)) == sorted(records.items())
    assert [nth(tree, index) for index in range(tree.count)] == sorted(records)
    with pytest.raises(IndexError):
        nth(tree, tree.count)
    for key, value in records.items():
        path = list(search_path(tree, key))
        assert get(tree, key) == value
        assert path[0] is tree
        assert key in path[-1].keys
        assert set(map(id, path)) <= set(map(id, inversion_path(tree, key)))
    assert get(tree, b"a/absent") is None


def test_inversion_path_reaches_the_neighbours() -> None:
    """For each key, the nodes that hold the keys right before and after it are on its inversion path."""
    tree = tree_over([f"a/{number}" for number in range(2000)])
    keys = [key for key, _ in items(tree)]
    for before, key, after in zip(keys, keys[1:], keys[2:], strict=False):
        held = {held for node in inversion_path(tree, key) for held in node.keys}

        assert {before, key, after} <= held
