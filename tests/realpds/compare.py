"""What hosts sent against what came out of the relay: pure, over decoded frames.

An event is compared as its whole payload without `seq`: a signed block, a time or an op that the relay changed is a
difference. Where several hosts speak for one account, one after the other, the hosts are given in that order.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from relay.protocol.car import parse_car
from relay.protocol.cid import to_text
from relay.protocol.commit import parse_commit
from relay.protocol.frame import MessageFrame

Events = dict[str, list[tuple[str, dict[str, Any]]]]


class Commit(NamedTuple):
    """A commit as a client learns of it when it writes; `cid` is text."""

    did: str
    rev: str
    cid: str


def did_of(frame: MessageFrame) -> str:
    """Whose event it is."""
    return str(frame.payload.get("repo") or frame.payload["did"])


def by_account(frames: Iterable[MessageFrame]) -> Events:
    """Type and payload without seq, in the order they came, for each account."""
    found: Events = defaultdict(list)
    for frame in frames:
        payload = {key: value for key, value in frame.payload.items() if key != "seq"}
        found[did_of(frame)].append((frame.type, payload))
    return dict(found)


def differences(sent: Events, received: Events) -> list[str]:
    """Accounts whose events did not come out as they were sent, in words short enough for a failing test."""
    return [
        f"{did}: sent {_short(sent.get(did, []))}, received {_short(received.get(did, []))}"
        for did in sorted(sent.keys() | received.keys())
        if sent.get(did) != received.get(did)
    ]


def _short(events: Sequence[tuple[str, dict[str, Any]]]) -> str:
    return ", ".join(f"{kind}:{payload.get('rev', payload.get('status', ''))}" for kind, payload in events[-12:])


def commits(frames: Iterable[MessageFrame], *, with_ops: bool = False) -> set[Commit]:
    """The commits announced by `#commit`; `with_ops` leaves out those that wrote no record."""
    return {
        Commit(did_of(frame), frame.payload["rev"], to_text(frame.payload["commit"]))
        for frame in frames
        if frame.type == "#commit" and (frame.payload["ops"] or not with_ops)
    }


def ledger(path: Path) -> set[Commit]:
    """What the writers were told by their PDS, one line a commit."""
    entries = (json.loads(line) for line in path.read_text().splitlines())
    return {Commit(entry["did"], entry["rev"], entry["commit"]) for entry in entries}


def ops(frames: Iterable[MessageFrame]) -> int:
    """How many record operations the commits hold."""
    return sum(len(frame.payload["ops"]) for frame in frames if frame.type == "#commit")


def without(frames: Iterable[MessageFrame], dropped: Callable[[MessageFrame], bool]) -> list[MessageFrame]:
    """The frames that a rule does not forbid."""
    return [frame for frame in frames if not dropped(frame)]


def carries_foreign_rev(frame: MessageFrame) -> bool:
    """Whether it is a `#sync` whose signed commit has another rev than the event: a PDS sends it after an import."""
    if frame.type != "#sync":
        return False
    car = parse_car(frame.payload["blocks"])
    return parse_commit(car.blocks[car.root]).rev != str(frame.payload["rev"])
