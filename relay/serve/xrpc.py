"""XRPC conventions as plain functions: parameters and bodies in, refusals out, page cursors both ways.

Owns what protocol.md section 20 says about parameters, bodies, errors and pagination. Owns no endpoint and no storage.
"""

import base64
import binascii
from collections.abc import Iterable
from math import ceil
from typing import TypeVar

import msgspec

from relay.net.exchange import Headers, Response, error_response
from relay.protocol.syntax import is_did, is_tid

PAGE_LIMIT_MAX = 1000
HOSTNAME_CHARS_MAX = 261  # a DNS name of 253, a colon, a port, and no more than that is ever looked up
_PAGE_CURSOR_CHARS_MAX = 4096
_DIGITS_MAX = 18

Query = Iterable[tuple[str, str]]
T = TypeVar("T")


class Refusal(Exception):  # noqa: N818 -- an answer, not a fault of ours
    """A request that gets an error answer: `status` and the JSON body `{"error", "message"}`."""

    def __init__(self, status: int, error: str, message: str, headers: Headers = ()) -> None:
        super().__init__(f"{status} {error}: {message}")
        self.status = status
        self.error = error
        self.message = message
        self.headers = headers

    def response(self) -> Response:
        """The refusal as it goes over the wire."""
        return error_response(self.status, self.error, self.message, self.headers)


def bad_request(message: str) -> Refusal:
    """400 InvalidRequest, the generic name for a request that breaks its lexicon."""
    return Refusal(400, "InvalidRequest", message)


def too_many(message: str, seconds: float) -> Refusal:
    """429 RateLimitExceeded, to be asked again after so many seconds (checklist 248)."""
    return Refusal(429, "RateLimitExceeded", message, (("Retry-After", str(max(1, ceil(seconds)))),))


def values(query: Query, name: str) -> list[str]:
    """All values of a parameter, in order."""
    return [value for key, value in query if key == name]


def optional(query: Query, name: str) -> str | None:
    """The value of a parameter that may be given once. Raises `Refusal` when it is given more often."""
    found = values(query, name)
    if len(found) > 1:
        raise bad_request(f"{name} is given more than once")
    return found[0] if found else None


def required(query: Query, name: str) -> str:
    """The value of a parameter that must be given once. Raises `Refusal`."""
    found = optional(query, name)
    if not found:
        raise bad_request(f"{name} is missing")
    return found


def did_param(query: Query) -> str:
    """The `did` of a request, valid by its lexicon format (checklist 225, 251). Raises `Refusal`."""
    did = required(query, "did")
    if not is_did(did):
        raise bad_request("did is not a valid DID")
    return did


def tid_param(query: Query, name: str) -> str | None:
    """An optional TID such as `since`. Raises `Refusal`."""
    tid = optional(query, name)
    if tid is not None and not is_tid(tid):
        raise bad_request(f"{name} is not a valid TID")
    return tid


def limit_param(query: Query, default: int) -> int:
    """`limit` within 1 to 1000, the range of every listing served here (checklist 250). Raises `Refusal`."""
    return whole_number(query, "limit", default, PAGE_LIMIT_MAX, minimum=1)


def whole_number(query: Query, name: str, default: int | None, maximum: int, *, minimum: int = 0) -> int:
    """A parameter that is a number; it must be given when there is no default. Raises `Refusal`."""
    text = optional(query, name)
    if text is None and default is not None:
        return default
    number = _number(text or "")
    if number is None or not minimum <= number <= maximum:
        raise bad_request(f"{name} must be a whole number from {minimum} to {maximum}")
    return number


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX else None


def page_cursor(key: str) -> str:
    """The opaque cursor of a page that ends at `key`."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def page_param(query: Query) -> str | None:
    """The key that the page before ended at, None for the first page. Raises `Refusal` on what we never gave out.

    An empty cursor is the first page too: that is what generated clients send for it.
    """
    text = optional(query, "cursor")
    if not text:
        return None
    try:
        padded = text[:_PAGE_CURSOR_CHARS_MAX] + "=" * (-len(text) % 4)
        key = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        key = ""
    if not key or page_cursor(key) != text:
        raise _foreign_cursor()
    return key


def page_number(query: Query) -> int:
    """As `page_param` where keys are numbers; 0 for the first page. Raises `Refusal`."""
    number = _number(page_param(query) or "0")
    if number is None:
        raise _foreign_cursor()
    return number


def _foreign_cursor() -> Refusal:
    return bad_request("cursor is not one that this relay gave out")


def body_of(body: bytes, kind: type[T], example: str) -> T:
    """A JSON input as `kind`; other keys are ignored. Raises `Refusal`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # msgspec lets the last two through
        raise bad_request(f"the body must be JSON of the form {example}") from None


class HostnameBody(msgspec.Struct, frozen=True):
    """The input of requestCrawl and notifyOfUpdate; other keys are ignored."""

    hostname: str


def hostname_body(body: bytes) -> str:
    """The hostname in the JSON input of requestCrawl, as it was sent. Raises `Refusal`."""
    hostname = body_of(body, HostnameBody, '{"hostname": "pds.example.com"}').hostname
    if not 0 < len(hostname) <= HOSTNAME_CHARS_MAX:
        raise bad_request(f"hostname must have 1 to {HOSTNAME_CHARS_MAX} characters")
    return hostname
