"""A consistent look at the state: one short read txn and what can be asked in it.

    with store.view() as view:
        account = view.account(did)

No await inside, and nothing long: a read txn of the state keeps every page that is replaced while it lasts.
"""

from types import TracebackType
from typing import Self, TypeVar

from relay.store.accounts import AccountPage, read_account, read_accounts, read_throttled, read_throttling
from relay.store.batch import DropNote
from relay.store.env import TRANSLATED, Env, Txn
from relay.store.hosts import HostRow, read_host, read_host_named, read_hosts
from relay.store.identities import read_identity
from relay.store.layout import read_generation
from relay.store.notes import read_notes
from relay.store.policy import read_audit, read_decoded, read_domain_ban, read_page, read_policy
from relay.store.state import State
from relay.verify.facts import AccountState, Identity

T = TypeVar("T")
D = TypeVar("D")


class View:
    """One snapshot. Made by `Store.view()`; of no use after its block."""

    __slots__ = ("_env", "_state", "_txn")
    _txn: "Txn[bytes]"

    def __init__(self, state: State) -> None:
        self._state = state
        self._env: Env = state.env

    def __enter__(self) -> Self:
        self._state.check()
        with TRANSLATED:
            self._txn = self._env.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._txn.abort()
        TRANSLATED.__exit__(kind, error, trace)

    def account(self, did: str) -> AccountState | None:
        """The row of a DID, None when there is none."""
        return read_account(self._env, self._txn, did)

    def accounts(self, after_did: str, limit: int, host_id: int | None = None) -> AccountPage:
        """Accounts in order of DID, from behind `after_did`; only those of one host when `host_id` is given.

        Bounded in rows looked at, so a page may be short or empty although `next_after` says that there is more.
        """
        return read_accounts(self._env, self._txn, after_did, limit, host_id)

    def throttled(self, host_id: int, limit: int) -> list[str]:
        """DIDs of a host that are locally throttled, in the order in which they came to be."""
        return read_throttled(self._env, self._txn, host_id, limit)

    def throttling(self) -> list[int]:
        """The ids of hosts that have locally throttled accounts."""
        return read_throttling(self._env, self._txn)

    def identity(self, did: str) -> Identity | None:
        """What a DID last resolved to, None when it never did."""
        return read_identity(self._env, self._txn, did)

    def host(self, host_id: int) -> HostRow | None:
        """The row of a host by its id."""
        return read_host(self._env, self._txn, host_id)

    def host_named(self, hostname: str) -> HostRow | None:
        """The row of a host by its 'host[:port]'."""
        return read_host_named(self._env, self._txn, hostname)

    def hosts(self, after_id: int, limit: int) -> list[HostRow]:
        """Hosts with a greater id, in order of id."""
        return read_hosts(self._env, self._txn, after_id, limit)

    def notes(self, subject: str | int) -> list[DropNote]:
        """The last drops of a DID or a host id, newest first."""
        return read_notes(self._env, self._txn, subject)

    def policy_value(self, name: str) -> bytes | None:
        """One of operators' settings (names: `relay.store.policy`), None when it is not set."""
        return read_policy(self._env, self._txn, name)

    def policy(self, name: str, kind: type[T], default: D) -> T | D:
        """One of operators' settings as a value of its kind, `default` when it is not set. Raises `Corrupt`."""
        return read_decoded(self._env, self._txn, name, kind, default)

    def policy_page(self, prefix: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Up to `limit` settings below `prefix`, by what follows it, from behind `after` on."""
        return read_page(self._env, self._txn, prefix, after, limit)

    def domain_ban(self, hostname: str) -> str | None:
        """The banned domain that 'host[:port]' is or lies below, None when it is under no ban."""
        return read_domain_ban(self._env, self._txn, hostname)

    def audit_log(self, before: int | None, limit: int) -> list[tuple[int, bytes]]:
        """Entries of the audit log with a number below `before`, newest first."""
        return read_audit(self._env, self._txn, before, limit)

    def generation(self) -> int:
        """Rises with every change that workers may hold in memory: hosts, bans, policy."""
        return read_generation(self._env, self._txn)
