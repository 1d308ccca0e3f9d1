"""`relay.protocol.diddoc`: what is taken from a DID document, and what is not (checklist 149-156)."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol import multikey
from relay.protocol.diddoc import DidDocument, normalise_host, parse_did_document
from relay.protocol.errors import DidDocumentError
from tests.support.shared import shared_dir

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
KEY_TEXT = "zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme"
OTHER_KEY_TEXT = "zDnaeTiq1PdzvZXUaMdezchcMJQpBdH2VN4pgrrEhMCCbmwSb"
KEY = multikey.parse_multikey(KEY_TEXT)
OTHER_KEY = multikey.parse_multikey(OTHER_KEY_TEXT)
ED25519_TEXT = "z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"


def method(**changes: Any) -> dict[str, Any]:
    usual = {"id": f"{DID}#atproto", "type": "Multikey", "controller": DID, "publicKeyMultibase": KEY_TEXT}
    return usual | changes


def service(**changes: Any) -> dict[str, Any]:
    usual = {
        "id": "#atproto_pds",
        "type": "AtprotoPersonalDataServer",
        "serviceEndpoint": "https://pds.example.com",
    }
    return usual | changes


def document(**changes: Any) -> dict[str, Any]:
    usual = {
        "@context": ["https://www.w3.org/ns/did/v1"],
        "id": DID,
        "alsoKnownAs": ["at://atproto.com"],
        "verificationMethod": [method()],
        "service": [service()],
    }
    return usual | changes


def read(allow_http: bool = False, **changes: Any) -> DidDocument:
    return parse_did_document(DID, msgspec.json.encode(document(**changes)), allow_http=allow_http)


def test_usual_document() -> None:
    expected = DidDocument(DID, KEY, "https://pds.example.com")
    assert read() == expected
    assert parse_did_document(DID, document()) == expected, "decoded JSON does as well"


def test_recorded_documents() -> None:
    for name in ("bulk-k256.dids.json", "scenario-k256.dids.json"):
        found = json.loads((shared_dir() / "corpus" / name).read_bytes())
        assert found
        for did, body in found.items():
            parsed = parse_did_document(did, json.dumps(body).encode(), allow_http=True)
            assert parsed.key is not None
            assert parsed.pds in ("http://localhost:2583", "http://localhost:2584")
            assert parse_did_document(did, body).pds is None, "http only when allowed"


@pytest.mark.parametrize("did", ["did:plc:ewvi7nxzyoun6zhxrhs64oia", DID.upper(), DID + " "])
def test_id_must_be_the_did_asked_for(did: str) -> None:
    """Checklist 149."""
    with pytest.raises(DidDocumentError):
        read(id=did)


@pytest.mark.parametrize(
    "methods",
    [
        [method()],
        [method(id="#atproto")],  # relative (checklist 151)
        [method(controller="did:plc:other"), method()],
        [method(id="#atproto_label", publicKeyMultibase=OTHER_KEY_TEXT), method()],
        [method(publicKeyMultibase=ED25519_TEXT), method()],  # first *valid* one
        [method(publicKeyMultibase=None), method()],
        [method(type="JsonWebKey2020"), method()],
        [method(), method(publicKeyMultibase=OTHER_KEY_TEXT)],  # later ones are ignored
        ["not a map", None, 1, {"id": "#atproto"}, method()],
    ],
)
def test_first_valid_key(methods: list[Any]) -> None:
    """Checklist 150, 151."""
    assert read(verificationMethod=methods).key == KEY


@pytest.mark.parametrize(
    "methods",
    [
        [],
        None,
        [method(id="did:plc:other#atproto")],
        [method(id="atproto")],
        [method(id=f"{DID}#ATPROTO")],
        [method(id=f"{DID}#x#atproto")],
        [method(controller="did:plc:other")],
        [method(type="multikey")],
        [method(publicKeyMultibase=ED25519_TEXT)],  # checklist 154
        [method(publicKeyMultibase="did:key:" + KEY_TEXT)],
    ],
)
def test_no_key(methods: list[Any] | None) -> None:
    """Checklist 154, 156: the rest of the document is still read; what follows is decided elsewhere."""
    assert read(verificationMethod=methods) == DidDocument(DID, None, "https://pds.example.com")


def test_legacy_key_types() -> None:
    """Compressed, as in the public signature vectors; without a codec it is no Multikey (checklist 153)."""
    legacy = method(type="EcdsaSecp256r1VerificationKey2019", publicKeyMultibase=_bare(OTHER_KEY.point))
    assert read(verificationMethod=[legacy]).key == OTHER_KEY
    assert read(verificationMethod=[legacy | {"type": "Multikey"}]).key is None


def _bare(point: bytes) -> str:
    from multiformats import multibase

    return str(multibase.encode(point, "base58btc"))


@pytest.mark.parametrize(
    ("endpoint", "pds"),
    [
        ("https://pds.example.com", "https://pds.example.com"),
        ("https://PDS.Example.com", "https://pds.example.com"),
        ("HTTPS://pds.example.com:443", "https://pds.example.com"),
        ("https://pds.example.com:8443", "https://pds.example.com:8443"),
        ("https://pds.example.com/", "https://pds.example.com"),
    ],
)
def test_pds_is_a_bare_origin(endpoint: str, pds: str) -> None:
    """Checklist 155, 165."""
    assert read(service=[service(serviceEndpoint=endpoint)]).pds == pds


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://pds.example.com/xrpc",
        "https://pds.example.com//",
        "https://user@pds.example.com",
        "https://user:secret@pds.example.com",
        "https://pds.example.com?x=1",
        "https://pds.example.com/?",
        "https://pds.example.com#x",
        "https://pds.example.com:0",
        "https://pds.example.com:65536",
        "https://pds.example.com:",
        "https://pds..example.com",
        "https://-pds.example.com",
        "https://pds.example.com\n",
        "https://pds.example.com\\@other.example.com",
        "https://",
        "https:///x",
        "ftp://pds.example.com",
        "http://pds.example.com",
        "wss://pds.example.com",
        "pds.example.com",
        "https://p\u212as.example.com",
        "",
        None,
        1,
        {"uri": "https://pds.example.com"},
        ["https://pds.example.com"],
    ],
)
def test_no_pds(endpoint: Any) -> None:
    """The rest of the document is still read (checklist 155, 156)."""
    found = read(service=[service(serviceEndpoint=endpoint), service()])
    assert found == DidDocument(DID, KEY, None), "and a later service does not step in"


def test_http_only_when_allowed() -> None:
    services = [service(serviceEndpoint="http://localhost:2583")]
    assert read(service=services).pds is None
    assert read(service=services, allow_http=True).pds == "http://localhost:2583"


@pytest.mark.parametrize(
    "services",
    [
        [service(id=f"{DID}#atproto_pds")],
        [service(id="#bsky_notif", serviceEndpoint="https://other.example.com"), service()],
        [service(type="Other", serviceEndpoint="https://other.example.com"), service()],
        [None, "x", {"id": "#atproto_pds"}, service()],
    ],
)
def test_pds_service_is_found_by_id_and_type(services: list[Any]) -> None:
    """Checklist 151, 155."""
    assert read(service=services).pds == "https://pds.example.com"


@pytest.mark.parametrize("services", [[], None, [service(id="did:plc:other#atproto_pds")], [service(type="Pds")]])
def test_no_pds_service(services: list[Any] | None) -> None:
    """Checklist 155, 156."""
    assert read(service=services).pds is None


def test_absent_parts() -> None:
    assert parse_did_document(DID, {"id": DID}) == DidDocument(DID, None, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"did"',
        b'{"id":1}',
        b'{"id":null}',
        b"\xff",
        b'{"id":"\xff"}',
        b'{"id":"\\ud800"}',
        b'{"id":"' + DID.encode() + b'","service":{}}',
        b'{"id":"' + DID.encode() + b'"} x',
        b'{"id":"' + DID.encode() + b'","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[" * 100_000,
    ],
)
def test_not_a_document(body: bytes) -> None:
    with pytest.raises(DidDocumentError):
        parse_did_document(DID, body)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(["verificationMethod", "service", "alsoKnownAs", "id"]), JSON_VALUES)
def test_any_json_is_a_document_or_a_document_error(name: str, value: Any) -> None:
    for body in ({"id": DID, name: value}, {"id": DID, name: [value]}):
        try:
            parse_did_document(DID, json.dumps(body).encode())
        except DidDocumentError:
            continue


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://PDS.example.com", "pds.example.com"),
        ("https://pds.example.com:443", "pds.example.com"),
        ("http://pds.example.com:80/", "pds.example.com"),
        ("http://pds.example.com:443", "pds.example.com:443"),
        ("https://pds.example.com:80", "pds.example.com:80"),
        ("http://localhost:2583", "localhost:2583"),
        ("http://127.0.0.1:2583", "127.0.0.1:2583"),
    ],
)
def test_normalise_host(url: str, host: str) -> None:
    assert normalise_host(url) == host


def test_normalise_host_refuses_more_than_an_origin() -> None:
    with pytest.raises(DidDocumentError):
        normalise_host("https://pds.example.com/path")
