"""DID documents: the signing key and the PDS (protocol.md section 11.1).

Owns what is read out of a document once its bytes are here; a relay needs no handle (checklist 160). Fetching documents
and caching the answer is `relay.identity`; whether a host may be dialled is `relay.net.guard`. Documents are written by
strangers in many dialects, so a part that cannot be read is treated as absent; only a document that is no JSON object
or speaks of another DID is refused.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from relay.protocol import limits, multikey
from relay.protocol.errors import DidDocumentError, KeyFormatError
from relay.protocol.multikey import PublicKey


class DidDocument(NamedTuple):
    """What a relay needs of a document. Without `key` or `pds` the account's commits are ignored (checklist 156).

    `pds` is an origin in lower case, `https://host[:port]`, with a default port dropped.
    """

    did: str
    key: PublicKey | None
    pds: str | None


class _Document(msgspec.Struct, rename="camel"):
    id: str
    verification_method: list[Any] | None = None
    service: list[Any] | None = None


class _VerificationMethod(msgspec.Struct, rename="camel"):
    id: str
    type: str
    controller: str
    public_key_multibase: str


class _Service(msgspec.Struct, rename="camel"):
    id: str
    type: str
    service_endpoint: Any = None


_Entry = TypeVar("_Entry", _VerificationMethod, _Service)
_DEFAULT_PORT = {"http": "80", "https": "443"}
# Scheme, host and port only. One slash at the end is the empty path of RFC 3986 section 6.2.3 and changes nothing.
_match_origin = re.compile(
    "(https?)://([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::([1-9][0-9]{0,4}))?/?", re.IGNORECASE | re.ASCII
).fullmatch


def parse_did_document(did: str, body: bytes | Mapping[str, Any], *, allow_http: bool = False) -> DidDocument:
    """Read the document of `did` from JSON or from decoded JSON (checklist 149-156).

    `allow_http` also accepts a PDS at `http://`, for development. Raises `DidDocumentError` when `body` is no DID
    document or its `id` is not `did`; everything else that is amiss shows as None in the answer.
    """
    document = _decode(body)
    if document.id != did:
        raise DidDocumentError("the document is of another DID")
    return DidDocument(did, _signing_key(document), _pds(document, allow_http=allow_http))


def normalise_host(url: str) -> str:
    """`host[:port]` of an origin URL, in lower case and without a default port. Raises `DidDocumentError`."""
    scheme, host, port = _split_origin(url)
    return host if port is None or port == _DEFAULT_PORT[scheme] else f"{host}:{port}"


def _decode(body: bytes | Mapping[str, Any]) -> _Document:
    try:
        if isinstance(body, bytes):
            return msgspec.json.decode(body, type=_Document)
        return msgspec.convert(body, type=_Document)
    except (ValueError, RecursionError) as error:  # msgspec reports bad UTF-8 and deep nesting in their own classes
        raise DidDocumentError("not a DID document") from error


def _entries(raw: list[Any] | None, of: type[_Entry], did: str, fragment: str) -> Iterator[_Entry]:
    """The entries whose id is `fragment`, relative or absolute (checklist 151), leaving out those of another shape."""
    for item in raw or ():
        try:
            entry = msgspec.convert(item, type=of)
        except ValueError:
            continue
        if entry.id in (fragment, did + fragment):
            yield entry


def _signing_key(document: _Document) -> PublicKey | None:
    """The first valid `#atproto` key under the DID's own control (checklist 150, 152-154)."""
    for method in _entries(document.verification_method, _VerificationMethod, document.id, "#atproto"):
        if method.controller != document.id:
            continue
        try:
            if method.type == "Multikey":
                return multikey.parse_multikey(method.public_key_multibase)
            return multikey.parse_legacy(method.type, method.public_key_multibase)
        except KeyFormatError:
            continue
    return None


def _pds(document: _Document, *, allow_http: bool) -> str | None:
    """The endpoint of the first PDS service, if it is a bare URL of an allowed scheme (checklist 155)."""
    for service in _entries(document.service, _Service, document.id, "#atproto_pds"):
        if service.type != "AtprotoPersonalDataServer":
            continue
        try:
            scheme, _, _ = _split_origin(service.service_endpoint)
        except DidDocumentError:
            return None
        allowed = scheme == "https" or allow_http
        return f"{scheme}://{normalise_host(service.service_endpoint)}" if allowed else None
    return None


def _split_origin(url: object) -> tuple[str, str, str | None]:
    found = _match_origin(url) if isinstance(url, str) else None
    if found is None:
        raise DidDocumentError("not a URL of scheme, host and port only")
    scheme, host, port = found.groups()
    if len(host) > limits.HANDLE_CHARS_MAX or ".." in host or (port is not None and int(port) > 65535):
        raise DidDocumentError("not a URL of scheme, host and port only")
    return scheme.lower(), host.lower(), port
