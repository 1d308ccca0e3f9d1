"""Who may speak for an account: the host that its DID document names, and while it is silent, the one we stored.

Every `judge_*` of this floor asks here first, because the answer is cheap and decides about most hostile traffic
(protocol.md section 18, checklist 161 to 167).
"""

from relay.verify.facts import AccountState, Facts
from relay.verify.verdict import Drop, Reason, Recheck, Refresh, unless_fresh

STATUSES = frozenset({"takendown", "suspended", "deleted", "deactivated", "desynchronized", "throttled"})


def check_host(facts: Facts) -> Drop | Refresh | None:
    """Whether the event's host may speak for the DID. None means yes.

    A document that names another host, or none, or that is gone, is read afresh once before the event is dropped: after
    a migration the first event may come from the new host before anything told us (checklist 163).
    """
    identity, host = facts.identity, facts.host
    if identity.tombstone:
        drop = Drop(Reason.IDENTITY_TOMBSTONED)
    elif identity.host is None:
        drop = Drop(Reason.IDENTITY_INCOMPLETE, "the DID document names no usable PDS")
    elif identity.host != host.hostname:
        drop = Drop(Reason.HOST_MISMATCH, f"the DID document names {identity.host}")
    elif identity.stale and not facts.refreshed:
        drop = Drop(Reason.IDENTITY_UNRESOLVED)
    else:
        return None
    return unless_fresh(drop, facts)


def check_status(account: AccountState) -> Drop | Recheck | None:
    """A Drop when no content may pass for this account now (protocol.md section 17).

    A host that sends content for an account which it said is inactive is asked again what holds: flags gone stale have
    locked out live accounts (checklist 171).
    """
    if account.local_status == "throttled":
        return Drop(Reason.ACCOUNT_THROTTLED)
    if account.local_status:
        return Drop(Reason.ACCOUNT_TAKENDOWN)
    if not account.upstream_active:
        return Recheck(Drop(Reason.ACCOUNT_INACTIVE, _told(account.upstream_status)))
    return None


def _told(status: str) -> str:
    """The status for people; a word we do not know is the host's own and is not repeated."""
    return f"status {status} at its host" if status in STATUSES else "inactive at its host"
