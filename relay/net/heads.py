"""h11's request and response heads to and from ours (pure).

Owns what a request target and a header mean, and which headers a response gets. Bytes and bounds are
`relay.net.connection`'s.
"""

from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

import h11

from relay.net.exchange import Headers, Request, Response
from relay.net.proxies import Networks, client_address, is_trusted

_FORWARDED = ("x-forwarded-for", "x-forwarded-proto")  # claims about the client, seen only from our own proxies
BODILESS = frozenset({204, 304})  # statuses whose response has no body (RFC 9110)
_QUERY_FIELDS_MAX = 100


def request_of(head: h11.Request, body: bytes, peer: str, trusted: Networks) -> Request:
    """The request of a parsed head. Raises `ValueError` for a target that no server has, or too many parameters."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in head.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if head.http_version == b"1.0":
        headers.pop("upgrade", None)  # a server must not see it there (RFC 9110 section 7.8)
    if not is_trusted(peer, trusted):
        for claim in _FORWARDED:
            headers.pop(claim, None)
    path, query = _split_target(head.target.decode("ascii"))
    client = client_address(peer, headers.get("x-forwarded-for", ""), trusted)
    return Request(head.method.decode("ascii"), path, query, headers, body, client)


def response_head(response: Response, site_headers: Headers, *, close: bool = False) -> h11.Response:
    """The head of a response with all that belongs to it; a Content-Length of the caller's is replaced.

    Raises `h11.LocalProtocolError` or `ValueError` for a status or header that cannot be sent.
    """
    own = {name.lower() for name, _ in response.headers}
    headers = [("Date", formatdate(usegmt=True))]
    headers += [header for header in site_headers if header[0].lower() not in own]
    headers += [header for header in response.headers if header[0].lower() != "content-length"]
    if isinstance(response.body, bytes) and response.status not in BODILESS:
        headers.append(("Content-Length", str(len(response.body))))
    if close or not isinstance(response.body, bytes):
        headers.append(("Connection", "close"))
    return h11.Response(status_code=response.status, headers=headers, reason=HTTPStatus(response.status).phrase)


def _split_target(target: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Path and query of a request target in origin, absolute or asterisk form."""
    if target.startswith(("http://", "https://")):
        _, slash, rest = target.partition("//")[2].partition("/")
        target = slash + rest if slash else "/"
    path, _, query = target.partition("?")
    if not path.startswith("/") and target != "*":
        raise ValueError("not a request target of a server")
    try:
        fields = parse_qsl(query, keep_blank_values=True, max_num_fields=_QUERY_FIELDS_MAX)
    except ValueError as error:
        raise ValueError("too many query parameters") from error
    return unquote(path), tuple(fields)
