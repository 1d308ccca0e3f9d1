"""`relay.protocol.multikey`: public keys of both curves, in all their spellings, and what is none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiformats import multibase

from relay.protocol import multikey
from relay.protocol.errors import KeyFormatError
from relay.protocol.multikey import Curve, PublicKey
from relay.world.keys import K256Key, P256Key
from tests.support.shared import shared_dir

# The public key of the private key 12345678901234567890 on each curve, as OpenSSL writes it.
K256_X = "99c126da20397558f23658764c3a7c583db7ff706e93981cc170e27ca8336201"
K256_Y = "3751007f028f021b4a1ff42ac6d29166c6bce10f5ccb2ea5370f7f5ba5b7296c"
P256_X = "3ed7a28ec648edce5d5b7e252f6b2aafbb44835114a24b3caa8f710f64993bc2"
P256_Y = "5711a34cdc9229080b639f09977feb7ca91ecce1649bfea8ad85c72b206ade7e"
K256 = PublicKey("k256", bytes.fromhex("02" + K256_X))
P256 = PublicKey("p256", bytes.fromhex("02" + P256_X))
K256_TYPE = "EcdsaSecp256k1VerificationKey2019"
P256_TYPE = "EcdsaSecp256r1VerificationKey2019"


def z(hex_text: str) -> str:
    """base58btc multibase of bytes."""
    return str(multibase.encode(bytes.fromhex(hex_text), "base58btc"))


@pytest.mark.parametrize(
    ("text", "curve", "point"),
    [
        (
            "zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
            "k256",
            "03874c15c7fda20e539c6e5ba573c139884c351188799f5458b4b41f7924f235cd",
        ),
        (
            "zDnaeTiq1PdzvZXUaMdezchcMJQpBdH2VN4pgrrEhMCCbmwSb",
            "p256",
            "0230e4d86041888fcce87bc49a07f35e256124" + "25a2545aafa08b649c981cfa8104",
        ),
    ],
)
def test_known_multikeys(text: str, curve: str, point: str) -> None:
    """Prefixes e7 01 and 80 24 (checklist 152)."""
    assert multikey.parse_multikey(text) == (curve, bytes.fromhex(point))


@pytest.mark.parametrize("curve", ["k256", "p256"])
def test_multikey_vectors(curve: Curve) -> None:
    """The public did:keys, read without their `did:key:`, are the points of their private keys (checklist 152)."""
    path = shared_dir() / "vectors" / "atproto" / "crypto" / f"w3c_didkey_{curve.upper()}.json"
    cases = json.loads(path.read_bytes())
    assert cases
    for case in cases:
        assert multikey.parse_multikey(multikey_of(case["publicDidKey"])) == (curve, point_of(curve, case))


def multikey_of(did_key: str) -> str:
    assert did_key.startswith("did:key:")
    return did_key.removeprefix("did:key:")


def point_of(curve: Curve, case: dict[str, str]) -> bytes:
    """The compressed public point of the private key in a vector, by another library."""
    if curve == "k256":
        return K256Key(int(case["privateKeyBytesHex"], 16)).point
    return P256Key(int.from_bytes(multibase.decode("z" + case["privateKeyBytesBase58"]))).point


def test_legacy_vectors_name_the_key_of_their_did_key() -> None:
    """The public file has compressed points in its legacy field (checklist 153)."""
    path = shared_dir() / "vectors" / "atproto" / "crypto" / "signature-fixtures.json"
    cases = json.loads(path.read_bytes())
    assert cases
    for case in cases:
        legacy = multikey.parse_legacy(case["didDocSuite"], case["publicKeyMultibase"])
        assert legacy == multikey.parse_multikey(multikey_of(case["publicKeyDid"]))


def test_a_key_of_more_than_128_characters_is_not_decoded() -> None:
    """Decoding base58 costs the square of the length."""
    with pytest.raises(KeyFormatError, match="compressed point"):
        multikey.parse_legacy(K256_TYPE, "z" + "1" * 127)
    with pytest.raises(KeyFormatError, match="not a base58btc"):
        multikey.parse_legacy(K256_TYPE, "z" + "1" * 128)


@pytest.mark.parametrize(
    ("key_type", "hex_text", "key"),
    [
        (K256_TYPE, "02" + K256_X, K256),
        (K256_TYPE, "04" + K256_X + K256_Y, K256),
        (P256_TYPE, "02" + P256_X, P256),
        (P256_TYPE, "04" + P256_X + P256_Y, P256),
    ],
)
def test_legacy_keys_of_33_and_65_bytes(key_type: str, hex_text: str, key: PublicKey) -> None:
    assert multikey.parse_legacy(key_type, z(hex_text)) == key


def test_odd_y_is_compressed_to_03() -> None:
    field = 2**256 - 2**32 - 977
    mirrored = f"{field - int(K256_Y, 16):064x}"
    assert multikey.parse_legacy(K256_TYPE, z("04" + K256_X + mirrored)).point[0] == 3


FIELD_K256 = f"{2**256 - 2**32 - 977:064x}"
NO_POINT = f"{5:064x}"  # 5**3 + 7 = 132 has no square root modulo the field of K-256


@pytest.mark.parametrize(
    "text",
    [
        "",
        "z",
        "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",  # no multikey: the prefix is too much
        "fe70102" + K256_X,  # base16 multibase
        z("e70102" + K256_X) + "0",  # 0 is not in the alphabet
        z("e70102" + K256_X) + "\n",
        z("e701" + "02" + K256_X + "00"),
        z("e701" + "02" + K256_X[2:]),
        z("e701" + "04" + K256_X),
        z("e701" + "04" + K256_X + K256_Y),  # a multikey is compressed
        z("e701" + "00"),  # infinity
        z("e701" + "02" + NO_POINT),
        z("e701" + "02" + FIELD_K256),
        z("e701" + "03" + "ff" * 32),
        z("8024" + "02" + K256_X),  # a point of the other curve, which is not on this one
        z("ed01" + K256_X),  # ed25519 (checklist 154)
        "z" + "2" * 200,
    ],
)
def test_not_a_multikey(text: str) -> None:
    with pytest.raises(KeyFormatError):
        multikey.parse_multikey(text)


@pytest.mark.parametrize(
    ("key_type", "hex_text"),
    [
        ("Ed25519VerificationKey2018", "02" + K256_X),
        ("Multikey", "02" + K256_X),
        (K256_TYPE, "e70102" + K256_X),
        (K256_TYPE, "04" + K256_X + P256_Y),
        (K256_TYPE, "06" + K256_X + K256_Y),
        (K256_TYPE, "04" + K256_X + "ff" * 32),
        (P256_TYPE, "04" + K256_X + K256_Y),
        (P256_TYPE, "02" + "ff" * 32),
        (P256_TYPE, ""),
    ],
)
def test_not_a_legacy_key(key_type: str, hex_text: str) -> None:
    with pytest.raises(KeyFormatError):
        multikey.parse_legacy(key_type, z(hex_text) if hex_text else "z")


def test_no_point_is_off_the_curve_by_euler() -> None:
    """The constant of the cases above is what it claims to be."""
    field = 2**256 - 2**32 - 977
    assert pow(5**3 + 7, (field - 1) // 2, field) == field - 1


@given(st.text(max_size=140) | st.text("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", max_size=140))
def test_any_text_is_a_key_or_a_key_format_error(text: str) -> None:
    for parse in (multikey.parse_multikey, lambda t: multikey.parse_legacy(K256_TYPE, t)):
        for candidate in (text, "z" + text):
            try:
                key = parse(candidate)
            except KeyFormatError:
                continue
            assert len(key.point) == 33
