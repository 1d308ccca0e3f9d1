"""What a request needs to become a WebSocket, beyond being an upgrade (RFC 6455 section 4.2.1). Pure.

Owns the judgement that comes before the protocol library's, which answers outside of our HTTP, without headers or body,
takes any text for a key, and stumbles over some requests that are right. Owns no answer: that is for who was asked.
"""

import base64
import binascii
import re

VERSION = "13"
_KEY_BYTES = 16
_HEAD_END = re.compile(rb"\n\r?\n")


def is_key(text: str) -> bool:
    """Whether this is a `Sec-WebSocket-Key`: 16 bytes in base64."""
    try:
        return len(base64.b64decode(text, validate=True)) == _KEY_BYTES
    except (ValueError, binascii.Error):  # not ASCII; not base64
        return False


def split_head(request: bytes) -> tuple[bytes, bytes]:
    """The head of a request, and what was read behind it."""
    end = _HEAD_END.search(request)
    border = len(request) if end is None else end.end()
    return request[:border], request[border:]


def plain_request(key: str, request: bytes) -> bytes:
    """The same upgrade with nothing in its head but what the library must know; what was read behind it is kept.

    It would refuse a Connection header on two lines, and die of a Host that is no domain name or a proposal that is not
    ASCII.
    """
    head = (
        "GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: {VERSION}\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
    return head.encode() + split_head(request)[1]
