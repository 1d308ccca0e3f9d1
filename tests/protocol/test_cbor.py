"""`relay.protocol.cbor`: accepts exactly canonical DAG-CBOR of the atproto data model, and writes nothing else."""

import base64
import json
import time
from typing import Any

import cbor2
import libipld
import multiformats
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol import cbor
from relay.protocol.cbor import Link
from relay.protocol.cid import to_text
from relay.protocol.errors import CborError
from tests.support.handmade import canonical, cid, link
from tests.support.shared import shared_dir

CID = cid(b"anything")
RAW_CID = b"\x01\x55" + CID[2:]
LINK_HEX = "d82a582500" + CID.hex()

REFUSED = {
    # not shortest (checklist 80)
    "int in one byte too many": "1817",
    "int in two bytes": "190001",
    "int in four bytes": "1a0000ffff",
    "int in eight bytes": "1b00000000ffffffff",
    "negative int in one byte too many": "3800",
    "length of bytes": "580100",
    "length of text": "780161",
    "length of array": "980100",
    "length of map": "b801616100",
    "value inside a map": "a161611800",
    # indefinite (81)
    "indefinite array": "9fff",
    "indefinite map": "bfff",
    "indefinite bytes": "5fff",
    "indefinite text": "7fff",
    "lone break": "ff",
    # tags (82)
    "bignum": "c249010000000000000000",
    "small bignum": "c24101",
    "date": "c074323032352d30352d32365431363a31383a31375a",
    "shared reference": "82d81c80d81d00",
    "string reference": "d9010082634142430a",
    "self-described": "d9d9f700",
    "long form of tag 42": "d9002a582500" + CID.hex(),
    "tag 42 over text": "d82a6161",
    "tag 42 over tag 42": "d82a" + LINK_HEX,
    # keys (83)
    "int key": "a10000",
    "bytes key": "a1416100",
    "null key": "a1f600",
    "unsorted": "a2616201616100",
    "longer key first": "a262616101616201",
    "duplicate key": "a2616100616101",
    # simple values and floats (84)
    "undefined": "f7",
    "simple 0": "e0",
    "simple 255": "f8ff",
    "false in two bytes": "f814",
    "float16": "f93e00",
    "float32": "fa3fc00000",
    "float64": "fb3ff8000000000000",
    "float64 zero": "fb0000000000000000",
    "NaN": "fb7ff8000000000000",
    "infinity": "fb7ff0000000000000",
    "float in a map in an array": "81a16161fb3ff8000000000000",
    # text (85)
    "bad UTF-8": "62c328",
    "surrogate": "63eda080",
    "overlong UTF-8": "62c080",
    # one item (86)
    "nothing": "",
    "two items": "0000",
    "cut short in a map": "a16161",
    "cut short in bytes": "4261",
    "reserved length": "1c",
    # integers beyond 64 bit signed (section 6)
    "2**63": "1b8000000000000000",
    "2**64-1": "1bffffffffffffffff",
    "-2**63-1": "3b8000000000000000",
    "-2**64": "3bffffffffffffffff",
    "2**63 under the empty key": "a1601b8000000000000000",
    "2**63 under the empty key of an inner map": "a16161a1601b8000000000000000",
    # CIDs (82, 89, 90)
    "no null byte": "d82a5824" + CID.hex(),
    "another first byte": "d82a582501" + CID.hex(),
    "empty tag 42": "d82a40",
    "only a null byte": "d82a4100",
    "CIDv0": "d82a5823001220" + "00" * 32,
    "codec dag-pb": "d82a58250001701220" + "00" * 32,
    "blake3": "d82a58250001711e20" + "00" * 32,
    "identity hash": "d82a450001710000",
    "short digest": "d82a58240001711220" + "00" * 31,
    "long digest": "d82a58260001711221" + "00" * 33,
    "a byte after the CID": "d82a582600" + CID.hex() + "00",
}

ACCEPTED: dict[str, tuple[str, Any]] = {
    "zero": ("00", 0),
    "23": ("17", 23),
    "24": ("1818", 24),
    "2**63-1": ("1b7fffffffffffffff", 2**63 - 1),
    "-2**63": ("3b7fffffffffffffff", -(2**63)),
    "empty bytes": ("40", b""),
    "empty text": ("60", ""),
    "empty array": ("80", []),
    "empty map": ("a0", {}),
    "empty key": ("a16000", {"": 0}),
    "constants": ("83f4f5f6", [False, True, None]),
    "text not normalised": ("6365cc81", "e\u0301"),
    "NUL in text": ("6100", "\0"),
    "keys by length, then bytes": ("a4616101616202626161036361616104", {"a": 1, "b": 2, "aa": 3, "aaa": 4}),
    "keys by length in bytes": ("a3617a01627a7a0262c3a903", {"z": 1, "zz": 2, "é": 3}),
    "link": (LINK_HEX, Link(CID)),
    "raw link": ("d82a582500" + RAW_CID.hex(), Link(RAW_CID)),
    "bytes that are a CID": ("5824" + CID.hex(), CID),
    "bytes that are a CIDv0": ("58221220" + "00" * 32, b"\x12\x20" + bytes(32)),
    "bytes with the null byte of a link": ("582500" + CID.hex(), b"\0" + CID),
    "bytes that only start like a CID": ("4301711f", b"\x01\x71\x1f"),
    "link beside bytes alike": ("82" + LINK_HEX + "5824" + CID.hex(), [Link(CID), CID]),
}


def same(left: Any, right: Any) -> bool:
    """Equality that tells a link from bytes and a boolean from an integer."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


@pytest.mark.parametrize("encoded", REFUSED.values(), ids=REFUSED.keys())
def test_refuses(encoded: str) -> None:
    """Checklist 80 to 86, 89, 90 and 92, in the order of the table."""
    with pytest.raises(CborError):
        cbor.decode(bytes.fromhex(encoded))


@pytest.mark.parametrize("encoded", REFUSED.values(), ids=REFUSED.keys())
def test_refuses_beside_bytes_that_look_like_a_cid(encoded: str) -> None:
    """The second reader, which such bytes call for, is as strict as the first."""
    with pytest.raises(CborError):
        cbor.decode(b"\x82\x58\x24" + CID + bytes.fromhex(encoded))


@pytest.mark.parametrize(("encoded", "value"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_reads_and_writes(encoded: str, value: Any) -> None:
    data = bytes.fromhex(encoded)
    assert same(cbor.decode(data), value)
    assert cbor.encode(value) == data
    assert cbor.item_end(b"\xff" + data + b"\xff", 1) == 1 + len(data)


@pytest.mark.parametrize("near", [CID, b"\x12\x20" + bytes(32)], ids=["plain", "ambiguous"])
def test_nesting_bound(near: bytes) -> None:
    """32 levels pass and 33 do not, in both readers and in the writer."""
    value: Any = [near]
    for _ in range(31):
        value = [value]
    assert same(cbor.decode(canonical(value)), value)
    assert cbor.encode(value) == canonical(value)
    with pytest.raises(CborError):
        cbor.decode(canonical([value]))
    with pytest.raises(CborError):
        cbor.encode([value])


@pytest.mark.parametrize(
    "encoded",
    [
        b"\x81" * 10_000 + b"\x80",
        b"\xa1\x60" * 10_000 + b"\xa0",
        b"\xd8\x2a" * 10_000,
        b"\x81" * 4_000_000 + b"\x80",
        b"\x9a\xff\xff\xff\xff",
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff" + bytes(100_000),
        b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x7b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x9a\x00\x40\x00\x00" + b"\xa0" * 0x40_0000,
        b"\x9a\x00\x40\x00\x00" + b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff" + bytes(4_000_000),
    ],
    ids=range(11),
)
def test_bombs_are_refused_quickly(encoded: bytes) -> None:
    """Nesting, declared lengths and sheer number of items cost no more than a moment (checklist 87)."""
    began = time.process_time()
    for read in (cbor.decode, cbor.decode_fast, lambda data: cbor.decode(data + b"\0")):
        with pytest.raises(CborError):
            read(encoded)
    assert time.process_time() - began < 2


def test_as_many_items_as_allowed_are_read() -> None:
    encoded = cbor2.dumps([0] * 131_071)
    assert len(cbor.decode(encoded)) == 131_071
    with pytest.raises(CborError, match="too many items"):
        cbor.decode(cbor2.dumps([0] * 131_072))


@pytest.mark.parametrize("first", range(256))
def test_which_bytes_the_encoder_takes_for_a_cid(first: int) -> None:
    """Only bytes that start with 1 or 0x12 need a second look; a change of the library here would break `decode`."""
    tails = [CID[1:], CID[2:], b"\x20" + bytes(32), b"\0" + CID[1:], b"\x71\0\0", b"\x80\0" + CID[1:], b""]
    for tail in tails:
        if first not in (0x01, 0x12):
            assert libipld.encode_dag_cbor(bytes([first]) + tail)[0] >> 5 == 2


@pytest.mark.parametrize("first", [b"\x01", b"\x12"])
@given(rest=st.binary(max_size=40))
def test_byte_strings_stay_byte_strings(first: bytes, rest: bytes) -> None:
    """No byte string is refused or turned into a link, whatever it looks like (design section 9)."""
    value = {"a": first + rest, "b": Link(CID)}
    encoded = canonical({"a": first + rest, "b": link(CID)})
    assert same(cbor.decode(encoded), value)
    assert cbor.encode(value) == encoded


def test_wide_key() -> None:
    """Only the named key of the outermost map may go beyond signed 64 bit, and only upwards (design section 5)."""
    top = 2**64 - 1
    assert cbor.decode(canonical({"seq": top}), wide="seq") == {"seq": top}
    assert cbor.decode(canonical({"seq": top, "x": CID}), wide="seq") == {"seq": top, "x": CID}
    for value in ({"seq": -(2**63) - 1}, {"seq": [top]}, {"seqs": top}, {"a": {"seq": top}}, top, [top]):
        with pytest.raises(CborError):
            cbor.decode(canonical(value), wide="seq")
    with pytest.raises(CborError):
        cbor.decode(canonical({"seq": top}))


def test_decode_fast_reads_nodes() -> None:
    """Links come as plain bytes, and an input that is not reproduced is refused rather than guessed at."""
    encoded = canonical({"e": [{"k": b"key", "v": link(CID)}], "l": None})
    assert same(cbor.decode_fast(encoded), {"e": [{"k": b"key", "v": CID}], "l": None})
    for refused in (bytes.fromhex("1817"), canonical(CID), b"\x81\x81\x9f", encoded + b"\0", b""):
        with pytest.raises(CborError):
            cbor.decode_fast(refused)


@pytest.mark.parametrize("value", [1.5, [{"a": 0.0}], 2**63, [CID, 2**63], [CID, 1.5], {1, 2}, ("a",), object()])
def test_encode_refuses_what_the_data_model_lacks(value: Any) -> None:
    with pytest.raises(CborError):
        cbor.encode(value)


@pytest.mark.parametrize("key", ["seq", "a", "é", "zzzz", ""])
def test_encode_around_is_the_whole_map_cut_in_two(key: str) -> None:
    """For keys on both sides, of equal length, of more bytes than characters, and for maps of 23 to 300 pairs."""
    names = ["ops", "rev", "sep", "ser", "é", "éé", "b", "zzzzz", "did", "aé", *map(str, range(1000, 1300))]
    for count in (0, 1, 5, 10, 22, 23, 24, 254, 255, 256, 310):
        for stuff in (Link(CID), CID):
            fields: dict[str, Any] = {name: stuff for name in names[:count] if name != key}
            head, tail = cbor.encode_around(fields, key)
            tagged = {name: link(CID) if type(stuff) is Link else CID for name in fields}
            assert head + b"\x18\x2a" + tail == canonical({**tagged, key: 42})
            assert cbor.encode_around({**fields, key: [1.5]}, key) == (head, tail)


@pytest.mark.parametrize("encoded", ["", "18", "1b00", "5b00", "4261", "81", "a1", "a100", "d82a", "9bff"])
def test_item_end_of_a_cut_item(encoded: str) -> None:
    with pytest.raises(CborError):
        cbor.item_end(bytes.fromhex(encoded))


@pytest.mark.parametrize("initial", [major << 5 | low for major in range(8) for low in range(28, 32)])
def test_item_end_of_reserved_and_indefinite_lengths(initial: int) -> None:
    with pytest.raises(CborError, match="indefinite"):
        cbor.item_end(bytes([initial]) + bytes(100))


ATPROTO_REFUSES = {"64-bit floats only", "zero float64", "64-bit subnormal number", "Big DASL CID"}
BEYOND_SIGNED = {"largest CBOR integer, 2^64-1", "smallest CBOR integer, -(2^64)"}


def test_public_vectors() -> None:
    """All cases tagged for DAG-CBOR, with the exceptions that atproto makes (checklist appendix C)."""
    seen = 0
    for path in sorted((shared_dir() / "vectors" / "dag-cbor").glob("*.json")):
        for case in json.loads(path.read_text()):
            if not {"dag-cbor", "basic", "dasl-cid"} & set(case["tags"]) or case["type"] == "invalid_out":
                continue
            seen += 1
            data = bytes.fromhex(case["data"])
            if case["type"] == "roundtrip" and case["name"] not in ATPROTO_REFUSES | BEYOND_SIGNED:
                assert cbor.encode(cbor.decode(data)) == data, case["name"]
                continue
            with pytest.raises(CborError):
                cbor.decode(data)
    assert seen > 60


def _from_json(value: Any) -> Any:
    """The JSON form of the atproto data model."""
    if isinstance(value, dict):
        if value.keys() == {"$link"}:
            return Link(bytes(multiformats.CID.decode(value["$link"])))
        if value.keys() == {"$bytes"}:
            return base64.b64decode(value["$bytes"] + "==")
        return {key: _from_json(inner) for key, inner in value.items()}
    return [_from_json(inner) for inner in value] if isinstance(value, list) else value


def test_public_data_model_fixtures() -> None:
    """Encoding a known value gives the known bytes and CID (checklist 88)."""
    path = shared_dir() / "vectors" / "atproto" / "data-model" / "data-model-fixtures.json"
    for case in json.loads(path.read_text()):
        encoded = cbor.encode(_from_json(case["json"]))
        assert encoded == base64.b64decode(case["cbor_base64"] + "==")
        assert to_text(cid(encoded)) == case["cid"]


def test_own_known_answer() -> None:
    """Checklist 88: bytes written out by hand, and the CID of the empty tree as everybody knows it."""
    value = {"b": [1, -1, {"c": Link(CID)}], "a": b"\x01\x02", "aa": "é", "ab": None, "c": True}
    expected = "a5" + "6161420102" + "6162830120a16163" + LINK_HEX + "6163f5" + "62616162c3a9" + "626162f6"
    assert cbor.encode(value).hex() == expected
    assert cbor.decode(bytes.fromhex(expected)) == value
    empty_tree = cbor.encode({"l": None, "e": []})
    assert to_text(cid(empty_tree)) == "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"
