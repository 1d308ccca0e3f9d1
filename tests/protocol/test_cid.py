"""`relay.protocol.cid`: the 36 bytes and the 59 characters."""

import base64

import multiformats
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol import cid

# The empty tree, two bytes of map and so on, as every atproto implementation knows it.
EMPTY_TREE = bytes.fromhex("a2616580616cf6")
EMPTY_TREE_TEXT = "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"
RAW = bytes.fromhex("01551220" + "4258cfff78f613697697563f926c91e5d3574d2ea25ae7ed92d6ebfc23a3889e")
RAW_TEXT = "bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"


def test_known_cid() -> None:
    """Checklist 91: the text of a CID."""
    found = cid.cid_of(EMPTY_TREE)
    assert cid.to_text(found) == EMPTY_TREE_TEXT
    assert cid.is_dag_cbor_cid(found)


def test_raw_is_a_cid_but_not_of_a_repo_object() -> None:
    assert cid.to_text(RAW) == RAW_TEXT
    assert not cid.is_dag_cbor_cid(RAW)


@given(digest=st.binary(min_size=32, max_size=32), prefix=st.sampled_from([cid.DAG_CBOR_PREFIX, cid.RAW_PREFIX]))
def test_text_agrees_with_multiformats(digest: bytes, prefix: bytes) -> None:
    text = cid.to_text(prefix + digest)
    assert len(text) == cid.CID_TEXT_CHARS
    assert bytes(multiformats.CID.decode(text)) == prefix + digest


@pytest.mark.parametrize(
    "data", [b"", cid.DAG_CBOR_PREFIX, b"\x12\x20" + bytes(32), cid.cid_of(b"")[:-1], cid.cid_of(b"") + b"\0"]
)
def test_other_bytes_are_no_cid_of_a_repo_object(data: bytes) -> None:
    assert not cid.is_dag_cbor_cid(data)


@given(st.binary(min_size=36, max_size=36))
def test_text_is_the_base32_of_the_standard_library(data: bytes) -> None:
    assert cid.to_text(data) == "b" + base64.b32encode(data).decode().rstrip("=").lower()
