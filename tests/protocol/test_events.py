"""`relay.protocol.events`: the schema check of each message type."""

from typing import Any

import pytest

from relay.protocol.errors import (
    BadDid,
    BadRev,
    BadSeq,
    BlocksEmpty,
    BlocksTooBig,
    SchemaError,
    TooManyOps,
    UnsupportedDid,
)
from relay.protocol.events import (
    AccountEvent,
    CommitEvent,
    Event,
    IdentityEvent,
    InfoEvent,
    RepoOp,
    SyncEvent,
    parse_event,
)
from relay.protocol.frame import MessageFrame, parse_frame
from relay.world.corpus import read_frames
from tests.support.handmade import BLOCK, DID, PAYLOADS, REV, SINCE, SLICE, cid, create, link, message, message_without
from tests.support.shared import shared_dir

SCOPED = ["#commit", "#sync", "#identity", "#account"]
RAW = link(b"\x01\x55\x12\x20" + bytes(32))


def parse(data: bytes, **settings: bool) -> Event:
    frame = parse_frame(data)
    assert isinstance(frame, MessageFrame)
    return parse_event(frame, **settings)


def event(kind: str, **changes: Any) -> Event:
    return parse(message(kind, PAYLOADS[kind](**changes)))


def fault(kind: str, **changes: Any) -> type[SchemaError]:
    """The class of fault that `changes` cause; an event without fault fails the test."""
    with pytest.raises(SchemaError) as caught:
        event(kind, **changes)
    return type(caught.value)


def test_commit() -> None:
    assert event("#commit") == CommitEvent(
        seq=1234,
        did=DID,
        rev=REV,
        since=SINCE,
        commit=cid(BLOCK),
        prev_data=cid(b"data before"),
        ops=(RepoOp("create", "app.bsky.feed.post/3kxyz2abcde2b", cid(b"record"), None),),
        blocks=SLICE,
    )


def test_ops_of_every_kind() -> None:
    ops = [
        create(),
        create() | {"action": "update", "prev": link(cid(b"old"))},
        {"action": "delete", "path": "a.b.c/d", "cid": None, "prev": link(cid(b"old"))},
        {"action": "delete", "path": "a.b.c/d", "cid": None},
    ]
    found = event("#commit", ops=ops)
    assert isinstance(found, CommitEvent)
    record, old = cid(b"record"), cid(b"old")
    assert [(op.action, op.cid, op.prev) for op in found.ops] == [
        ("create", record, None),
        ("update", record, old),
        ("delete", None, old),
        ("delete", None, None),
    ]


def test_sync_identity_account_info() -> None:
    assert event("#sync") == SyncEvent(1234, DID, REV, SLICE)
    assert event("#identity") == IdentityEvent(1234, DID, "alice.example.com")
    assert event("#account") == AccountEvent(1234, DID, False, "deactivated")
    assert event("#info") == InfoEvent("OutdatedCursor", "the window starts later")
    assert parse(message_without("#info", "message")) == InfoEvent("OutdatedCursor", None)


REQUIRED = [
    *(("#commit", key) for key in ("repo", "time", "rev", "since", "commit", "blocks", "ops")),
    *(("#sync", key) for key in ("did", "time", "rev", "blocks")),
    *(("#identity", key) for key in ("did", "time")),
    *(("#account", key) for key in ("did", "time", "active")),
    ("#info", "name"),
]


@pytest.mark.parametrize(("kind", "key"), REQUIRED)
def test_required_keys(kind: str, key: str) -> None:
    """Checklist 59, 60: each key missing in turn is a schema fault, and null where the lexicon does not allow it."""
    with pytest.raises(SchemaError, match=key):
        parse(message_without(kind, key))
    if key != "since":
        assert issubclass(fault(kind, **{key: None}), SchemaError)


@pytest.mark.parametrize("key", ["rebase", "tooBig", "blobs", "prevData"])
def test_keys_that_may_be_missing(key: str) -> None:
    """Checklist 61; `prevData` is judged where the stored state is known."""
    found = parse(message_without("#commit", key))
    assert isinstance(found, CommitEvent)
    assert (found.prev_data is None) == (key == "prevData")


@pytest.mark.parametrize("value", [None, True, 5, "x", [], [link(cid(b""))], {"a": b""}])
def test_deprecated_fields_may_hold_anything(value: Any) -> None:
    """Checklist 62."""
    assert event("#commit", rebase=value, tooBig=value, blobs=value) == event("#commit")


def test_unknown_keys_change_nothing() -> None:
    """Checklist 22; the old `prev` of commits is one of them."""
    for kind in PAYLOADS:
        assert event(kind, new=[1], prev=None) == event(kind)
    assert event("#commit", ops=[create() | {"new": 1}]) == event("#commit")


@pytest.mark.parametrize("kind", SCOPED)
def test_seq(kind: str) -> None:
    """Any unsigned 64-bit integer is a number (design section 5)."""
    for seq in (0, 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1):
        found = event(kind, seq=seq)
        assert not isinstance(found, InfoEvent)
        assert found.seq == seq
    for wrong in (-1, -(2**63), "5", None, True, [1], b"\x01"):
        assert fault(kind, seq=wrong) is BadSeq
    with pytest.raises(BadSeq):
        parse(message_without(kind, "seq"))


@pytest.mark.parametrize("kind", SCOPED)
def test_time_may_be_any_text(kind: str) -> None:
    """Checklist 77."""
    for time in ("", "yesterday", "1985-04-12T23:20:50.123-00:00", "2026-11-22T08:51:38+00:00", "x" * 10_000):
        assert event(kind, time=time) == event(kind)
    assert fault(kind, time=5) is SchemaError


@pytest.mark.parametrize("kind", SCOPED)
def test_did(kind: str) -> None:
    key = "repo" if kind == "#commit" else "did"
    for did in (
        "",
        "alice.example.com",
        "did:plc:",
        "DID:plc:" + "a" * 24,
        DID + "#x",
        "did:web:" + "a" * 2048 + ".com",
    ):
        assert fault(kind, **{key: did}) is BadDid
    for did in (
        "did:key:zabc",
        "did:plc:tooshort",
        "did:web:localhost",
        "did:web:example.com:path",
        DID.upper().lower()[:-1],
    ):
        assert fault(kind, **{key: did}) is UnsupportedDid
    for wrong in (5, b"did:plc:x", [DID], True):
        assert fault(kind, **{key: wrong}) is SchemaError
    found = event(kind, **{key: "did:web:example.com"})
    assert not isinstance(found, InfoEvent)
    assert found.did == "did:web:example.com"


@pytest.mark.parametrize("kind", SCOPED)
def test_localhost_dids_are_for_development(kind: str) -> None:
    data = message(kind, PAYLOADS[kind](**{"repo" if kind == "#commit" else "did": "did:web:localhost%3A2583"}))
    with pytest.raises(UnsupportedDid):
        parse(data)
    found = parse(data, allow_localhost=True)
    assert not isinstance(found, InfoEvent)
    assert found.did == "did:web:localhost%3A2583"


@pytest.mark.parametrize("kind", ["#commit", "#sync"])
def test_rev(kind: str) -> None:
    """Checklist 189."""
    for rev in ("", "0", REV[:-1], REV + "2", REV.upper(), "k" + REV[1:], "3kxyz2abcde1a"):
        assert fault(kind, rev=rev) is BadRev
    for wrong in (5, b"3kxyz2abcde2a", [REV]):
        assert fault(kind, rev=wrong) is SchemaError
    for rev in ("222222d7n7i22", "2222222222222", "jzzzzzzzzzzzz"):
        found = event(kind, rev=rev)
        assert isinstance(found, CommitEvent | SyncEvent)
        assert found.rev == rev


def test_since() -> None:
    """Nullable, but present, and a TID (checklist 60, 196)."""
    found = event("#commit", since=None)
    assert isinstance(found, CommitEvent)
    assert found.since is None
    for wrong in ("", "not a tid", 5, b"3kxyz2abcdd2a", False):
        assert fault("#commit", since=wrong) is SchemaError


def test_number_of_ops() -> None:
    """Checklist 63 and 73."""
    for count in (0, 1, 200):
        found = event("#commit", ops=[create()] * count)
        assert isinstance(found, CommitEvent)
        assert len(found.ops) == count
    assert fault("#commit", ops=[create()] * 201) is TooManyOps
    assert fault("#commit", ops=[None] * 201) is TooManyOps
    for wrong in (None, {"a": 1}, "create", b""):
        assert fault("#commit", ops=wrong) is SchemaError


OP_FAULTS: dict[str, Any] = {
    "not a map": None,
    "text": "create",
    "an array": [],
    "empty": {},
    **{f"without {key}": {k: v for k, v in create().items() if k != key} for key in ("cid", "path", "action")},
    "cid as bytes": create() | {"cid": cid(b"record")},
    "cid as text": create() | {"cid": "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"},
    "cid raw": create() | {"cid": RAW},
    "cid false": create() | {"cid": False},
    "path null": create() | {"path": None},
    "path as bytes": create() | {"path": b"a.b.c/d"},
    "action null": create() | {"action": None},
    "action 1": create() | {"action": 1},
    "prev null": create() | {"prev": None},
    "prev as bytes": create() | {"prev": cid(b"old")},
    "prev as text": create() | {"prev": ""},
}


@pytest.mark.parametrize("op", OP_FAULTS.values(), ids=OP_FAULTS.keys())
def test_op_faults(op: Any) -> None:
    """Checklist 68; that null and absent differ matters for `cid` and `prev` both."""
    assert fault("#commit", ops=[create(), op]) is SchemaError


def test_prev_of_an_op_may_be_a_raw_cid() -> None:
    """A leaf of an old tree may hold one (protocol.md section 24, #16)."""
    found = event("#commit", ops=[{"action": "delete", "path": "a.b.c/d", "cid": None, "prev": RAW}])
    assert isinstance(found, CommitEvent)
    assert found.ops[0].prev == RAW.value[1:]


@pytest.mark.parametrize("key", ["commit", "prevData"])
def test_commit_and_prev_data_are_dag_cbor_links(key: str) -> None:
    """Checklist 89; bytes without tag 42 are no link, and null is not absence."""
    for wrong in (None, cid(BLOCK), b"\0" + cid(BLOCK), RAW, "bafyrei", 5, [link(cid(BLOCK))]):
        assert fault("#commit", **{key: wrong}) is SchemaError


@pytest.mark.parametrize(("kind", "most"), [("#commit", 2_000_000), ("#sync", 10_000)])
def test_blocks(kind: str, most: int) -> None:
    """Checklist 64, 65, 67."""
    assert most in (2_000_000, 10_000)
    for size in (1, most):
        found = event(kind, blocks=bytes(size))
        assert isinstance(found, CommitEvent | SyncEvent)
        assert found.blocks == bytes(size)
    assert fault(kind, blocks=b"") is BlocksEmpty
    assert fault(kind, blocks=bytes(most + 1)) is BlocksTooBig
    for wrong in ("", link(cid(BLOCK)), [SLICE], 5):
        assert fault(kind, blocks=wrong) is SchemaError


def test_blocks_that_look_like_a_cid_are_bytes() -> None:
    found = event("#sync", blocks=cid(BLOCK))
    assert isinstance(found, SyncEvent)
    assert type(found.blocks) is bytes


def test_handle() -> None:
    """Checklist 74; invalid syntax is as good as none (design section 5)."""
    handles = {
        "handle.invalid": "handle.invalid",
        "Alice.Example.com": "Alice.Example.com",
        "": None,
        "no handle": None,
    }
    for handle, expected in handles.items():
        assert event("#identity", handle=handle) == IdentityEvent(1234, DID, expected)
    assert parse(message_without("#identity", "handle")) == IdentityEvent(1234, DID, None)
    for wrong in (None, 5, b"alice.example.com"):
        assert fault("#identity", handle=wrong) is SchemaError


def test_account_status() -> None:
    """Checklist 75 and 76: open vocabulary, optional, bounded."""
    for status in ("takendown", "throttled", "something new", "", "x" * 128):
        assert event("#account", status=status) == AccountEvent(1234, DID, False, status)
    assert parse(message_without("#account", "status")) == AccountEvent(1234, DID, False, None)
    assert event("#account", active=True) == AccountEvent(1234, DID, True, "deactivated")
    for wrong in ("x" * 129, None, 5, True, ["x"]):
        assert fault("#account", status=wrong) is SchemaError
    for wrong in (None, 0, 1, "true"):
        assert fault("#account", active=wrong) is SchemaError


def test_info() -> None:
    for wrong in (None, 5, b"x"):
        assert fault("#info", name=wrong) is SchemaError
        assert fault("#info", message=wrong) is SchemaError


@pytest.mark.parametrize("name", ["bulk-k256", "scenario-k256"])
def test_recorded_events(name: str) -> None:
    """Everything that a real PDS sends is an event, its fields those of the payload."""
    for data in read_frames(shared_dir() / "corpus" / f"{name}.frames"):
        frame = parse_frame(data)
        assert isinstance(frame, MessageFrame)
        found = parse_event(frame, allow_localhost=True)
        assert not isinstance(found, InfoEvent)
        assert found.seq == frame.payload["seq"]
        assert found.did == frame.payload["repo" if frame.type == "#commit" else "did"]
