"""Signing keys of simulated accounts: K-256 by coincurve, P-256 by OpenSSL, both deterministic and low-S.

Owns making a key from seeded randomness, signing a digest and the key's multikey text (protocol.md section 10).
Verifies nothing: that is `relay.verify.signature`, which this module never imports.
"""

import random
from typing import Literal, Protocol

import coincurve
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Curve = Literal["k256", "p256"]

_ORDER: dict[Curve, int] = {
    "k256": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    "p256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
}
_CODEC: dict[Curve, bytes] = {"k256": b"\xe7\x01", "p256": b"\x80\x24"}
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# Nonces by RFC 6979, so that one seed gives one signature; the digest is made by the caller.
_P256_SCHEME = ec.ECDSA(Prehashed(hashes.SHA256()), deterministic_signing=True)


class SigningKey(Protocol):
    """A private key of either curve. `point` is the compressed public point, 33 bytes."""

    curve: Curve
    point: bytes

    def sign(self, digest: bytes) -> bytes:
        """The 64 bytes r, s of a low-S signature over a 32-byte digest."""
        ...


class K256Key:
    """secp256k1, the curve of practically all accounts."""

    def __init__(self, secret: int) -> None:
        self.curve: Curve = "k256"
        self._private = coincurve.PrivateKey.from_int(secret)
        self.point: bytes = self._private.public_key.format(compressed=True)

    def sign(self, digest: bytes) -> bytes:
        """The compact form with its recovery byte cut off; libsecp256k1 always makes the low s."""
        recoverable: bytes = self._private.sign_recoverable(digest, hasher=None)
        return recoverable[:64]


class P256Key:
    """secp256r1, the other curve of the protocol."""

    def __init__(self, secret: int) -> None:
        self.curve: Curve = "p256"
        self._private = ec.derive_private_key(secret, ec.SECP256R1())
        self.point = self._private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)

    def sign(self, digest: bytes) -> bytes:
        """OpenSSL answers DER and either s; the lower of s and n - s is the one the protocol takes."""
        r, s = decode_dss_signature(self._private.sign(digest, _P256_SCHEME))
        low_s = min(s, _ORDER["p256"] - s)
        return r.to_bytes(32, "big") + low_s.to_bytes(32, "big")


def make_key(rng: random.Random, curve: Curve = "k256") -> SigningKey:
    """A new key of `curve`; its secret is drawn from `rng` alone."""
    secret = rng.randrange(1, _ORDER[curve])
    return K256Key(secret) if curve == "k256" else P256Key(secret)


def multikey(key: SigningKey) -> str:
    """The public key as `publicKeyMultibase` of a DID document: `z` and base58btc of codec and point."""
    return "z" + _base58(_CODEC[key.curve] + key.point)


def _base58(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(_BASE58[digit])
    return "".join(reversed(digits))
