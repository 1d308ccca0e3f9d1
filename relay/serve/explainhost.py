"""A host as its owner is told of it: the words about its state and limits, and the numbers beside them. Pure.

Owns what `/explain/host` says. The words follow from the row alone: from its status, and for a status that several
causes share from how the last connection ended.
"""

from collections.abc import Mapping

from relay.crawl.hoststate import Ending
from relay.crawl.limits import Limits, limits_of
from relay.protocol.syntax import format_datetime
from relay.serve.settings import ServeRoleSettings
from relay.store.batch import DropNote
from relay.store.hosts import HostRow
from relay.verify.modes import LENIENT, RATCHET, STRICT, mode_of
from relay.verify.reasons import explain
from relay.verify.verdict import Reason

QUIET_SECONDS = 300  # a host of which nothing was heard for longer is told so

_REASONS = frozenset(Reason)
_LEFT_ALONE = {
    Ending.FUTURE_CURSOR: "The host says that our place in its stream lies in its future, so there is nothing to read. "
    "It is asked again every few minutes, and read from the beginning once it is clear that its seqs began anew.",
    Ending.SEQ_BEHIND: "The host sends nothing but events from before our place in its stream. It is asked again every "
    "few minutes, and read from the beginning once it is clear that its seqs began anew.",
    Ending.RELAY: "The host says of itself that it is a relay, and this relay reads PDSes only. It is asked again once "
    "an hour.",
}
_UNREADABLE = (
    "A message of the host cannot be read, and so nothing that comes after it: this relay returns to the same place "
    "until the host sends that message in another form or no longer keeps it. Every field of a message has to be of "
    "the atproto data model, in strict DAG-CBOR, deprecated and unknown ones too: no floats, no integers beyond signed "
    "64 bits, no CIDs but version 1 with SHA-256 over dag-cbor or raw."
)
_MODES = {
    STRICT: "Every commit but the first of an account has to carry `prevData`, and `prev` in updates and deletes.",
    RATCHET: "Commits without `prevData` and `prev` still pass, until the host sends the first one that has them.",
    LENIENT: "Commits without `prevData` and `prev` pass, by choice of this relay's operator.",
}


def describe_host(row: HostRow, notes: list[DropNote], settings: ServeRoleSettings, now_ms: int) -> dict[str, object]:
    """A host as its owner needs to know it."""
    limits = limits_of(row, settings.hosts)
    mode = mode_of(row.mode, settings.mode, known_at_install=row.known_at_install, proven=row.proven)
    return {
        "hostname": row.hostname,
        "summary": _summary(row, limits, settings.contact, now_ms),
        "status": row.status,
        "statusSince": time_of(row.since_ms),
        "lastError": row.last_error or None,
        "contact": settings.contact or None,
        "mode": {"name": mode, "means": _MODES[mode], "sentProvenCommit": row.proven},
        "limits": {
            "tier": limits.tier,
            "accounts": limits.accounts,
            "eventsPerSecond": limits.per_second,
            "eventsPerHour": limits.per_hour,
            "eventsPerDay": limits.per_day,
        },
        "limitReached": _limit_reached(row, limits),
        "accounts": row.account_count,
        "waitingAccounts": row.throttled_count,
        "overQuotaSince": time_of(row.over_quota_ms),
        **_place(row, now_ms),
        "firstAccepted": time_of(row.first_event_ms),
        "lastAccepted": time_of(row.last_accepted_ms),
        "accepted": row.accepted,
        "acceptedUnproven": row.remarks.get("unproven", 0),
        "chainBreaks": row.remarks.get("chain_break", 0),
        "dropped": [_count(reason, count) for reason, count in _most(row.dropped)],
        "lastDrops": [drop_of(note) for note in notes],
    }


def host_words(row: HostRow, now_ms: int) -> str:
    """What becomes of the stream of the host, and why."""
    ending = f" ({row.last_error})" if row.last_error else ""
    match row.status:
        case "banned":
            return "The operator of this relay has banned the host; it is not read."
        case "throttled":
            over = row.last_error or "over one of its limits"
            return f"The host is {over} on this relay{_since(row.since_ms)}. Nothing is lost: it is read later."
        case "offline" if not row.last_ending:
            return (
                "Another relay lists the host as offline, and this one has not reached it yet. It is tried by itself."
            )
        case "offline":
            return (
                f"Connections to the host have failed many times in a row{ending}. It is tried again with growing "
                "pauses of up to an hour; a requestCrawl makes that now."
            )
        case "idle":
            return _idle(row, ending)
        case _ if row.connected_ms:
            return _reading(row, now_ms)
        case _ if row.last_ending:
            return f"The last connection to the host ended{ending}; it is tried again by itself."
        case _:
            return "This relay is about to connect to the host again."


def quota_words(row: HostRow, limits: Limits) -> str:
    """That accounts of the host wait for room, "" when none does."""
    if not row.throttled_count:
        return ""
    over = f"over its limit of {limits.accounts} accounts on this relay{_since(row.over_quota_ms)}"
    return f"The host is {over}: {row.throttled_count} wait."


def whom_to_ask(contact: str) -> str:
    """Who can lift a limit or a ban."""
    return f"The operator of this relay can change that: {contact}" if contact else "Only the operator can change that."


def drop_of(note: DropNote) -> dict[str, object]:
    """A drop with the rule that it broke."""
    return {
        "time": time_of(note.time_ms),
        "reason": note.reason,
        "means": _means(note.reason),
        "detail": note.detail or None,
        "rev": note.rev or None,
        "seq": note.upstream_seq,
    }


def time_of(time_ms: int) -> str | None:
    """A moment in the words of the protocol, None for never."""
    return format_datetime(time_ms) if time_ms else None


def _since(time_ms: int) -> str:
    return f" since {time_of(time_ms)}" if time_ms else ""


def _summary(row: HostRow, limits: Limits, contact: str, now_ms: int) -> str:
    """The state of the host, what else stands in its way, and who can change that."""
    quota = quota_words(row, limits)
    stuck = _UNREADABLE if row.last_ending == Ending.FRAMING else ""
    said = [host_words(row, now_ms), stuck, quota]
    if not row.accepted:
        said.append("Nothing of it has been accepted yet.")
        said += [f"Most of what it sent was dropped: {_means(reason)}" for reason, _ in _most(row.dropped)[:1]]
    if quota or row.status in ("banned", "throttled"):
        said.append(whom_to_ask(contact))
    return " ".join(filter(None, said))


def _idle(row: HostRow, ending: str) -> str:
    if row.last_ending in _LEFT_ALONE:
        return _LEFT_ALONE[Ending(row.last_ending)]
    if row.last_ending:
        return f"The last attempt to read the host ended{ending}; it is tried again by itself."
    if row.last_event_ms or row.cursor is not None:
        return f"This relay is about to connect to the host again{ending}."
    return "The host has not been tried yet; a worker of this relay does that by itself."


def _reading(row: HostRow, now_ms: int) -> str:
    heard_ms = max(row.last_event_ms, row.connected_ms)
    if now_ms - heard_ms <= QUIET_SECONDS * 1_000:
        return "This relay reads the stream of the host."
    return f"This relay reads the stream of the host, in which nothing has come since {time_of(heard_ms)}."


def _limit_reached(row: HostRow, limits: Limits) -> dict[str, object] | None:
    """The limit that holds the host back now: a rate, else the account quota."""
    if row.status == "throttled":
        return {"which": row.last_error or None, "since": time_of(row.since_ms)}
    if row.throttled_count:
        return {"which": f"over its limit of {limits.accounts} accounts", "since": time_of(row.over_quota_ms)}
    return None


def _place(row: HostRow, now_ms: int) -> dict[str, object]:
    """Where this relay is in the host's stream, and what may be missing before."""
    gap = {"name": row.possible_gap, "at": time_of(row.possible_gap_ms)} if row.possible_gap else None
    return {
        "cursor": row.cursor,
        "cursorLag": {
            "lastEventReceived": time_of(row.last_event_ms),
            "secondsAgo": max(0, now_ms - row.last_event_ms) // 1000 if row.last_event_ms else None,
            "means": "everything up to `cursor`, in the host's own numbering, is settled here; what came later is not",
        },
        "behindSeconds": row.lag_ms // 1000 or None,
        "possibleGap": gap,
        "restarts": {"epoch": row.epoch, "cursorBefore": row.cursor_before} if row.epoch else None,
    }


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The most frequent first."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _count(reason: str, count: int) -> dict[str, object]:
    return {"reason": reason, "count": count, "means": _means(reason)}


def _means(reason: str) -> str:
    """The rule in a sentence; a reason that an earlier version wrote may be one we no longer have."""
    return explain(Reason(reason)) if reason in _REASONS else ""
