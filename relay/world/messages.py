"""The frames of `subscribeRepos` as a host sends them (protocol.md sections 2.3 and 3).

Owns the payload shapes of the five message types and of the error frame. A `Message` has no seq and no time yet: the
host that emits it gives both. Decodes nothing.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from relay.world.dagcbor import Link, Value, encode
from relay.world.times import datetime_text


class Message(NamedTuple):
    """One event before it is numbered. `did` is empty for `#info`; `rev` is empty unless it carries a commit."""

    type: str
    did: str
    payload: Mapping[str, Value]
    rev: str = ""

    def frame(self, seq: int, time_ms: int) -> bytes:
        """The WebSocket message: header and payload, with `seq` and `time` in their places."""
        return encode({"op": 1, "t": self.type}) + encode(
            {**self.payload, "seq": seq, "time": datetime_text(time_ms)},
        )


class Op(NamedTuple):
    """One record change. `prev` is None for a create (the key is then left out), `cid` for a delete."""

    action: str
    path: str
    cid: Link | None
    prev: Link | None


def commit_message(
    did: str,
    rev: str,
    *,
    since: str | None,
    commit: Link,
    prev_data: Link | None,
    ops: Sequence[Op],
    blocks: bytes,
) -> Message:
    """`#commit`. A None `prev_data` leaves the key out, as a real PDS does on the first commit of an account."""
    payload: dict[str, Value] = {
        "repo": did,
        "rev": rev,
        "since": since,
        "commit": commit,
        "blocks": blocks,
        "ops": [_op(op) for op in ops],
        "blobs": [],
        "rebase": False,
        "tooBig": False,
    }
    if prev_data is not None:
        payload["prevData"] = prev_data
    return Message("#commit", did, payload, rev)


def sync_message(did: str, rev: str, blocks: bytes) -> Message:
    """`#sync`; `blocks` holds the commit block only."""
    return Message("#sync", did, {"did": did, "rev": rev, "blocks": blocks}, rev)


def identity_message(did: str, handle: str | None) -> Message:
    """`#identity`; a None `handle` leaves the key out."""
    payload: dict[str, Value] = {"did": did}
    if handle is not None:
        payload["handle"] = handle
    return Message("#identity", did, payload)


def account_message(did: str, status: str | None = None) -> Message:
    """`#account`: active without a `status`, inactive with one."""
    payload: dict[str, Value] = {"did": did, "active": status is None}
    if status is not None:
        payload["status"] = status
    return Message("#account", did, payload)


def info_frame(name: str, message: str) -> bytes:
    """`#info`, which has neither seq nor time."""
    return encode({"op": 1, "t": "#info"}) + encode({"name": name, "message": message})


def error_frame(error: str, message: str) -> bytes:
    """An error frame; the sender closes after it."""
    return encode({"op": -1}) + encode({"error": error, "message": message})


def _op(op: Op) -> dict[str, Value]:
    fields: dict[str, Value] = {"action": op.action, "path": op.path, "cid": op.cid}
    if op.prev is not None:
        fields["prev"] = op.prev
    return fields
