"""Public keys in text: multikey and the legacy forms of DID documents (protocol.md section 10).

Owns the way from text to a point that is known to lie on its curve. Verifying signatures with it is
`relay.verify.signature`. Both curves of the network are here: K-256 (secp256k1) and P-256 (secp256r1).

base58btc comes from multiformats at about 50 µs a key, which is fine: a key is parsed when its DID document is read,
not when an event is verified. The curve check is done here in plain integers, so that this floor needs no crypto
library and a bad key is refused where it is read.
"""

from typing import Literal, NamedTuple

from multiformats import multibase

from relay.protocol import limits
from relay.protocol.errors import KeyFormatError

Curve = Literal["k256", "p256"]


class PublicKey(NamedTuple):
    """A point that lies on `curve`, compressed: `02` or `03`, then 32 bytes of x."""

    curve: Curve
    point: bytes


class _Parameters(NamedTuple):
    """y² = x³ + a·x + b over the integers modulo p. Both curves have odd order, so no point has y = 0."""

    p: int
    a: int
    b: int


# SEC 2 (secg.org), sections 2.4.1 and 2.4.2
_PARAMETERS: dict[Curve, _Parameters] = {
    "k256": _Parameters(p=2**256 - 2**32 - 977, a=0, b=7),
    "p256": _Parameters(
        p=2**256 - 2**224 + 2**192 + 2**96 - 1,
        a=-3,
        b=0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    ),
}
# Multicodec code as an unsigned varint (multiformats table: secp256k1-pub 0xe7, p256-pub 0x1200)
_CODEC: dict[Curve, bytes] = {"k256": b"\xe7\x01", "p256": b"\x80\x24"}
_LEGACY_CURVE: dict[str, Curve] = {
    "EcdsaSecp256k1VerificationKey2019": "k256",
    "EcdsaSecp256r1VerificationKey2019": "p256",
}


def parse_multikey(text: str) -> PublicKey:
    """Read `z` + base58btc(codec, compressed point) (checklist 152). Raises `KeyFormatError`, other curves included."""
    raw = _decode_base58btc(text)
    for curve, codec in _CODEC.items():
        if raw.startswith(codec):
            return _compressed(curve, raw[len(codec) :])
    raise KeyFormatError("not a key of a supported curve")


def parse_legacy(key_type: str, text: str) -> PublicKey:
    """Read `publicKeyMultibase` of a legacy verification method: the bare point without codec (checklist 153).

    The specification says uncompressed (65 bytes), public test data holds compressed ones (33 bytes): both are read.
    Raises `KeyFormatError`, unknown types included.
    """
    curve = _LEGACY_CURVE.get(key_type)
    if curve is None:
        raise KeyFormatError("not a legacy key type of a supported curve")
    raw = _decode_base58btc(text)
    return _uncompressed(curve, raw) if len(raw) == 65 else _compressed(curve, raw)


def _decode_base58btc(text: str) -> bytes:
    # base58 costs the square of its length, so the length is judged first.
    if not text.startswith("z") or len(text) > limits.MULTIKEY_CHARS_MAX:
        raise KeyFormatError("not a base58btc multibase key")
    try:
        return bytes(multibase.decode(text))
    except ValueError as error:
        raise KeyFormatError("not base58btc") from error


def _compressed(curve: Curve, point: bytes) -> PublicKey:
    if len(point) != 33 or point[0] not in (2, 3):
        raise KeyFormatError("not a compressed point")
    parameters = _PARAMETERS[curve]
    y_squared = _y_squared(parameters, int.from_bytes(point[1:], "big"))
    # Euler's criterion: a y exists exactly when y² is a square modulo p.
    if pow(y_squared, (parameters.p - 1) // 2, parameters.p) != 1:
        raise KeyFormatError("point is not on the curve")
    return PublicKey(curve, point)


def _uncompressed(curve: Curve, point: bytes) -> PublicKey:
    if point[0] != 4:
        raise KeyFormatError("not an uncompressed point")
    parameters = _PARAMETERS[curve]
    y = int.from_bytes(point[33:], "big")
    if y >= parameters.p or y * y % parameters.p != _y_squared(parameters, int.from_bytes(point[1:33], "big")):
        raise KeyFormatError("point is not on the curve")
    return PublicKey(curve, bytes([2 + (y & 1)]) + point[1:33])


def _y_squared(parameters: _Parameters, x: int) -> int:
    if x >= parameters.p:
        raise KeyFormatError("coordinate is beyond the field")
    return (x * x * x + parameters.a * x + parameters.b) % parameters.p
