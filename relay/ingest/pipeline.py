"""Bytes → event → verdict → outgoing frame: the straight line of one event, as plain functions without state."""

from typing import NamedTuple

from relay.protocol.errors import SchemaError
from relay.protocol.events import (
    AccountEvent,
    AccountScoped,
    CommitEvent,
    IdentityEvent,
    InfoEvent,
    SyncEvent,
    parse_event,
)
from relay.protocol.frame import ErrorFrame, FrameTemplate, MessageFrame, UnknownFrame, parse_frame, template
from relay.verify.account import judge_account
from relay.verify.commit import judge_commit
from relay.verify.facts import AccountState, Facts, effective_status
from relay.verify.identity import judge_identity
from relay.verify.reasons import reason_of
from relay.verify.sync import judge_sync
from relay.verify.verdict import Accept, Drop, Reason, Verdict

# Names in the `remarks` of an item and of a host's row.
UNPROVEN = "unproven"
CHAIN_BREAK = "chain_break"
SINCE_DIFFERS = "since_differs"


class Unfit(NamedTuple):
    """A frame that holds no event to judge: against the schema, unknown, an error or an info. `kind` labels metrics."""

    kind: str
    drop: Drop
    frame: MessageFrame | ErrorFrame | UnknownFrame


def read_message(message: bytes, *, allow_localhost: bool = False) -> tuple[AccountScoped, MessageFrame] | Unfit:
    """The event in a message, with its frame. Raises `FramingError` (protocol.md section 14 steps 1 and 3).

    `allow_localhost` admits the did:web forms of development networks (checklist 147).
    """
    frame = parse_frame(message)
    if isinstance(frame, ErrorFrame):
        return Unfit("error", Drop(Reason.UPSTREAM_ERROR), frame)
    if isinstance(frame, UnknownFrame):
        return Unfit("unknown", Drop(Reason.UNKNOWN_TYPE if frame.op == 1 else Reason.UNKNOWN_OP), frame)
    try:
        event = parse_event(frame, allow_localhost=allow_localhost)
    except SchemaError as error:
        return Unfit(frame.type, Drop(reason_of(error), str(error)), frame)
    if isinstance(event, InfoEvent):
        return Unfit(frame.type, Drop(Reason.UPSTREAM_INFO), frame)
    return event, frame


def judge_event(event: AccountScoped, facts: Facts) -> Verdict:
    """The verdict of the judge for this kind of event."""
    match event:
        case CommitEvent():
            return judge_commit(event, facts)
        case SyncEvent():
            return judge_sync(event, facts)
        case AccountEvent():
            return judge_account(event, facts)
        case IdentityEvent():
            return judge_identity(event, facts)


def outgoing(event: AccountScoped, frame: MessageFrame, state: AccountState) -> FrameTemplate:
    """The outgoing frame: the payload as it came, but an `#account` says the status we hold (section 17)."""
    kind, payload = frame
    if not isinstance(event, AccountEvent):
        return template(kind, payload)
    active, status = effective_status(state)
    if status is None:
        return template(kind, payload, overrides={"active": active}, without=("status",))
    return template(kind, payload, overrides={"active": active, "status": status})


def remarks_on(verdict: Accept) -> tuple[str, ...]:
    """What there is to count about an event that passes; nearly always nothing."""
    if not (verdict.unproven or verdict.chain_break or verdict.since_differs):
        return ()
    flags = {UNPROVEN: verdict.unproven, CHAIN_BREAK: verdict.chain_break, SINCE_DIFFERS: verdict.since_differs}
    return tuple(name for name, is_so in flags.items() if is_so)
