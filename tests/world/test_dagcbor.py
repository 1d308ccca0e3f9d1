"""The world's encoder against bytes written down by hand and against an independent decoder."""

import base64
import io
import json

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.world.dagcbor import Link, Value, cid_of, cid_text, encode
from tests.support.shared import shared_dir

EMPTY_NODE = bytes.fromhex("a2616580616cf6")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"t": "#commit", "op": 1}, "a2617467" + b"#commit".hex() + "626f7001"),
        ({"op": -1}, "a1626f7020"),
        ({"e": [], "l": None}, EMPTY_NODE.hex()),
        (
            [23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32],
            "88171818" + "18ff19010019ffff1a000100001affffffff1b0000000100000000",
        ),
        ([-1, -25, False, True, None, "", b""], "87203818f4f5f66040"),
        (Link(bytes(36)), "d82a582500" + "00" * 36),
    ],
)
def test_known_bytes(value: Value, expected: str) -> None:
    assert expected == encode(value).hex()


def test_known_cid() -> None:
    assert cid_text(cid_of(EMPTY_NODE)) == "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"


def test_map_keys_are_ordered_by_length_then_bytes() -> None:
    assert encode({"bb": 1, "a": 2, "é": 3, "ba": 4}) == b"\xa4\x61a\x02\x62ba\x04\x62bb\x01\x62\xc3\xa9\x03"


def test_floats_and_huge_integers_are_refused() -> None:
    with pytest.raises(TypeError):
        encode({"x": 1.5})  # type: ignore[dict-item]  # the point of the test
    with pytest.raises(OverflowError):
        encode(2**64)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_another_decoder_reads_back_what_was_encoded(value: Value) -> None:
    file = io.BytesIO(encode(value))

    assert cbor2.load(file) == value
    assert file.read() == b""


def test_data_model_fixtures() -> None:
    """The public encoder vectors: JSON form, bytes and CID of three values."""
    path = shared_dir() / "vectors/atproto/data-model/data-model-fixtures.json"
    for case in json.loads(path.read_text()):
        block = encode(_from_json(case["json"]))

        assert cid_text(cid_of(block)) == case["cid"]


def _from_json(value: object) -> Value:
    """The JSON form of the data model: `$link` and `$bytes` stand for CIDs and bytes."""
    match value:
        case {"$link": str(text)}:
            return Link(_unbase32(text))
        case {"$bytes": str(text)}:
            return base64.b64decode(text + "=" * (-len(text) % 4))
        case dict():
            return {key: _from_json(item) for key, item in value.items()}
        case list():
            return [_from_json(item) for item in value]
        case str() | int() | None:
            return value
        case _:
            raise AssertionError(value)


def _unbase32(text: str) -> bytes:
    padded = text[1:].upper() + "=" * (-(len(text) - 1) % 8)
    return base64.b32decode(padded)
