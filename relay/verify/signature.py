"""ECDSA over the two curves of the network: 64-byte low-S signatures, prehashed (protocol.md section 10).

The only module that imports a signature library. K-256 goes to libsecp256k1 through coincurve, because OpenSSL takes
nine times as long there; P-256, which OpenSSL does quickest, goes to `cryptography`. Parsed keys are kept, keyed by
their bytes: parsing a point costs a square root, and an active account signs with one key for months.

coincurve's own `verify` takes DER, and to make DER of 64 bytes only to have it parsed again costs a seventh of the
check itself. So its C functions are called as it calls them.
"""

from functools import lru_cache

import coincurve
from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from relay.protocol.multikey import PublicKey

SIGNATURE_BYTES = 64
PARSED_KEYS_MAX = 65_536

_ORDER = {
    "k256": 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141,
    "p256": 0xFFFFFFFF_00000000_FFFFFFFF_FFFFFFFF_BCE6FAAD_A7179E84_F3B9CAC2_FC632551,
}
_HALF_ORDER = {curve: order // 2 for curve, order in _ORDER.items()}
_PREHASHED = ec.ECDSA(Prehashed(SHA256()))


def is_canonical(key: PublicKey, signature: bytes) -> bool:
    """Whether `signature` is r and s of 32 bytes each with 0 < r < n and 0 < s <= n/2 (checklist 129 to 132).

    Libraries accept high-S signatures, DER or both; the protocol accepts neither, for either curve.
    """
    if len(signature) != SIGNATURE_BYTES:
        return False
    r = int.from_bytes(signature[:32])
    s = int.from_bytes(signature[32:])
    return 0 < r < _ORDER[key.curve] and 0 < s <= _HALF_ORDER[key.curve]


def verify_signature(key: PublicKey, digest: bytes, signature: bytes) -> bool:
    """Whether `key` signed the 32-byte SHA-256 `digest`. False for every signature that is not canonical."""
    if key.curve == "k256":
        return len(signature) == SIGNATURE_BYTES and _verify_k256(key.point, digest, signature)
    if not is_canonical(key, signature):
        return False
    der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    try:
        _p256_key(key.point).verify(der, digest, _PREHASHED)
    except InvalidSignature:
        return False
    return True


def _verify_k256(point: bytes, digest: bytes, signature: bytes) -> bool:
    """The library itself refuses numbers from n upwards when it parses, and zeros and a high s when it verifies."""
    assert len(digest) == 32, "a SHA-256"
    parsed = ffi.new("secp256k1_ecdsa_signature *")
    context = GLOBAL_CONTEXT.ctx
    if not lib.secp256k1_ecdsa_signature_parse_compact(context, parsed, signature):
        return False
    return bool(lib.secp256k1_ecdsa_verify(context, parsed, digest, _k256_key(point).public_key))


@lru_cache(maxsize=PARSED_KEYS_MAX)
def _k256_key(point: bytes) -> coincurve.PublicKey:
    return coincurve.PublicKey(point)


@lru_cache(maxsize=PARSED_KEYS_MAX)
def _p256_key(point: bytes) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
