"""`relay.protocol.cid`: the 36 bytes and the 59 characters."""

import base64

import multiformats
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol import cid
from relay.protocol.errors import CidError
from tests.support.shared import shared_dir

# The empty tree, two bytes of map and so on, as every atproto implementation knows it.
EMPTY_TREE = bytes.fromhex("a2616580616cf6")
EMPTY_TREE_TEXT = "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"
RAW_TEXT = "bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"


def test_known_cid() -> None:
    """Checklist 91: the text of a CID, both ways."""
    found = cid.cid_of(EMPTY_TREE)
    assert cid.to_text(found) == EMPTY_TREE_TEXT
    assert cid.from_text(EMPTY_TREE_TEXT) == found
    assert cid.is_dag_cbor_cid(found)


def test_raw_is_a_cid_but_not_of_a_repo_object() -> None:
    assert cid.to_text(cid.from_text(RAW_TEXT)) == RAW_TEXT
    assert not cid.is_dag_cbor_cid(cid.from_text(RAW_TEXT))


@given(digest=st.binary(min_size=32, max_size=32), prefix=st.sampled_from([cid.DAG_CBOR_PREFIX, cid.RAW_PREFIX]))
def test_text_agrees_with_multiformats(digest: bytes, prefix: bytes) -> None:
    text = cid.to_text(prefix + digest)
    assert len(text) == cid.CID_TEXT_CHARS
    assert bytes(multiformats.CID.decode(text)) == prefix + digest
    assert cid.from_text(text) == prefix + digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        EMPTY_TREE_TEXT[:-1],
        EMPTY_TREE_TEXT + "a",
        EMPTY_TREE_TEXT[:-1] + "n",  # the same bytes with stray last bits
        EMPTY_TREE_TEXT.upper(),
        "B" + EMPTY_TREE_TEXT[1:].upper(),
        EMPTY_TREE_TEXT[1:],
        " " + EMPTY_TREE_TEXT,
        EMPTY_TREE_TEXT + "\n",
        EMPTY_TREE_TEXT + "======",
        cid.to_text(cid.cid_of(b"") + bytes(4)),  # longer by a whole group of base32
        cid.to_text(cid.cid_of(b"")[:35]),
        "b" + "é" * 58,
        "z" + EMPTY_TREE_TEXT[1:],
        "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR",
        "zdj7WWeQ43G6JJvLWQWZpyHuAMq6uYWRjkBXFad11vE2LHhQ7",
        "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",  # dag-pb
        "bafkr4iccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity",  # blake3
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(CidError):
        cid.from_text(text)


@pytest.mark.parametrize(
    "data", [b"", cid.DAG_CBOR_PREFIX, b"\x12\x20" + bytes(32), cid.cid_of(b"")[:-1], cid.cid_of(b"") + b"\0"]
)
def test_other_bytes_are_no_cid_of_a_repo_object(data: bytes) -> None:
    assert not cid.is_dag_cbor_cid(data)


def test_public_invalid_texts() -> None:
    """None of the texts that are no CID string anywhere is one here, CIDv0 among them (checklist 92)."""
    path = shared_dir() / "vectors" / "atproto" / "syntax" / "cid_syntax_invalid.txt"
    for line in path.read_text().split("\n"):
        if line and not line.startswith("#"):
            with pytest.raises(CidError):
                cid.from_text(line)


@given(st.binary(min_size=36, max_size=36))
def test_text_is_the_base32_of_the_standard_library(data: bytes) -> None:
    assert cid.to_text(data) == "b" + base64.b32encode(data).decode().rstrip("=").lower()
