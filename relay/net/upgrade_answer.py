"""What a host answers to our request for a WebSocket: the head of a 101, or a refusal.

Owns the bounds on that answer. A 101 is handed on untouched for the protocol library to judge; anything else becomes
`UpgradeRefused` here, because the library collects a refusal's body without bound and waits for ever for one that ends
with the connection.
"""

import re

import trio

from relay.net.errors import ConnectionClosed, UpgradeRefused

HEAD_BYTES_MAX = 16_384  # the bound of h11, which parses a 101 in the library
REFUSAL_BYTES_MAX = 1_024  # of a refusal's body, for people to read
REFUSAL_BODY_SECONDS = 1.0
_READ_BYTES = 65_536

_HEAD_END = re.compile(rb"\n\r?\n")  # what h11 takes for the end of a head
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: |\r?\n)")


async def receive_upgrade_head(stream: trio.abc.ReceiveStream) -> tuple[bytes, bytes]:
    """The head of a 101 answer to its last byte, and what was read beyond it (frames already).

    Waits as long as the caller lets it, except for a refusal's body.

    Raises:
        UpgradeRefused: any other status, redirects and other 1xx included.
        ConnectionClosed: 1006 the connection ended before, 1002 not HTTP/1.x or too long.
    """
    head = bytearray()
    while (end := _HEAD_END.search(head)) is None:
        if len(head) > HEAD_BYTES_MAX:
            raise ConnectionClosed(1002, "the answer to the upgrade has no end")
        head += await _receive(stream)
    status = _STATUS_LINE.match(head)
    if status is None:
        raise ConnectionClosed(1002, "the answer to the upgrade is not HTTP/1.x")
    rest = head[end.end() :]
    del head[end.end() :]
    if status[1] != b"101":
        raise await _refusal(stream, int(status[1]), bytes(head), rest)
    return bytes(head), bytes(rest)


async def _receive(stream: trio.abc.ReceiveStream) -> bytes | bytearray:
    try:
        data = await stream.receive_some(_READ_BYTES)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise ConnectionClosed(reason="connection lost during the upgrade") from error
    if not data:
        raise ConnectionClosed(reason="connection closed during the upgrade")
    return data


async def _refusal(stream: trio.abc.ReceiveStream, status: int, head: bytes, body: bytearray) -> UpgradeRefused:
    fields = _header_fields(head)
    length = fields.get("content-length", "")
    wanted = min(int(length), REFUSAL_BYTES_MAX) if _is_count(length) else REFUSAL_BYTES_MAX
    with trio.move_on_after(REFUSAL_BODY_SECONDS):  # a body without a length may never end
        while len(body) < wanted:
            try:
                body += await _receive(stream)
            except ConnectionClosed:
                break
    retry_after = fields.get("retry-after", "")
    seconds = int(retry_after) if _is_count(retry_after) else None
    return UpgradeRefused(status, seconds, fields.get("server", ""), bytes(body[:wanted]))


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def _header_fields(head: bytes) -> dict[str, str]:
    """The header fields of a refusal, names in lower case; the first of a name wins. Tolerant: it is for people."""
    fields: dict[str, str] = {}
    for line in head.decode("latin-1").split("\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    return fields
