"""`relay compare`: two relays side by side, so that an operator sees what only one of them passes on.

Both are read live at once. An event counts as the same on both by what it says, never by its seq: message type,
account, and rev (of commits and syncs) or host's time. What arrives right at the beginning or end may be missed by
either for no reason but the moment, so only events from the middle are held against the one that lacks them.
"""

import sys
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import trio

from relay import __version__
from relay.app.tables import Column, facts, table
from relay.app.tail import stream_url
from relay.net.dial import Dialer
from relay.net.errors import NetError
from relay.net.subscription_socket import open_subscription
from relay.protocol.errors import ProtocolError
from relay.protocol.events import CommitEvent, InfoEvent, SyncEvent, parse_event
from relay.protocol.frame import MessageFrame, parse_frame

HANDSHAKE_SECONDS = 20.0
MARGIN_SECONDS_MAX = 10.0
EVENTS_MAX = 2_000_000  # of one relay; about 300 bytes each
MISSING_SHOWN = 20

Key = tuple[str, str, str]


@dataclass(slots=True)
class Side:
    """What was seen of one relay: when each event came (trio time), and what could not be read."""

    url: str
    seen: dict[Key, float] = field(default_factory=dict)
    events: int = 0
    unreadable: int = 0
    ended: str = ""


async def compare(url_a: str, url_b: str, seconds: float) -> dict[str, Any]:
    """Read both for `seconds` and say what each had, as JSON values."""
    sides = Side(url_a), Side(url_b)
    began = trio.current_time()
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for side in sides:
                nursery.start_soon(_read, side)
    return report(*sides, began, trio.current_time())


async def _read(side: Side) -> None:
    try:
        async with open_subscription(
            Dialer(allow_private=True, allow_insecure=True),
            stream_url(side.url, None),
            user_agent=f"atproto-relay/{__version__} compare",
            handshake_seconds=HANDSHAKE_SECONDS,
        ) as subscription:
            while len(side.seen) < EVENTS_MAX:
                for message in await subscription.receive():
                    take(side, message, trio.current_time())
        side.ended = f"more than {EVENTS_MAX:,} events"
    except NetError as error:
        side.ended = str(error) or type(error).__name__


def take(side: Side, message: bytes, now: float) -> None:
    """Note one message of a relay."""
    try:
        frame = parse_frame(message)
        event = parse_event(frame, allow_localhost=True) if isinstance(frame, MessageFrame) else None
    except ProtocolError:
        side.unreadable += 1
        return
    if event is None or isinstance(event, InfoEvent) or not isinstance(frame, MessageFrame):
        return
    word = event.rev if isinstance(event, CommitEvent | SyncEvent) else str(frame.payload.get("time", ""))
    side.events += 1
    side.seen.setdefault((frame.type, event.did, word), now)


def report(a: Side, b: Side, began: float, ended: float) -> dict[str, Any]:
    """What both had, what only one had, and how much earlier the faster one was."""
    margin = min(MARGIN_SECONDS_MAX, (ended - began) / 4)
    common = a.seen.keys() & b.seen.keys()
    delays = [b.seen[key] - a.seen[key] for key in common]
    return {
        "seconds": round(ended - began, 1),
        "marginSeconds": round(margin, 1),
        "both": len(common),
        "laterSecondsB": round(median(delays), 3) if delays else None,
        "relays": [_side(a, b, began + margin, ended - margin), _side(b, a, began + margin, ended - margin)],
    }


def _side(side: Side, other: Side, low: float, high: float) -> dict[str, Any]:
    alone = [key for key, at in side.seen.items() if low <= at <= high and key not in other.seen]
    accounts = {did for _, did, _ in side.seen}
    return {
        "url": side.url,
        "events": side.events,
        "accounts": len(accounts),
        "onlyHere": len(alone),
        "accountsOnlyHere": len({did for _, did, _ in alone} - {did for _, did, _ in other.seen}),
        "unreadable": side.unreadable,
        "ended": side.ended,
        "examples": [dict(zip(("type", "did", "word"), key, strict=True)) for key in alone[:MISSING_SHOWN]],
    }


def lines(answer: dict[str, Any], width: int | None = None) -> list[str]:
    """The report for people, on a terminal of this width."""
    columns = (
        Column("RELAY", chars_min=28),
        Column("EVENTS", is_number=True),
        Column("ACCOUNTS", is_number=True),
        Column("ONLY HERE", is_number=True),
        Column("ACCOUNTS ONLY HERE", is_number=True),
        Column("UNREADABLE", is_number=True, rank=1),
    )
    keys = ("url", "events", "accounts", "onlyHere", "accountsOnlyHere", "unreadable")
    rows = [tuple(relay[key] for key in keys) for relay in answer["relays"]]
    later = answer["laterSecondsB"]
    ended = [relay["ended"] for relay in answer["relays"]]
    found = [*table(columns, rows, width, Column("ENDED"), ended), ""]
    found += facts(
        [
            ("seconds", float(answer["seconds"])),
            ("on both", answer["both"]),
            ("second relay later by", None if later is None else f"{later:.3f} s (median)"),
        ],
        width,
    )
    examples = (Column("TYPE"), Column("ACCOUNT", chars_min=32), Column("REV"))
    for relay in answer["relays"]:
        shown = [(each["type"], each["did"], each["word"]) for each in relay["examples"]]
        if shown:
            found += ["", f"only on {relay['url']}:", *table(examples, shown, width)]
    return found


def run(url_a: str, url_b: str, seconds: float) -> dict[str, Any] | None:
    """Compare and return the report; None, and why on stderr, when one of them gave nothing at all."""
    answer: dict[str, Any] = trio.run(partial(compare, url_a, url_b, seconds))
    for relay in answer["relays"]:
        if not relay["events"] and relay["ended"]:
            print(f"relay compare: {relay['url']}: {relay['ended']}", file=sys.stderr)
            return None
    return answer
