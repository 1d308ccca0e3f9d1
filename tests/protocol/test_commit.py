"""`relay.protocol.commit`: fields and signed bytes of a commit object (checklist 122-124, 128, 134, 135)."""

from hashlib import sha256
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol.commit import parse_commit
from relay.protocol.errors import CommitError
from tests.support.handmade import DID, REV, canonical, cid, link

DATA = cid(b"data")
PREV = cid(b"prev")
SIG = bytes(range(64))
WEB_DID = "did:web:" + "a" * 100 + ".example.com"


def fields(**changes: Any) -> dict[str, Any]:
    usual = {"did": DID, "version": 3, "data": link(DATA), "rev": REV, "prev": None, "sig": SIG}
    return usual | changes


def signed(whole: dict[str, Any]) -> bytes:
    return canonical({key: value for key, value in whole.items() if key != "sig"})


def test_known_bytes() -> None:
    """Written out by hand, so that no encoder has a say in what is signed."""
    head = b"cdidx\x20" + DID.encode() + b"crevm" + REV.encode()
    tail = b"ddata\xd8\x2a\x58\x25\x00" + DATA + b"dprev\xf6gversion\x03"
    found = parse_commit(b"\xa6" + head + b"csig\x58\x40" + SIG + tail)
    assert (found.did, found.rev, found.data, found.prev, found.sig) == (DID, REV, DATA, None, SIG)
    assert found.signing_bytes == b"\xa5" + head + tail
    assert found.digest == sha256(b"\xa5" + head + tail).digest()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"prev": link(PREV)},  # legal, older bridged commits have it (checklist 124)
        {"did": WEB_DID},
        {"did": "did:m:v"},
        {"did": "did:web:a.example.com"},  # 21 characters
        {"did": "did:web:abc.example.com"},  # 23: the longest with its length in the head
        {"did": "did:web:abcd.example.com"},
        {"did": "did:web:" + "a." * 150 + "com"},  # a length of two bytes
        {"did": "did:web:crevm" + REV + "csigX.com"},  # looks like the keys that follow
        {"rev": "2222222222222"},
        {"sig": b"\x01\x71\x12\x20" + b"s" * 60},  # starts like a CID
        {"sig": b"\x01\x71\x12\x20" + b"s" * 32},  # has the bytes of a CID: still a byte string
        {"sig": b""},  # the length is judged with the signature
        {"sig": b"s" * 63},
        {"sig": b"s" * 65},
        {"extra": {"a": [1, b"x", link(PREV)]}},  # kept in the signed input (checklist 134)
        {"a": None},
        {"zzzzzzzzzz": b"\x01\x71\x12\x20" + b"x" * 32},
    ],
)
def test_signed_bytes_are_the_map_without_sig(changes: dict[str, Any]) -> None:
    whole = fields(**changes)
    found = parse_commit(canonical(whole))
    assert found.signing_bytes == signed(whole)
    assert (found.did, found.rev, found.sig) == (whole["did"], whole["rev"], whole["sig"])
    assert found.data == DATA
    assert found.prev == (PREV if whole["prev"] else None)


@pytest.mark.parametrize("key", ["did", "version", "data", "rev", "prev", "sig"])
def test_every_key_is_required(key: str) -> None:
    whole = fields()
    del whole[key]
    with pytest.raises(CommitError):
        parse_commit(canonical(whole))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": 4},
        {"version": "3"},
        {"version": True},
        {"did": "did:m:"},
        {"did": "x" * 32},
        {"did": 1},
        {"did": "did:m:" + "v" * 2043},
        {"rev": "3kxyz2abcde2"},
        {"rev": "zkxyz2abcde2a"},
        {"rev": None},
        {"data": None},
        {"data": DATA},  # bytes that are no link
        {"data": link(b"\x01\x55" + DATA[2:])},  # codec raw (checklist 89)
        {"data": link(DATA[:-1])},
        {"prev": link(b"\x01\x55" + PREV[2:])},
        {"prev": PREV},
        {"prev": ""},
        {"sig": link(DATA)},
        {"sig": "s" * 64},
        {"sig": None},
        {"extra": 1.5},
    ],
)
def test_wrong_values(changes: dict[str, Any]) -> None:
    with pytest.raises(CommitError):
        parse_commit(canonical(fields(**changes)))


def test_only_the_canonical_form() -> None:
    """Re-encoding must give the block (checklist 135)."""
    whole = fields()
    good = canonical(whole)
    unsorted = cbor2.dumps(dict(sorted(whole.items(), reverse=True)))
    long_head = good.replace(b"cdidx\x20", b"cdidy\x00\x20")
    long_version = good[:-1] + b"\x18\x03"
    for bad in (unsorted, long_head, long_version, good + b"\0", good[:-1], b"", b"\xa0", b"\x80", b"\xf6", b"\xff"):
        with pytest.raises(CommitError):
            parse_commit(bad)


@pytest.mark.parametrize("length", [0x1F, 0x21])
def test_a_did_whose_declared_length_is_wrong(length: int) -> None:
    """The text would end elsewhere for a CBOR reader, although all keys can be found."""
    good = canonical(fields())
    with pytest.raises(CommitError):
        parse_commit(good.replace(b"cdidx\x20", b"cdidx" + bytes([length])))


@given(st.integers(0, 400), st.integers(0, 255))
def test_one_changed_byte_is_another_commit_or_none(position: int, byte: int) -> None:
    """Whatever is accepted is what a strict decoder sees in the same bytes."""
    good = canonical(fields())
    bad = bytearray(good)
    bad[position % len(good)] = byte
    try:
        found = parse_commit(bytes(bad))
    except CommitError:
        return
    whole = cbor2.loads(bytes(bad))
    assert canonical(whole) == bytes(bad)
    assert found.signing_bytes == signed(whole)
    assert (found.did, found.rev, found.sig) == (whole["did"], whole["rev"], whole["sig"])


@given(st.binary(max_size=300))
def test_any_bytes_are_a_commit_or_a_commit_error(data: bytes) -> None:
    for candidate in (data, b"\xa6cdid" + data):
        with pytest.raises(CommitError):
            parse_commit(candidate)
