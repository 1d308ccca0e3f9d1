"""`relay.verify.signature` by known answers: those of published standards, and the public vectors where present."""

import json
from base64 import b64decode
from hashlib import sha256
from typing import Any

import pytest

from relay.protocol.multikey import PublicKey, parse_multikey
from relay.verify.signature import is_canonical, verify_signature
from relay.world.keys import Curve
from tests.support.shared import shared_dir

ORDER = {
    "p256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "k256": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
}
# P-256: RFC 6979, A.2.5, "test" with SHA-256. K-256: the private key 1, whose point is the generator, with the nonce of
# RFC 6979, as many libraries carry it.
KEY = {
    "p256": PublicKey("p256", bytes.fromhex("0360fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6")),
    "k256": PublicKey("k256", bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")),
}
DIGEST = {"p256": sha256(b"test").digest(), "k256": sha256(b"Satoshi Nakamoto").digest()}
R = {
    "p256": 0xF1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367,
    "k256": 0x934B1EA10A4B3C1757E2B0C017D0B6143CE3C9A7E6A4A49860D7A6AB210EE3D8,
}
S = {
    "p256": 0x019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083,
    "k256": 0x2442CE9D2B916064108014783E923EC36B49743E2FFA1C4496F01A512AAFD9E5,
}
CURVES: tuple[Curve, ...] = ("p256", "k256")


def raw(r: int, s: int) -> bytes:
    return r.to_bytes(32) + s.to_bytes(32)


@pytest.mark.parametrize("curve", CURVES)
def test_a_known_signature_holds_for_its_key_and_its_digest_only(curve: Curve) -> None:
    """Checklist 128, 133, 136."""
    signature = raw(R[curve], S[curve])
    assert is_canonical(KEY[curve], signature)
    assert verify_signature(KEY[curve], DIGEST[curve], signature)

    assert not verify_signature(KEY[curve], sha256(b"else").digest(), signature)
    assert not verify_signature(KEY[curve], DIGEST[curve], raw(R[curve], S[curve] - 1))
    mirrored = bytes([KEY[curve].point[0] ^ 1]) + KEY[curve].point[1:]
    assert not verify_signature(PublicKey(curve, mirrored), DIGEST[curve], signature)


@pytest.mark.parametrize("curve", CURVES)
def test_the_other_s_of_a_known_signature_is_refused(curve: Curve) -> None:
    """Checklist 130, 131: it is as good to the curve. The border is half the order, for a low s of any key."""
    high = raw(R[curve], ORDER[curve] - S[curve])
    assert not verify_signature(KEY[curve], DIGEST[curve], high)
    assert not is_canonical(KEY[curve], high)
    assert is_canonical(KEY[curve], raw(R[curve], ORDER[curve] // 2))
    assert not is_canonical(KEY[curve], raw(R[curve], ORDER[curve] // 2 + 1))


@pytest.mark.parametrize("curve", CURVES)
def test_numbers_out_of_range_are_refused(curve: Curve) -> None:
    """Checklist 132: zero, the order, and beyond."""
    out_of_range = (0, ORDER[curve], ORDER[curve] + 1, 2**256 - 1)
    for number in out_of_range:
        for signature in (raw(number, S[curve]), raw(R[curve], number)):
            assert not is_canonical(KEY[curve], signature)
            assert not verify_signature(KEY[curve], DIGEST[curve], signature)
    assert is_canonical(KEY[curve], raw(ORDER[curve] - 1, 1))


@pytest.mark.parametrize("curve", CURVES)
def test_a_signature_is_64_bytes(curve: Curve) -> None:
    """Checklist 129: not a byte more or less, and not DER."""
    signature = raw(R[curve], S[curve])
    r, s = (b"\x02" + bytes([len(part)]) + part for part in (der_integer(R[curve]), der_integer(S[curve])))
    for other in (b"", signature[:-1], signature + b"\0", b"\x30" + bytes([len(r + s)]) + r + s):
        assert not is_canonical(KEY[curve], other)
        assert not verify_signature(KEY[curve], DIGEST[curve], other)


def der_integer(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1)


def public_signatures() -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads(
        (shared_dir() / "vectors/atproto/crypto/signature-fixtures.json").read_text()
    )
    return loaded


def test_public_signatures() -> None:
    """Checklist 128 to 131, 133, by the public vectors: each is what it is said to be."""
    fixtures = public_signatures()
    assert len(fixtures) == 6
    for fixture in fixtures:
        key = parse_multikey(fixture["publicKeyDid"].removeprefix("did:key:"))
        digest = sha256(unpadded(fixture["messageBase64"])).digest()
        valid = verify_signature(key, digest, unpadded(fixture["signatureBase64"]))
        assert valid is fixture["validSignature"], fixture["comment"]
        assert is_canonical(key, unpadded(fixture["signatureBase64"])) is fixture["validSignature"]


def unpadded(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4))
