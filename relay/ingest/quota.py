"""How many accounts of one host this relay carries: who comes in, who waits, who is turned away (design section 4).

Owns the decision for an event by which an account would join the host. Up to the quota accounts come in; from there to
twice the quota they get a row, and consumers are told once that they are throttled; beyond it nothing is kept. Counts
are those of the host's row, which change in the txn of the account rows, and what is on its way to them. Letting
accounts in later is the worker's, once a second (`Store.release_throttled`).
"""

from relay.ingest.pipeline import outgoing
from relay.protocol.events import AccountEvent, AccountScoped
from relay.protocol.frame import FrameTemplate, MessageFrame, account_frame
from relay.store.store import Store
from relay.verify.account import is_deleted
from relay.verify.facts import AccountState, effective_status
from relay.verify.verdict import Accept, Drop, Reason

THROTTLED = "throttled"
TURNED_AWAY_FACTOR = 2
RELEASED_PER_SECOND = 100


class Quota:
    """The account quota of one host. `limit` may change at any time."""

    def __init__(self, store: Store, host_id: int, limit: int) -> None:
        self.limit = limit
        self._store = store
        self._host_id = host_id
        self._joining: set[str] = set()  # accepted, and not known to be in the row's count yet

    def turns_away(self, account: AccountState) -> Drop | None:
        """Whether an event is dropped unseen, because its account has no row and there will be none.

        Asked before an unknown DID is looked up, so that a host far over its quota costs no lookups.
        """
        if account.version or self._may_count() < TURNED_AWAY_FACTOR * self.limit:
            return None
        counted, _, joining = self._counts()
        if counted + joining < TURNED_AWAY_FACTOR * self.limit:
            return None
        return self._turned_away(counted)

    def judge(self, event: AccountScoped, verdict: Accept, account: AccountState) -> Accept | Drop:
        """The verdict with the quota applied; `account` is the row before.

        An account that comes from another host as throttled waits here in turn, and is let in at once if there is room.
        """
        state = verdict.state
        if account.local_status == THROTTLED:
            if account.host_id != self._host_id:
                self._joining.add(event.did)
            return _while_throttled(event, verdict, account)
        if _counts_for(account, self._host_id) or not _counts_for(state, self._host_id):
            return verdict
        if self._may_count() >= self.limit:
            counted, waiting, joining = self._counts()
            if not account.version and counted + joining >= TURNED_AWAY_FACTOR * self.limit:
                return self._turned_away(counted)
            if not state.local_status and (waiting or counted - waiting + joining >= self.limit):
                verdict = verdict._replace(state=_throttled(state, account))
        self._joining.add(event.did)
        return verdict

    def settled(self, did: str) -> None:
        """The item is in the log, or was refused: either way the rows say what is so."""
        self._joining.discard(did)

    def _turned_away(self, counted: int) -> Drop:
        return Drop(Reason.HOST_QUOTA, f"the host has {counted} accounts here, its limit is {self.limit}")

    def _may_count(self) -> int:
        """An upper bound on the accounts, cheap: enough for nearly every host nearly always."""
        with self._store.view() as view:
            row = view.host(self._host_id)
        return (row.account_count if row is not None else 0) + len(self._joining)

    def _counts(self) -> tuple[int, int, int]:
        """The accounts that the row counts, those of them that wait, and those on their way that it does not count."""
        with self._store.view() as view:
            row = view.host(self._host_id)
            assert row is not None, "rows of hosts are never removed"
            rows = (view.account(did) for did in self._joining)
            joining = sum(account is None or not _counts_for(account, self._host_id) for account in rows)
        return row.account_count, row.throttled_count, joining


def outgoing_frame(
    event: AccountScoped, frame: MessageFrame, before: AccountState, after: AccountState, now_ms: int
) -> FrameTemplate:
    """What consumers get for an event that passes: of one that throttles its account, an `#account` in its place."""
    if after.local_status == THROTTLED and before.local_status != THROTTLED:
        return account_frame(event.did, now_ms, *effective_status(after))
    return outgoing(event, frame, after)


def _counts_for(account: AccountState, host_id: int) -> bool:
    """Whether the row counts as an account of the host (`relay.store.accounts.standing`)."""
    return account.host_id == host_id and not is_deleted(account)


def _throttled(state: AccountState, account: AccountState) -> AccountState:
    """The row of an account that has to wait: no content of it passed, so none is remembered."""
    return state._replace(local_status=THROTTLED, rev=account.rev, data=account.data, commit=account.commit)


def _while_throttled(event: AccountScoped, verdict: Accept, account: AccountState) -> Accept | Drop:
    """An event that passes although its account waits: only what changes what its host says of it."""
    state = verdict.state
    if not isinstance(event, AccountEvent):
        return verdict
    if is_deleted(state):
        return verdict._replace(state=state._replace(local_status=""))
    same = (state.upstream_active, state.upstream_status) == (account.upstream_active, account.upstream_status)
    if same and state.host_id == account.host_id:
        return Drop(Reason.ACCOUNT_THROTTLED, "consumers were told that the account waits")
    return verdict
