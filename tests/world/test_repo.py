"""Commits of the world: a slice proves its own ops, the signature verifies, the chain holds."""

import hashlib
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.protocol.syntax import is_repo_path, is_tid, tid_ms
from relay.world.dagcbor import Link, cid_of, encode
from relay.world.keys import make_key
from relay.world.messages import Message
from relay.world.repo import Repo, Write
from relay.world.tree import empty_tree, key_layer
from relay.world.treewalk import get
from tests.world.slices import StubTouchedError, invert, read_block, read_car, read_frame
from tests.world.test_keys import openssl_verify

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
NOW_MS = 1_750_000_000_000
KEY = make_key(random.Random(1))
# Few keys with a fair share of high layers, so that commits split, join, grow and prune the tree.
POOL = sorted((f"com.example.note/{number}" for number in range(3000)), key=lambda k: (-key_layer(k.encode()), k))[:40]
WRITES = st.lists(
    st.tuples(st.sampled_from(POOL), st.sampled_from([b"\xa0", b"\xa1\x61x\x01", None])),
    max_size=6,
    unique_by=lambda pair: pair[0],
)


def payload_of(message: Message) -> Any:
    return read_frame(message.frame(7, NOW_MS)).payload


def commit_object(payload: Any) -> Any:
    """The signed commit out of a payload's slice, after checking where it is."""
    root, blocks = read_car(payload["blocks"])
    if "commit" in payload:
        assert payload["commit"] == root
    return read_block(dict(blocks)[root])


@settings(max_examples=150)
@given(st.lists(WRITES, min_size=1, max_size=8))
def test_each_slice_inverts_to_the_tree_before_it(batches: list[list[tuple[str, bytes | None]]]) -> None:
    """Any chain of commits: ops tell the change, the slice suffices to undo it in either order, records are inside."""
    repo = Repo(DID)
    data, rev = empty_tree_cid(), ""
    for batch in batches:
        writes = [Write(path, record) for path, record in batch if record or get(repo.tree, path.encode())]
        payload = payload_of(repo.commit(writes, KEY, NOW_MS))
        commit = commit_object(payload)
        blocks = dict(read_car(payload["blocks"])[1])

        assert invert(commit["data"], blocks, payload["ops"]) == data
        assert invert(commit["data"], blocks, payload["ops"][::-1]) == data
        assert payload.get("prevData") == (data if rev else None)
        assert payload["since"] == (rev or None)
        assert payload["rev"] == commit["rev"] == repo.rev > rev
        assert [(op["path"], op["cid"]) for op in payload["ops"]] == [
            (write.path, write.record and cid_of(write.record)) for write in writes
        ]
        assert {cid_of(write.record) for write in writes if write.record} <= set(blocks)
        data, rev = commit["data"], commit["rev"]


def empty_tree_cid() -> Link:
    return cid_of(encode({"e": [], "l": None}))


def test_an_op_left_out_does_not_invert() -> None:
    """The checker of these tests can fail: without one op the root differs or a node is missing."""
    repo = Repo(DID)
    repo.commit([Write(path, b"\xa0") for path in POOL], KEY, NOW_MS)
    before = repo.tree.cid
    payload = payload_of(repo.commit([Write(path, b"\xa1\x61x\x01") for path in POOL[:3]], KEY, NOW_MS))
    blocks = dict(read_car(payload["blocks"])[1])
    data = commit_object(payload)["data"]

    assert invert(data, blocks, payload["ops"]) == before
    for left_out in range(3):
        ops = [op for index, op in enumerate(payload["ops"]) if index != left_out]
        assert invert(data, blocks, ops) != before


def test_a_slice_without_its_neighbour_nodes_does_not_invert() -> None:
    """New nodes alone do not prove every commit (protocol.md section 5, rule 3): the repo adds what is needed."""
    failed = 0
    for left_out in POOL:
        repo = Repo(DID)
        repo.commit([Write(path, b"\xa0") for path in POOL], KEY, NOW_MS)
        seen = all_nodes(repo)
        payload = payload_of(repo.commit([Write(left_out, None)], KEY, NOW_MS))
        blocks = {cid: block for cid, block in read_car(payload["blocks"])[1] if cid not in seen}
        try:
            invert(commit_object(payload)["data"], blocks, payload["ops"])
        except StubTouchedError:
            failed += 1
    assert failed


def all_nodes(repo: Repo) -> set[bytes]:
    stack = [repo.tree]
    found = set()
    while stack:
        node = stack.pop()
        found.add(bytes(node.cid))
        stack += [child for child in node.children if child is not None]
    return found


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_the_signature_covers_the_commit_without_sig(curve: Any) -> None:
    """OpenSSL verifies each commit over the map with `sig` removed; its block hashes to the announced CID."""
    key = make_key(random.Random(2), curve)
    repo = Repo(DID)
    for number in range(10):
        message = repo.commit([Write(f"com.example.note/{number}", b"\xa0")], key, NOW_MS)
        commit = commit_object(payload_of(message))
        sig = commit.pop("sig")

        openssl_verify(key, hashlib.sha256(encode(commit)).digest(), sig)
        assert commit == {"did": DID, "version": 3, "data": repo.tree.cid, "rev": repo.rev, "prev": None}


def test_first_commit_is_as_a_real_pds_sends_it() -> None:
    """No `prevData` key, `since` null, no ops, the empty tree's node and the commit as its only blocks."""
    repo = Repo(DID)
    payload = payload_of(repo.commit([], KEY, NOW_MS))

    assert "prevData" not in payload
    assert payload["since"] is None
    assert payload["ops"] == []
    assert [cid for cid, _ in read_car(payload["blocks"])[1]] == [empty_tree_cid(), payload["commit"]]


def test_an_empty_commit_moves_only_the_rev() -> None:
    repo = Repo(DID)
    repo.commit([Write("com.example.note/1", b"\xa0")], KEY, NOW_MS)
    data = repo.tree.cid
    payload = payload_of(repo.commit([], KEY, NOW_MS + 1))

    assert payload["prevData"] == data == commit_object(payload)["data"]


def test_a_resigned_repo_tells_its_commit_by_sync() -> None:
    """The `#sync` after a rotation: a new rev, the same tree, the new key's signature; the next commit chains to it."""
    new_key = make_key(random.Random(3))
    repo = Repo(DID)
    repo.commit([Write("com.example.note/1", b"\xa0")], KEY, NOW_MS)
    first_rev = repo.rev
    payload = payload_of(repo.resign(new_key, NOW_MS))
    commit = commit_object(payload)
    sig = commit.pop("sig")
    follower = payload_of(repo.commit([Write("com.example.note/2", b"\xa0")], new_key, NOW_MS))

    openssl_verify(new_key, hashlib.sha256(encode(commit)).digest(), sig)
    assert payload["rev"] == commit["rev"] > first_rev
    assert len(read_car(payload["blocks"])[1]) == 1
    assert follower["since"] == payload["rev"]
    assert follower["prevData"] == commit["data"]


def test_revs_rise_within_one_millisecond_and_stay_at_the_clock() -> None:
    repo = Repo(DID)
    revs = [repo.commit([], KEY, NOW_MS).rev for _ in range(50)]

    assert revs == sorted(set(revs))
    assert all(is_tid(rev) and tid_ms(rev) == NOW_MS for rev in revs)


def test_deleting_what_is_not_there_is_refused() -> None:
    with pytest.raises(KeyError):
        Repo(DID, tree=empty_tree()).commit([Write("com.example.note/1", None)], KEY, NOW_MS)


def test_pool_paths_are_valid() -> None:
    assert all(map(is_repo_path, POOL))
