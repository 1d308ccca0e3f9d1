"""A repo that is written to and tells each change as a correct Sync 1.1 message (protocol.md sections 3, 5 and 9).

Owns the state of one repo: tree, rev and last commit. Signs with the key it is given at each call, so that a rotation
is the caller's business. Keeps no record blocks: a slice carries only the records of its own ops.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from relay.world.car import car_slice
from relay.world.dagcbor import Link, Value, cid_of, encode
from relay.world.keys import SigningKey
from relay.world.messages import Message, Op, commit_message, sync_message
from relay.world.times import tid
from relay.world.tree import Node, empty_tree, put, remove, seal
from relay.world.treewalk import get, inversion_path


class Write(NamedTuple):
    """One change to make: a record block to create or update, None to delete."""

    path: str
    record: bytes | None


class SignedCommit(NamedTuple):
    """A commit object: its block, its CID and the rev inside it."""

    block: bytes
    cid: Link
    rev: str


class Repo:
    """One account's repo. A new one is empty and has made no commit.

    With `tree` and `rev` it starts in the middle of its life, as if earlier commits nobody recorded had made them.
    """

    def __init__(self, did: str, *, clock_id: int = 0, tree: Node | None = None, rev: str = "") -> None:
        self.did = did
        self.tree = empty_tree() if tree is None else tree
        seal(self.tree)
        self.rev = rev
        self.last_commit: SignedCommit | None = None
        self._clock_id = clock_id
        self._time_us = 0

    def commit(self, writes: Sequence[Write], key: SigningKey, now_ms: int) -> Message:
        """Applies `writes`, at most one per path, and answers the `#commit` that announces them.

        The first commit has `since` null and no `prevData`, as a real PDS sends it. Raises KeyError for the deletion
        of a record that is not there.
        """
        since, before = self.rev or None, self.tree
        ops = [self._apply(write) for write in writes]
        fresh = seal(self.tree)
        signed = self._sign(key, now_ms)
        nodes = {node.cid: node.block for node in fresh}
        for write in writes:
            nodes.update((node.cid, node.block) for node in inversion_path(self.tree, write.path.encode()))
        if not writes:
            nodes[self.tree.cid] = self.tree.block
        records = {cid_of(write.record): write.record for write in writes if write.record is not None}
        # The commit block comes last, as in the slices of real hosts: readers must not count on the order.
        blocks = car_slice(signed.cid, [*nodes.items(), *records.items(), (signed.cid, signed.block)])
        return commit_message(
            self.did,
            signed.rev,
            since=since,
            commit=signed.cid,
            prev_data=before.cid if since else None,
            ops=ops,
            blocks=blocks,
        )

    def resign(self, key: SigningKey, now_ms: int) -> Message:
        """A commit of the same tree under a new rev, told by a `#sync` only: what a key rotation leaves behind."""
        self._sign(key, now_ms)
        return self.sync()

    def sync(self, rev: str = "") -> Message:
        """`#sync` for the last commit, which must exist; another `rev` than the commit's makes it a wrong one."""
        commit = self.last_commit
        assert commit is not None
        return sync_message(self.did, rev or commit.rev, car_slice(commit.cid, [(commit.cid, commit.block)]))

    def _apply(self, write: Write) -> Op:
        key = write.path.encode()
        prev = get(self.tree, key)
        old = None if prev is None else Link(prev)
        if write.record is None:
            self.tree = remove(self.tree, key)
            return Op("delete", write.path, None, old)
        cid = cid_of(write.record)
        self.tree = put(self.tree, key, cid)
        return Op("create" if old is None else "update", write.path, cid, old)

    def _sign(self, key: SigningKey, now_ms: int) -> SignedCommit:
        # Two commits within a millisecond still need rising revs; microseconds leave room before the clock is passed.
        self._time_us = max(self._time_us + 1, now_ms * 1000)
        self.rev = tid(self._time_us, self._clock_id)
        self.last_commit = sign_commit(self.did, self.tree.cid, self.rev, key)
        return self.last_commit


def sign_commit(did: str, data: Link, rev: str, key: SigningKey) -> SignedCommit:
    """A commit object of repo format 3 over the tree `data`: signed without `sig`, hashed with it."""
    fields: dict[str, Value] = {"did": did, "version": 3, "data": data, "rev": rev, "prev": None}
    sig = key.sign(hashlib.sha256(encode(fields)).digest())
    block = encode({**fields, "sig": sig})
    return SignedCommit(block, cid_of(block), rev)
