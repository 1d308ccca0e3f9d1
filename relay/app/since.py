"""`relay tail --since`: what a moment means as a cursor, which only the server can tell (`GET /window?at=`).

Owns the ways to write a moment. Does not own the stream (`relay.app.tail`).
"""

import re
import time
from http import HTTPStatus
from urllib.parse import urlencode, urlsplit

import msgspec

from relay.net.dial import StreamOpener
from relay.net.http import HttpClient
from relay.protocol.syntax import format_datetime, is_datetime

_ANSWER_SECONDS = 20.0
_ANSWER_BYTES_MAX = 65_536
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_match_age = re.compile("([0-9]{1,9})([smhd])").fullmatch


class _Answer(msgspec.Struct, frozen=True):
    seq: int


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def parse_since(text: str, now_ms: int) -> str:
    """A moment in RFC 3339, from one such or from an age such as `90s`, `2h` or `3d`. Raises ValueError."""
    age = _match_age(text)
    if age is not None:
        return format_datetime(max(0, now_ms - int(age[1]) * _UNIT_SECONDS[age[2]] * 1_000))
    if not is_datetime(text):
        raise ValueError(text)
    return text


async def cursor_at(dialer: StreamOpener, stream_url: str, moment: str, *, user_agent: str) -> int | None:
    """The cursor that starts with the first event at or after `moment`; None when the server does not tell.

    `stream_url` is the ws or wss URL of the stream. Raises `NetError` leaves.
    """
    parts = urlsplit(stream_url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    client = HttpClient(dialer, user_agent)
    response = await client.get(
        f"{scheme}://{parts.netloc}/window?{urlencode({'at': moment})}",
        timeout_seconds=_ANSWER_SECONDS,
        body_bytes_max=_ANSWER_BYTES_MAX,
    )
    if response.status != HTTPStatus.OK:
        return None
    try:
        return max(0, msgspec.json.decode(response.body, type=_Answer).seq - 1)
    except msgspec.DecodeError:
        return None
