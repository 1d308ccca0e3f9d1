"""What an event is judged by: the DID's document, the account's row, the host that it came from, and the time."""

from typing import NamedTuple

from relay.protocol.multikey import PublicKey

REPEATED = 1  # of `flags`: the stored commit came once more, in a `#sync` that was passed on


class Identity(NamedTuple):
    """A resolved DID. `host` is the normalised host[:port] of its PDS, None when the document names no usable one.

    `key` is None when the document has no usable signing key. `tombstone` marks a DID that its method says is gone.
    `fetched_ms` is when the document was read; `stale` asks for a refresh before the next use.
    """

    did: str
    key: PublicKey | None
    host: str | None
    fetched_ms: int
    stale: bool = False
    tombstone: bool = False


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


class Facts(NamedTuple):
    """All that a verdict depends on beside the event itself.

    `refreshed`: `identity` was read for this very event, so a mismatch is final.
    """

    identity: Identity
    account: AccountState
    host: HostView
    now_ms: int
    refreshed: bool

    @property
    def is_own_host(self) -> bool:
        """Whether the event came from the host that the account's row names."""
        return self.account.version > 0 and self.account.host_id == self.host.host_id

    def is_replayed(self, seq: int) -> bool:
        """Whether the account's own host already had this event settled (design section 3, "Replays")."""
        return self.is_own_host and self.account.epoch == self.host.epoch and seq <= self.account.upstream_seq

    def advanced(self, seq: int) -> AccountState:
        """The row after an accepted event that changes nothing but the place in the host's stream."""
        return self.account._replace(host_id=self.host.host_id, epoch=self.host.epoch, upstream_seq=seq)


def effective_status(state: AccountState) -> tuple[bool, str | None]:
    """`(active, status)` as we tell consumers (protocol.md section 17): a local status overrides the upstream one."""
    if state.local_status:
        return False, state.local_status
    return state.upstream_active, state.upstream_status or None
