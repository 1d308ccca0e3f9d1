"""`relay tail`: a consumer in a terminal. One line an event, and an exit code that says whether the stream was sound.

Owns the checks of a careful consumer and the words for an event. It decodes with `relay.protocol`, as strictly as the
relay reads its own hosts, so it serves as a check of any PDS or relay.
"""

import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import trio

from relay import __version__
from relay.app.since import cursor_at
from relay.app.tailverify import Misjudged, Verifier
from relay.identity.fetch import DocumentSource
from relay.identity.settings import IdentitySettings
from relay.net.dial import Dialer
from relay.net.errors import NetError, UpgradeRefused
from relay.net.http import HttpClient
from relay.net.subscription_socket import open_subscription
from relay.protocol.cid import to_text
from relay.protocol.errors import ProtocolError
from relay.protocol.events import AccountEvent, CommitEvent, Event, IdentityEvent, InfoEvent, SyncEvent, parse_event
from relay.protocol.frame import STREAM_PATH, ErrorFrame, MessageFrame, UnknownFrame, parse_frame

HANDSHAKE_SECONDS = 20.0
OPS_SHOWN = 3
PLC_URL = IdentitySettings().plc_url

_USER_AGENT = f"atproto-relay/{__version__} tail"

Print = Callable[[str], None]


class TailOptions(NamedTuple):
    """What was asked for. None means no bound; `as_json` prints one JSON object a line.

    `verify` judges every event too, with documents of the directory at `plc_url`. `since`, instead of `cursor`, is a
    moment (RFC 3339) that the server turns into one.
    """

    url: str
    cursor: int | None = None
    events: int | None = None
    seconds: float | None = None
    as_json: bool = False
    contiguous: bool = False
    verify: bool = False
    plc_url: str = PLC_URL
    since: str | None = None


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


class _Reading(NamedTuple):
    """One message with what it holds."""

    frame: MessageFrame
    event: Event


async def tail(options: TailOptions, write: Print) -> bool:
    """Print the stream until a bound is reached; False, and why on stderr, when it is not sound or ends early."""
    with trio.move_on_after(options.seconds if options.seconds is not None else float("inf")) as limit:
        try:
            async with _verifier(options) as verifier:
                await _tail(options, verifier, write)
        except UpgradeRefused as refused:
            print(f"relay tail: {refused}: {refused.body.decode('utf-8', 'replace')}".rstrip(": "), file=sys.stderr)
            return False
        except (NetError, ProtocolError, Unsound, Misjudged) as error:
            print(f"relay tail: {error}", file=sys.stderr)
            return False
    return not limit.cancelled_caught or options.events is None


@asynccontextmanager
async def _verifier(options: TailOptions) -> AsyncIterator[Verifier | None]:
    """Who judges, if that was asked for; says at the end what was judged."""
    if not options.verify:
        yield None
        return
    client = HttpClient(_dialer(), _USER_AGENT)
    verifier = Verifier(DocumentSource(client, IdentitySettings(plc_url=options.plc_url), allow_private=True))
    try:
        yield verifier
    finally:
        told = f"{verifier.verified} events verified, {verifier.unproven} unproven, {verifier.breaks} chain breaks"
        print(f"relay tail: {told}", file=sys.stderr)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
            await client.aclose()


async def _tail(options: TailOptions, verifier: Verifier | None, write: Print) -> None:
    if options.since is not None:
        where = stream_url(options.url, None)
        cursor = await cursor_at(_dialer(), where, options.since, user_agent=_USER_AGENT)
        if cursor is None:
            raise Unsound("the server does not tell where a moment is in its stream (GET /window?at=)")
        options = options._replace(cursor=cursor)
    checker = Checker(options.cursor, contiguous=options.contiguous)
    seen = 0
    url = stream_url(options.url, options.cursor)
    async with open_subscription(
        _dialer(), url, user_agent=_USER_AGENT, handshake_seconds=HANDSHAKE_SECONDS
    ) as subscription:
        while options.events is None or seen < options.events:
            readings, fault = _read(await subscription.receive())
            if verifier is not None:
                await verifier.prepare(reading.event for reading in readings)
            for reading in readings:
                seen += await _take(reading, checker, verifier, options, write)
                if seen == options.events:
                    return
            if fault is not None:
                raise fault


def _dialer() -> Dialer:
    return Dialer(allow_private=True, allow_insecure=True)


def stream_url(url: str, cursor: int | None) -> str:
    """The stream behind what people type: a host, a URL of any scheme, with or without the path."""
    parts = urlsplit(url if "://" in url else f"wss://{url}")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    path = parts.path if len(parts.path) > 1 else STREAM_PATH
    query = parts.query if cursor is None else f"cursor={cursor}"
    return f"{scheme}://{parts.netloc}{path}" + (f"?{query}" if query else "")


def _read(messages: Sequence[bytes]) -> tuple[list[_Reading], Exception | None]:
    """The messages that hold something for us, up to the first one that is unsound, and what is wrong with that."""
    readings: list[_Reading] = []
    for message in messages:
        try:
            frame = parse_frame(message)
            if isinstance(frame, ErrorFrame):
                return readings, Unsound(f"the server ends the stream: {frame.error} {frame.message or ''}".rstrip())
            if not isinstance(frame, UnknownFrame):
                readings.append(_Reading(frame, parse_event(frame, allow_localhost=True)))
        except ProtocolError as error:
            return readings, error
    return readings, None


async def _take(
    reading: _Reading, checker: Checker, verifier: Verifier | None, options: TailOptions, write: Print
) -> int:
    """Check and print one message; 1 for an event with a seq, else 0."""
    frame, event = reading
    if not isinstance(event, InfoEvent):
        checker.check(event.seq)
        if verifier is not None:
            await verifier.check(event, time.time_ns() // 1_000_000)
    moment = str(frame.payload.get("time", ""))
    write(_as_json(event, frame.type, moment) if options.as_json else _as_line(event, frame.type, moment))
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
