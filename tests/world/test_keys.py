"""Keys and signatures of the world, checked by OpenSSL for both curves and by the public key vectors."""

import hashlib
import json
import random

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from relay.world.keys import Curve, K256Key, P256Key, SigningKey, make_key, multikey
from tests.support.shared import shared_dir

CURVES: dict[Curve, ec.EllipticCurve] = {"k256": ec.SECP256K1(), "p256": ec.SECP256R1()}
HALF_ORDER: dict[Curve, int] = {
    "k256": 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0,
    "p256": 0x7FFFFFFF800000007FFFFFFFFFFFFFFFDE737D56D38BCF4279DCE5617E3192A8,
}


def openssl_verify(key: SigningKey, digest: bytes, sig: bytes) -> None:
    """Raises InvalidSignature unless OpenSSL finds `sig` (r then s) good."""
    point = ec.EllipticCurvePublicKey.from_encoded_point(CURVES[key.curve], key.point)
    der = encode_dss_signature(int.from_bytes(sig[:32], "big"), int.from_bytes(sig[32:], "big"))
    point.verify(der, digest, ec.ECDSA(Prehashed(hashes.SHA256())))


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_signatures_verify_and_are_low_s(curve: Curve) -> None:
    rng = random.Random(1)
    key = make_key(rng, curve)
    for number in range(40):
        digest = hashlib.sha256(bytes([number])).digest()
        sig = key.sign(digest)

        openssl_verify(key, digest, sig)
        assert len(sig) == 64
        assert 0 < int.from_bytes(sig[32:], "big") <= HALF_ORDER[curve]


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_a_signature_is_of_one_key_and_one_digest(curve: Curve) -> None:
    rng = random.Random(2)
    key, other = make_key(rng, curve), make_key(rng, curve)
    digest = hashlib.sha256(b"a").digest()
    for wrong_key, wrong_digest in ((other, digest), (key, hashlib.sha256(b"b").digest())):
        with pytest.raises(InvalidSignature):
            openssl_verify(wrong_key, wrong_digest, key.sign(digest))


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_one_seed_gives_one_key_and_one_signature(curve: Curve) -> None:
    digest = hashlib.sha256(b"a").digest()
    first, second = (make_key(random.Random(3), curve) for _ in range(2))

    assert multikey(first) == multikey(second)
    assert first.sign(digest) == second.sign(digest)


def test_multikeys_have_the_prefix_of_their_curve() -> None:
    rng = random.Random(4)

    assert multikey(make_key(rng, "k256")).startswith("zQ3sh")
    assert multikey(make_key(rng, "p256")).startswith("zDnae")


def test_known_multikeys() -> None:
    """The generators of both curves: secret key 1."""
    assert multikey(K256Key(1)) == "zQ3shVc2UkAfJCdc1TR8E66J85h48P43r93q8jGPkPpjF9Ef9"
    assert multikey(P256Key(1)) == "zDnaepsL7AXenJkVYdkh5KuKsSU7Ykh7kyXaLLU7auN9FWSiZ"


def test_did_key_vectors() -> None:
    """The public pairs of private key and did:key, both curves."""
    folder = shared_dir() / "vectors/atproto/crypto"
    for case in json.loads((folder / "w3c_didkey_K256.json").read_text()):
        assert "did:key:" + multikey(K256Key(int(case["privateKeyBytesHex"], 16))) == case["publicDidKey"]
    for case in json.loads((folder / "w3c_didkey_P256.json").read_text()):
        assert "did:key:" + multikey(P256Key(_base58_number(case["privateKeyBytesBase58"]))) == case["publicDidKey"]


def _base58_number(text: str) -> int:
    number = 0
    for char in text:
        number = number * 58 + "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz".index(char)
    return number
