"""One lookup of a DID document: did:plc at the directory, did:web at its own host (protocol.md section 11).

Only this module knows where documents are. It answers with a document or with one of three faults, because what follows
differs (design section 4, "Identity failures"): the DID is gone, the DID's own document or host is at fault, or the
directory is.

The directory is believed that a DID is gone only in its own words, a JSON object with a `message` (protocol.md section
11.2). A gateway in front of it, or an address that is mistyped, answers 404 to everything, and each account would be
told as deleted. Whatever else the directory answers, in place of a document, is its own fault and no DID's.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec

from relay.identity.settings import IdentitySettings
from relay.net.errors import NetError
from relay.net.http import HttpClient, HttpResponse
from relay.protocol.diddoc import DidDocument, parse_did_document
from relay.protocol.errors import DidDocumentError
from relay.protocol.syntax import did_method, did_web_host, is_supported_did

DOCUMENT_BYTES_MAX = 256 * 1024
GONE = frozenset({404, 410})  # the directory answers 404 for a tombstone where its API promises 410
WEB_GONE = frozenset({410})  # a web host answers 404 for many a mishap, and the account would be told as deleted


class LookupFault(Exception):  # noqa: N818 -- its leaves are named after what is at fault
    """A lookup gave no document. Never raised itself."""


class DidGone(LookupFault):
    """The DID's method says there is no live identity: never registered, or tombstoned."""


class DidFault(LookupFault):
    """This DID is at fault: an unusable document, or a did:web host that does not answer properly."""


class DirectoryFault(LookupFault):
    """The directory is at fault (timeout, 5xx, 429, an answer that is not its own): nothing is known about the DID."""


Fetch = Callable[[str], Awaitable[DidDocument]]


class DocumentSource(NamedTuple):
    """Where documents come from. `allow_private` admits http endpoints and did:web on localhost with a port.

    `web_client` is for the hosts of did:web: strangers' names, which must not hold up lookups at the directory.
    """

    client: HttpClient
    settings: IdentitySettings
    allow_private: bool
    web_client: HttpClient | None = None

    async def fetch(self, did: str) -> DidDocument:
        """The current document of `did`, parsed. Raises a leaf of `LookupFault`; never caches."""
        if not is_supported_did(did, allow_localhost=self.allow_private):
            raise DidFault("unsupported DID method or form")
        if did_method(did) == "plc":
            url, own_host = f"{self.settings.plc_url.rstrip('/')}/{did}", False
        else:
            url, own_host = self._web_url(did), True
        response = await self._get(url, own_host=own_host)
        if response.status != 200:
            raise _fault_of(response, own_host=own_host)
        try:
            return parse_did_document(did, response.body, allow_http=self.allow_private)
        except DidDocumentError as error:
            of_did = own_host or _reads_as(response.body, dict)
            raise (DidFault if of_did else DirectoryFault)(str(error)) from None

    def _web_url(self, did: str) -> str:
        host = did_web_host(did, allow_localhost=self.allow_private)
        scheme = "http" if self.allow_private and host.startswith("localhost:") else "https"
        return f"{scheme}://{host}/.well-known/did.json"

    async def _get(self, url: str, *, own_host: bool) -> HttpResponse:
        try:
            return await ((self.web_client or self.client) if own_host else self.client).get(
                url,
                timeout_seconds=self.settings.lookup_seconds,
                body_bytes_max=DOCUMENT_BYTES_MAX,
                slots=0 if own_host else self.settings.lookups_at_once,  # strangers' hosts get no pool
            )
        except NetError as error:
            raise (DidFault if own_host else DirectoryFault)(str(error)) from None


class _Word(msgspec.Struct):
    """How a directory says why there is no document."""

    message: str


def _fault_of(response: HttpResponse, *, own_host: bool) -> LookupFault:
    """What an answer without a document says."""
    told = f"status {response.status}"
    if own_host:
        return DidGone(told) if response.status in WEB_GONE else DidFault(told)
    is_gone = response.status in GONE and _reads_as(response.body, _Word)
    return DidGone(told) if is_gone else DirectoryFault(told)


def _reads_as(body: bytes, kind: Any) -> bool:
    try:
        msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError):  # msgspec reports bad UTF-8 and deep nesting in their own classes
        return False
    return True
