"""What is known between events of an account and of its host: the state that the next event is judged against."""

from typing import NamedTuple

REPEATED = 1  # of `flags`: the stored commit came once more, in a `#sync` that was passed on


class AccountState(NamedTuple):
    """One account as last settled. The store keeps it as a row; verification reads it and returns its successor.

    `version` rises by one with every append or status change by whomever (design section 3, "Compare"); 0 means that
    there is no row. `rev`, `data` and `commit` are empty while no commit was accepted; the digests are the 32 bytes of
    the SHA-256 inside the CID. `upstream_seq` and `epoch` are of the last settled event of the account's own host.
    `flags` is 0 or `REPEATED`.
    """

    version: int = 0
    host_id: int = 0
    upstream_active: bool = True
    upstream_status: str = ""  # as the host said it, "" when it gave none
    local_status: str = ""  # "" | "takendown" | "suspended" | "throttled"
    rev: str = ""
    data: bytes = b""
    commit: bytes = b""
    upstream_seq: int = 0
    epoch: int = 0
    flags: int = 0


NO_ACCOUNT = AccountState()


class HostView(NamedTuple):
    """The upstream host an event came from. `hostname` is normalised host[:port]; `epoch` counts its seq restarts.

    `mode` is the one in force now (`relay.verify.modes.mode_of`).
    """

    host_id: int
    hostname: str
    epoch: int
    mode: str


def effective_status(state: AccountState) -> tuple[bool, str | None]:
    """`(active, status)` as we tell consumers (protocol.md section 17): a local status overrides the upstream one."""
    if state.local_status:
        return False, state.local_status
    return state.upstream_active, state.upstream_status or None


def is_replayed(seq: int, account: AccountState, host: HostView) -> bool:
    """Whether the account's own host already had this event settled (design section 3, "Replays")."""
    own = account.version > 0 and account.host_id == host.host_id and account.epoch == host.epoch
    return own and seq <= account.upstream_seq


def advanced(account: AccountState, host: HostView, seq: int) -> AccountState:
    """The row after an accepted event that changes nothing but the place in the host's stream."""
    return account._replace(host_id=host.host_id, epoch=host.epoch, upstream_seq=seq)
