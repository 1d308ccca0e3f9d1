"""Forty ways in which a `#commit` or `#sync` can be wrong, each with its reason, and ten in which it is not.

Every case has an account of its own with a repo of sixty records, and changes one thing about the commit that follows.
Signatures are the account's own wherever the case is not about signatures: a hostile host holds the keys.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import NamedTuple

from relay.verify.verdict import Reason
from relay.world.car import car_slice, varint
from relay.world.dagcbor import Link, Value, cid_of, encode
from relay.world.keys import make_key
from relay.world.messages import Message, account_message, identity_message
from relay.world.repo import Write
from relay.world.times import tid
from relay.world.tree import Node, encode_node, key_layer
from relay.world.treewalk import search_path
from tests.support.altering import Fields, altered, blocks_of, ops_of, resigned, with_blocks, without
from tests.support.scene import NOW_MS, Scene

RECORD, OTHER_RECORD = encode({"text": "a"}), encode({"text": "b"})
PATHS = [f"com.example.note/{number:03}" for number in range(60)]
CREATED, UPDATED, DELETED = "com.example.note/new", PATHS[7], PATHS[31]
CHANGES = [Write(CREATED, RECORD), Write(UPDATED, OTHER_RECORD), Write(DELETED, None)]
MINUTE_MS = 60_000

_K256_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class Victim(Scene):
    """An account with its first commit, which passes, and a good one that follows. `stranger` lives elsewhere."""

    def __init__(self, seed: int, now_ms: int, stranger: str) -> None:
        super().__init__(seed)
        self.now_ms = now_ms
        self.stranger = stranger
        self.base = self.commit([Write(path, RECORD) for path in PATHS])
        self.follow = self.commit(CHANGES)

    def commit(self, writes: Sequence[Write], now_ms: int = NOW_MS) -> Message:
        return self.account.repo.commit(writes, self.account.key, now_ms)


Make = Callable[[Victim], Sequence[Message]]


class Case(NamedTuple):
    """What is sent after the victim's first commit. `reason` None: all of it must pass, else all but the
    last message. `document` False: the DID has none, and the first commit is not sent before.
    """

    name: str
    make: Make
    reason: Reason | None = None
    document: bool = True
    time_ms: int = NOW_MS


def _field(**fields: Value) -> Make:
    """The good commit with fields of its message altered."""
    return lambda victim: [altered(victim.follow, **fields)]


def _commit_object(change: Callable[[Fields], object]) -> Make:
    """The good commit with its commit object altered and signed again."""
    return lambda victim: [resigned(victim, victim.follow, change)]


def _ops(change: Callable[[list[Fields]], Sequence[Value]]) -> Make:
    """The good commit with its ops altered; it has a create, an update and a delete."""
    return lambda victim: [altered(victim.follow, ops=list(change(ops_of(victim.follow))))]


def _blocks(change: Callable[[Victim, dict[Link, bytes]], object]) -> Make:
    """The good commit with blocks added or taken away."""

    def make(victim: Victim) -> Sequence[Message]:
        blocks = blocks_of(victim.follow)
        change(victim, blocks)
        return [with_blocks(victim.follow, blocks)]

    return make


def _bytes(change: Callable[[bytes], bytes]) -> Make:
    """The good commit with the bytes of its slice altered."""

    def make(victim: Victim) -> Sequence[Message]:
        blocks = victim.follow.payload["blocks"]
        assert isinstance(blocks, bytes)
        return [altered(victim.follow, blocks=change(blocks))]

    return make


def _sig(change: Callable[[bytes], bytes]) -> Make:
    """The good commit with its signature altered, the same fields in it."""

    def make(victim: Victim) -> Sequence[Message]:
        def sign(fields: Fields) -> None:
            fields["sig"] = change(victim.account.key.sign(sha256(encode(fields)).digest()))

        return [resigned(victim, victim.follow, sign)]

    return make


def _high(sig: bytes) -> bytes:
    return sig[:32] + (_K256_ORDER - int.from_bytes(sig[32:])).to_bytes(32)


def _der(sig: bytes) -> bytes:
    r, s = (b"\x00" * (part[0] >> 7) + part for part in (sig[:32], sig[32:]))
    return bytes([0x30, 4 + len(r) + len(s), 2, len(r)]) + r + bytes([2, len(s)]) + s


def _by_another_key(victim: Victim) -> Sequence[Message]:
    key = make_key(victim.rng, "k256")
    return [
        resigned(victim, victim.follow, lambda fields: fields.update(sig=key.sign(sha256(encode(fields)).digest())))
    ]


def _flipped(data: bytes) -> bytes:
    at = data.index(OTHER_RECORD)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _huge_record(victim: Victim) -> Sequence[Message]:
    return [victim.commit([Write(PATHS[1], encode({"x": bytes(1_000_000)}))])]


def _long_sync(victim: Victim) -> Sequence[Message]:
    sync = victim.account.repo.sync()
    stray = bytes(10_001 - len(sync.payload["blocks"]) - 38)  # type: ignore[arg-type]  # bytes
    blocks = {cid_of(stray): stray, **blocks_of(sync)}
    return [with_blocks(sync, blocks)]


def _old_sync(victim: Victim) -> Sequence[Message]:
    blocks = blocks_of(victim.base)
    root = list(blocks)[-1]
    sync = victim.account.repo.sync(victim.base.rev)
    return [victim.follow, altered(sync, blocks=car_slice(root, [(root, blocks[root])]))]


def _of_a_stranger(victim: Victim) -> Sequence[Message]:
    stolen = resigned(victim, victim.follow, lambda fields: fields.update(did=victim.stranger))
    return [altered(stolen, repo=victim.stranger)]


def _after_the_end(victim: Victim) -> Sequence[Message]:
    return [account_message(victim.did, "deactivated"), victim.follow]


def _other_tree(root: Callable[[], Node]) -> Make:
    """The good commit over a root node of the attacker's making."""

    def make(victim: Victim) -> Sequence[Message]:
        block = encode_node(root())
        made = with_blocks(victim.follow, {cid_of(block): block, **blocks_of(victim.follow)})
        return [resigned(victim, made, lambda fields: fields.update(data=cid_of(block)))]

    return make


def _leaf(keys: Sequence[str]) -> Node:
    paths = tuple(sorted(key.encode() for key in keys))
    return Node(0, paths, (cid_of(RECORD),) * len(paths), (None,) * (len(paths) + 1))


def _mixed_layers() -> Node:
    return _leaf([*PATHS, CREATED])


def _wide() -> Node:
    mined = (f"com.example.note/{number}" for number in range(10_000))
    return _leaf([path for path in mined if key_layer(path.encode()) == 0][:1_025])


def _empty_but_changed(victim: Victim) -> Sequence[Message]:
    message = victim.commit([])
    return [resigned(victim, message, lambda fields: fields.update(data=cid_of(b"else")))]


_WRONG_CID = cid_of(b"else")

WRONG = [
    Case("a field is missing", lambda victim: [without(victim.follow, "commit")], Reason.SCHEMA),
    Case("since is no TID", _field(since="yesterday"), Reason.SCHEMA),
    Case("201 ops", _ops(lambda ops: ops[:1] * 201), Reason.OPS_TOO_MANY),
    Case("no blocks", _field(blocks=b""), Reason.BLOCKS_EMPTY),
    Case("blocks of 2,000,001 bytes", _field(blocks=bytes(2_000_001)), Reason.BLOCKS_TOO_BIG),
    Case("a sync of 10,001 bytes", _long_sync, Reason.BLOCKS_TOO_BIG),
    Case("no DID", _field(repo="did:plc"), Reason.DID_INVALID),
    Case("a DID of another method", _field(repo="did:key:z6Mk"), Reason.DID_UNSUPPORTED),
    Case("rev is no TID", _field(rev="2026-11-22"), Reason.REV_INVALID),
    Case("a DID that is not its own", _of_a_stranger, Reason.HOST_MISMATCH),
    Case("a stranger's death", lambda victim: [account_message(victim.stranger, "deleted")], Reason.HOST_MISMATCH),
    Case("a stranger's identity", lambda victim: [identity_message(victim.stranger, None)], Reason.HOST_MISMATCH),
    Case("nobody knows the DID", lambda victim: [victim.base], Reason.IDENTITY_UNRESOLVED, document=False),
    Case("a commit after deactivation", _after_the_end, Reason.ACCOUNT_INACTIVE),
    Case("the same commit twice", lambda victim: [victim.follow, victim.follow], Reason.REV_NOT_NEWER),
    Case("an old sync", _old_sync, Reason.REV_NOT_NEWER),
    Case(
        "a rev six minutes ahead",
        lambda victim: [victim.commit([], victim.now_ms + 6 * MINUTE_MS)],
        Reason.REV_IN_FUTURE,
    ),
    Case("a rev with its highest bit set", _field(rev="jzzzzzzzzzzzz"), Reason.REV_IN_FUTURE),
    Case("a slice cut short", _bytes(lambda data: data[:-1]), Reason.CAR_INVALID),
    Case("a byte of a record flipped", _bytes(_flipped), Reason.BLOCK_HASH_MISMATCH),
    Case("a record of a million bytes and some", _huge_record, Reason.RECORD_TOO_BIG),
    Case("no commit block", _blocks(lambda _, blocks: blocks.popitem()), Reason.COMMIT_MISSING),
    Case("commit is not the root", _field(commit=_WRONG_CID), Reason.COMMIT_CID_MISMATCH),
    Case("version 2", _commit_object(lambda fields: fields.update(version=2)), Reason.COMMIT_INVALID),
    Case(
        "a commit of another account",
        _commit_object(lambda fields: fields.update(did="did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")),
        Reason.COMMIT_DID_MISMATCH,
    ),
    Case("another rev inside", _field(rev=tid(NOW_MS * 1000 + 77, 0)), Reason.COMMIT_REV_MISMATCH),
    Case("high S", _sig(_high), Reason.SIGNATURE_FORMAT),
    Case("a DER signature", _sig(_der), Reason.SIGNATURE_FORMAT),
    Case("another key", _by_another_key, Reason.SIGNATURE_INVALID),
    Case("an unknown action", _ops(lambda ops: [{**ops[0], "action": "move"}, *ops[1:]]), Reason.OPS_INVALID),
    Case("a create with prev", _ops(lambda ops: [{**ops[0], "prev": _WRONG_CID}, *ops[1:]]), Reason.OPS_INVALID),
    Case("ops of one path twice", _ops(lambda ops: [*ops, ops[0]]), Reason.OP_DUPLICATE_PATH),
    Case(
        "an update without prev",
        _ops(lambda ops: [ops[0], {key: ops[1][key] for key in ("action", "path", "cid")}, ops[2]]),
        Reason.OP_PREV_MISSING,
    ),
    Case("no prevData", lambda victim: [without(victim.follow, "prevData")], Reason.PREV_DATA_MISSING),
    Case("a deletion left out", _ops(lambda ops: ops[:2]), Reason.INVERSION_MISMATCH),
    Case("another prev", _ops(lambda ops: [*ops[:2], {**ops[2], "prev": _WRONG_CID}]), Reason.INVERSION_MISMATCH),
    Case("an empty commit of another tree", _empty_but_changed, Reason.INVERSION_MISMATCH),
    Case(
        "a create that is not in the tree",
        _ops(lambda ops: [{**ops[0], "cid": _WRONG_CID}, *ops[1:]]),
        Reason.OP_NOT_IN_TREE,
    ),
    Case("no record", _blocks(lambda _, blocks: blocks.pop(cid_of(OTHER_RECORD))), Reason.RECORD_MISSING),
    Case(
        "no root node",
        _blocks(lambda victim, blocks: blocks.pop(victim.account.repo.tree.cid)),
        Reason.SLICE_INCOMPLETE,
    ),
    Case("a node of keys of several layers", _other_tree(_mixed_layers), Reason.MST_INVALID),
    Case("a node of 1,025 keys", _other_tree(_wide), Reason.MST_INVALID),
]


def _update_of_a_high_key(victim: Victim) -> Sequence[Message]:
    """Its neighbours are in the slice, but the inversion of an update needs none of the nodes below it."""
    highest = max(PATHS[40:], key=lambda path: key_layer(path.encode()))
    message = victim.commit([Write(highest, OTHER_RECORD)])
    blocks = blocks_of(message)
    path = {node.cid for node in search_path(victim.account.repo.tree, highest.encode())}
    needed = {*path, cid_of(OTHER_RECORD), list(blocks)[-1]}
    assert len(blocks) > len(needed)
    return [victim.follow, with_blocks(message, {cid: block for cid, block in blocks.items() if cid in needed})]


def _two_roots(victim: Victim) -> Sequence[Message]:
    blocks = blocks_of(victim.follow)
    header = encode({"roots": [list(blocks)[-1], _WRONG_CID], "version": 1})
    old = encode({"roots": [list(blocks)[-1]], "version": 1})
    data = victim.follow.payload["blocks"]
    assert isinstance(data, bytes)
    return [altered(victim.follow, blocks=varint(len(header)) + header + data[len(varint(len(old)) + old) :])]


def _reversed_and_doubled(victim: Victim) -> Sequence[Message]:
    blocks = list(blocks_of(victim.follow).items())
    return [altered(victim.follow, blocks=car_slice(blocks[-1][0], [*reversed(blocks), *blocks[:2]]))]


def _same_again(victim: Victim) -> Sequence[Message]:
    return [victim.follow, victim.commit([Write(UPDATED, OTHER_RECORD)])]


RIGHT = [
    Case("another since", _field(since=None)),
    Case("a time long ago", lambda victim: [victim.follow], time_ms=0),
    Case("an unknown field", _field(futureField={"a": [1, None]})),
    Case("an unknown field of an op", _ops(lambda ops: [{**ops[0], "note": b"kept"}, *ops[1:]])),
    Case("deprecated fields in use", _field(tooBig=True, rebase=True, blobs=[_WRONG_CID])),
    Case("a stray block", _blocks(lambda _, blocks: blocks.update({cid_of(b"stray"): b"stray"}))),
    Case("nodes left out that no inversion touches", _update_of_a_high_key),
    Case("blocks in another order, some twice", _reversed_and_doubled),
    Case("a second root", _two_roots),
    Case("a signed field more", _commit_object(lambda fields: fields.update(note="kept"))),
    Case("a commit that names its predecessor", _commit_object(lambda fields: fields.update(prev=_WRONG_CID))),
    Case("an update that changes nothing", _same_again),
    Case("an empty commit", lambda victim: [victim.follow, victim.commit([])]),
]
