"""`relay.protocol.car`: the container, and that every block hashes to its CID."""

import json
from base64 import b64decode
from hashlib import blake2s, sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol.car import parse_car
from relay.protocol.errors import BlockHashMismatch, CarError
from relay.protocol.frame import MessageFrame, parse_frame
from relay.world.corpus import read_frames
from tests.support.handmade import BLOCK, SLICE, canonical, car, cid, link, section, varint
from tests.support.shared import shared_dir

ROOT = cid(BLOCK)
OTHER = canonical({"another": "block"})


def with_header(header: bytes, *sections: bytes) -> bytes:
    return varint(len(header)) + header + b"".join(sections)


def roots(*cids: bytes, **more: object) -> bytes:
    return canonical({"roots": [link(one) for one in cids], "version": 1} | more)


def raw_cid(block: bytes) -> bytes:
    return b"\x01\x55\x12\x20" + sha256(block).digest()


def test_one_block() -> None:
    assert parse_car(SLICE) == (ROOT, {ROOT: BLOCK})


def test_the_usual_header_has_its_known_bytes() -> None:
    """58 bytes behind the varint 3a (protocol.md section 5), so that the fast path is the one being tested here."""
    assert SLICE.startswith(bytes.fromhex("3aa265726f6f747381d82a582500") + ROOT + b"\x67version\x01")


def test_extra_roots_and_header_keys_are_tolerated() -> None:
    """The first root counts (checklist 97)."""
    for header in (
        roots(ROOT, cid(OTHER)),
        roots(ROOT, ROOT),
        roots(ROOT, raw_cid(b"")),
        roots(ROOT, note=["x", b"\x01"]),
    ):
        assert parse_car(with_header(header, section(ROOT, BLOCK))) == (ROOT, {ROOT: BLOCK})


def test_no_blocks_at_all_is_a_car() -> None:
    """Whether the root is there is not the container's matter."""
    assert parse_car(car(ROOT)) == (ROOT, {})
    assert parse_car(car(ROOT, OTHER)) == (ROOT, {cid(OTHER): OTHER})


def test_duplicates_strays_and_empty_blocks_are_tolerated() -> None:
    """Checklist 99 and 100; a section of exactly 36 bytes holds an empty block."""
    assert parse_car(car(ROOT, BLOCK, OTHER, BLOCK, b"")).blocks == {ROOT: BLOCK, cid(OTHER): OTHER, cid(b""): b""}


@given(st.permutations([bytes([n]) * n * 40 for n in range(9)]))
def test_any_order_of_blocks(blocks: list[bytes]) -> None:
    """Checklist 98, with sections whose varints have one and two bytes."""
    assert parse_car(car(ROOT, *blocks)) == (ROOT, {cid(block): block for block in blocks})


@pytest.mark.parametrize("size", [0, 1, 91, 92, 16_347, 16_348, 2_097_115, 2_097_116])
def test_sections_on_both_sides_of_a_varint_border(size: int) -> None:
    """The length counts the CID too, so the borders 127, 16,383 and 2,097,151 lie 36 bytes earlier."""
    block = bytes(size)
    assert parse_car(car(ROOT, BLOCK, block, OTHER)).blocks == {ROOT: BLOCK, cid(block): block, cid(OTHER): OTHER}


def test_a_stray_raw_block_is_tolerated_and_verified() -> None:
    name = raw_cid(b"blob")
    assert parse_car(SLICE + section(name, b"blob")).blocks == {ROOT: BLOCK, name: b"blob"}
    with pytest.raises(BlockHashMismatch):
        parse_car(SLICE + section(name, b"blub"))


@pytest.mark.parametrize("at", [0, 1, len(BLOCK) - 1])
def test_a_flipped_byte_is_a_hash_mismatch(at: int) -> None:
    """Checklist 101."""
    wrong = bytearray(BLOCK)
    wrong[at] ^= 1
    with pytest.raises(BlockHashMismatch):
        parse_car(car(ROOT, OTHER) + section(ROOT, bytes(wrong)))


def test_a_flipped_bit_of_a_digest_is_a_hash_mismatch() -> None:
    for at in range(4, 36):
        name = bytearray(ROOT)
        name[at] ^= 0x80
        with pytest.raises(BlockHashMismatch):
            parse_car(car(ROOT, OTHER) + section(bytes(name), BLOCK))


REFUSED = {
    # headers (checklist 95)
    "nothing": b"",
    "empty header": b"\x00",
    "empty header before a section": b"\x00" + section(ROOT, BLOCK),
    "version 2": with_header(roots(ROOT, version=2), section(ROOT, BLOCK)),
    "version true": with_header(roots(ROOT, version=True), section(ROOT, BLOCK)),
    "version as text": with_header(roots(ROOT, version="1"), section(ROOT, BLOCK)),
    "no version": with_header(canonical({"roots": [link(ROOT)]}), section(ROOT, BLOCK)),
    "no roots": with_header(canonical({"version": 1}), section(ROOT, BLOCK)),
    "roots empty": with_header(roots(), section(ROOT, BLOCK)),
    "roots null": with_header(canonical({"roots": None, "version": 1}), section(ROOT, BLOCK)),
    "roots a map": with_header(canonical({"roots": {"a": link(ROOT)}, "version": 1}), section(ROOT, BLOCK)),
    "root not a link": with_header(canonical({"roots": [ROOT], "version": 1}), section(ROOT, BLOCK)),
    "second root not a link": with_header(canonical({"roots": [link(ROOT), 1], "version": 1}), section(ROOT, BLOCK)),
    "root raw": with_header(roots(raw_cid(BLOCK)), section(ROOT, BLOCK)),
    "root a CIDv0": with_header(roots(b"\x12\x20" + ROOT[4:]), section(ROOT, BLOCK)),
    "header an array": with_header(canonical([link(ROOT)]), section(ROOT, BLOCK)),
    "header not CBOR": with_header(b"\xff" * 58, section(ROOT, BLOCK)),
    "header with two items": with_header(roots(ROOT) + b"\x00", section(ROOT, BLOCK)),
    "header not canonical": with_header(roots(ROOT)[:-1] + b"\x18\x01", section(ROOT, BLOCK)),
    "header cut short": SLICE[:58],
    "header whole but declared longer": b"\x3b" + SLICE[1:59],
    "header varint cut short": b"\x80",
    "header varint overlong": b"\xba\x00" + SLICE[1:],
    "header beyond the data": b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + SLICE[1:],
    # sections (checklist 102)
    "section of length 0": SLICE + b"\x00",
    "section of length 35": SLICE + b"\x23" + ROOT[:35],
    "section of length 35 before more": SLICE + b"\x23" + ROOT[:35] + section(ROOT, BLOCK),
    "section cut short": SLICE[:-1],
    "CID cut short": SLICE + b"\x24" + ROOT[:20],
    "nothing after a length": SLICE + b"\x24",
    "length beyond the data": SLICE + b"\xff\xff\xff\x7f" + ROOT,
    "varint cut short": SLICE + b"\xff",
    "varint overlong": SLICE + b"\xa4\x00" + ROOT[:4] + sha256(b"").digest(),
    "varint overlong zeros": SLICE + b"\x80\x80\x00" + section(ROOT, BLOCK),
    "varint of ten bytes": SLICE + b"\x80" * 9 + b"\x01" + section(ROOT, BLOCK),
    "varint without an end": SLICE + b"\x80" * 100_000,
    # CIDs of other kinds, whose blocks we could not verify
    "CIDv0": SLICE + section(b"\x12\x20" + ROOT[4:], BLOCK + bytes(8)),
    "dag-pb": SLICE + section(b"\x01\x70\x12\x20" + ROOT[4:], BLOCK),
    "blake2s": SLICE + section(b"\x01\x71\xe0\xe4\x02\x20" + blake2s(BLOCK).digest(), BLOCK),
    "another hash of 32 bytes": SLICE + section(b"\x01\x71\x1e\x20" + ROOT[4:], BLOCK),
    "identity": SLICE + section(b"\x01\x71\x00\x20" + bytes(32), b""),
    "version 2 CID": SLICE + section(b"\x02" + ROOT[1:], BLOCK),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_refuses(data: bytes) -> None:
    """Checklist 95, 102: headers and sections."""
    with pytest.raises(CarError) as caught:
        parse_car(data)
    assert type(caught.value) is CarError, "a fault of form is not counted as a hash mismatch"


def test_every_truncation_is_refused_but_at_borders() -> None:
    data = car(ROOT, BLOCK, OTHER)
    borders = {59: 0, 59 + len(section(ROOT, BLOCK)): 1, len(data): 2}
    for end in range(len(data) + 1):
        if end in borders:
            assert len(parse_car(data[:end]).blocks) == borders[end]
        else:
            with pytest.raises(CarError):
                parse_car(data[:end])


@pytest.mark.parametrize("name", ["bulk-k256.frames", "scenario-k256.frames"])
def test_recorded_slices(name: str) -> None:
    """Every slice of a real PDS parses, holds its root, and comes out with all its bytes accounted for."""
    for recorded in read_frames(shared_dir() / "corpus" / name):
        frame = parse_frame(recorded)
        if isinstance(frame, MessageFrame) and "blocks" in frame.payload:
            found = parse_car(frame.payload["blocks"])
            assert found.root in found.blocks
            assert car(found.root, *found.blocks.values()) == frame.payload["blocks"]


def test_public_commit_proofs_have_dag_cbor_cids_only() -> None:
    """The CIDs that public fixtures expect in slices are of the one kind that names nodes and records here."""
    path = shared_dir() / "vectors" / "atproto" / "firehose" / "commit-proof-fixtures.json"
    for case in json.loads(path.read_text()):
        assert all(text.startswith("bafyrei") for text in case["blocksInProof"])


def test_a_slice_kept_as_base64() -> None:
    """A whole small slice as its known bytes: a header and one block."""
    data = b64decode(
        "OqJlcm9vdHOB2CpYJQABcRIgMVvDZPRaKam5sbzjmKpxHZUl8pWqQe6FgTFlfDZXHkdndmVyc2lvbgEy"
        "AXESIDFbw2T0WimpubG845iqcR2VJfKVqkHuhYExZXw2Vx5HoWRtYWRlZ2J5IGhhbmQ="
    )
    root = bytes.fromhex("01711220315bc364f45a29a9b9b1bce398aa711d9525f295aa41ee858131657c36571e47")
    assert parse_car(data) == (root, {root: b"\xa1\x64made\x67by hand"})
