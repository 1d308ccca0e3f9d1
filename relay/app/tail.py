"""`relay tail`: a consumer in a terminal. One line an event, and an exit code that says whether the stream was sound.

Owns the checks of a careful consumer and the words for an event. It decodes with `relay.protocol`, as strictly as the
relay reads its own hosts, so it serves as a check of any PDS or relay.
"""

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import trio

from relay import __version__
from relay.net.dial import Dialer
from relay.net.errors import NetError, UpgradeRefused
from relay.net.subscription_socket import open_subscription
from relay.protocol.cid import to_text
from relay.protocol.errors import ProtocolError
from relay.protocol.events import AccountEvent, CommitEvent, Event, IdentityEvent, InfoEvent, SyncEvent, parse_event
from relay.protocol.frame import ErrorFrame, UnknownFrame, parse_frame

PATH = "/xrpc/com.atproto.sync.subscribeRepos"
HANDSHAKE_SECONDS = 20.0
OPS_SHOWN = 3

Print = Callable[[str], None]


class TailOptions(NamedTuple):
    """What was asked for. None means no bound; `as_json` prints one JSON object a line."""

    url: str
    cursor: int | None = None
    events: int | None = None
    seconds: float | None = None
    as_json: bool = False
    contiguous: bool = False


class Unsound(Exception):  # noqa: N818 -- a finding about the stream, not an error of this program
    """The stream broke a rule; the message says which and where."""


class Checker:
    """What a consumer may rely on: seqs that rise, without a gap where that was promised."""

    def __init__(self, cursor: int | None, *, contiguous: bool) -> None:
        self._contiguous = contiguous
        self._last = cursor or None
        self._first = True

    def check(self, seq: int) -> None:
        """Take note of the next seq. Raises `Unsound`."""
        last, self._last = self._last, seq
        first, self._first = self._first, False
        if last is None:
            return
        if seq <= last:
            raise Unsound(f"seq {seq} after {last}: it does not rise")
        if self._contiguous and not first and seq != last + 1:
            raise Unsound(f"seq {seq} after {last}: {seq - last - 1} are missing")


async def tail(options: TailOptions, write: Print) -> bool:
    """Print the stream until a bound is reached; False, and why on stderr, when it is not sound or ends early."""
    checker = Checker(options.cursor, contiguous=options.contiguous)
    seen = 0
    with trio.move_on_after(options.seconds if options.seconds is not None else float("inf")) as limit:
        try:
            async with open_subscription(
                Dialer(allow_private=True, allow_insecure=True),
                stream_url(options.url, options.cursor),
                user_agent=f"atproto-relay/{__version__} tail",
                handshake_seconds=HANDSHAKE_SECONDS,
            ) as subscription:
                while options.events is None or seen < options.events:
                    for message in await subscription.receive():
                        seen += _take(message, checker, options, write)
                        if seen == options.events:
                            break
        except UpgradeRefused as refused:
            print(f"relay tail: {refused}: {refused.body.decode('utf-8', 'replace')}".rstrip(": "), file=sys.stderr)
            return False
        except (NetError, ProtocolError, Unsound) as error:
            print(f"relay tail: {error}", file=sys.stderr)
            return False
    return not limit.cancelled_caught or options.events is None


def stream_url(url: str, cursor: int | None) -> str:
    """The stream behind what people type: a host, a URL of any scheme, with or without the path."""
    parts = urlsplit(url if "://" in url else f"wss://{url}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    path = parts.path if len(parts.path) > 1 else PATH
    query = parts.query if cursor is None else f"cursor={cursor}"
    return f"{scheme}://{parts.netloc}{path}" + (f"?{query}" if query else "")


def _take(message: bytes, checker: Checker, options: TailOptions, write: Print) -> int:
    """Check and print one message; 1 for an event with a seq, else 0."""
    frame = parse_frame(message)
    if isinstance(frame, ErrorFrame):
        raise Unsound(f"the server ends the stream: {frame.error} {frame.message or ''}".rstrip())
    if isinstance(frame, UnknownFrame):
        return 0
    event = parse_event(frame)
    if not isinstance(event, InfoEvent):
        checker.check(event.seq)
    time = str(frame.payload.get("time", ""))
    write(_as_json(event, frame.type, time) if options.as_json else _as_line(event, frame.type, time))
    return 0 if isinstance(event, InfoEvent) else 1


def _as_line(event: Event, kind: str, time: str) -> str:
    if isinstance(event, InfoEvent):
        return f"{'-':>17}  {kind:<9}  {event.name} {event.message or ''}".rstrip()
    return f"{event.seq:>17}  {kind:<9}  {time:<24}  {event.did:<32}  {_gist(event)}".rstrip()


def _gist(event: Event) -> str:
    match event:
        case CommitEvent():
            shown = " ".join(f"{_SIGN.get(op.action, '?')}{op.path}" for op in event.ops[:OPS_SHOWN])
            more = f" (+{len(event.ops) - OPS_SHOWN} more)" if len(event.ops) > OPS_SHOWN else ""
            return f"{event.rev}  {shown or '(no ops)'}{more}"
        case SyncEvent():
            return event.rev
        case AccountEvent():
            return " ".join(filter(None, ("active" if event.active else "inactive", event.status)))
        case IdentityEvent():
            return event.handle or ""
        case InfoEvent():
            return event.name


def _as_json(event: Event, kind: str, time: str) -> str:
    fields: dict[str, Any] = {"type": kind, **event._asdict()}
    if not isinstance(event, InfoEvent):
        fields["time"] = time
    if "blocks" in fields:
        fields["blocks"] = len(fields["blocks"])
    if isinstance(event, CommitEvent):
        fields["ops"] = [op._asdict() for op in event.ops]
    return json.dumps(fields, default=_plain, separators=(",", ":"))


def _plain(value: object) -> object:
    assert isinstance(value, bytes), "only CIDs are not JSON by themselves"
    return to_text(value)


_SIGN = {"create": "+", "update": "~", "delete": "-"}
