"""`relay tail --verify`: the stream judged by a consumer that trusts nobody but the directory.

Looks up every DID itself and holds each event against what it has seen of the account: signature, operations, revs and
status, by the same rules that the relay applies to its hosts (`relay.verify`). Who may speak for an account cannot be
seen in a relay's stream, so that is the one rule left out. A chain that breaks is passed on by relays and counted here.
"""

from collections import OrderedDict
from collections.abc import Iterable

import trio

from relay.identity.fetch import DocumentSource, LookupFault
from relay.ingest.pipeline import judge_event
from relay.protocol.events import AccountScoped, CommitEvent, Event, IdentityEvent, SyncEvent
from relay.verify.facts import NO_ACCOUNT, AccountState, Facts, HostView, Identity
from relay.verify.modes import LENIENT
from relay.verify.reasons import explain
from relay.verify.verdict import Accept, Drop, Reason, Recheck, Refresh, Verdict

LOOKUPS_AT_ONCE = 32
LOOKUP_PATIENCE_SECONDS = 30.0
RETRY_SECONDS = 1.0
ACCOUNTS_KEPT = 500_000

_STREAM = HostView(host_id=0, hostname="the stream", epoch=0, mode=LENIENT)


class Misjudged(Exception):  # noqa: N818 -- a finding about the stream, not an error of this program
    """The stream holds an event that a relay must not pass; the message says which and why."""


class Verifier:
    """Judges events in their order; `source` gives documents.

    What is known of an account begins with its first event here, so a break before that is not seen.
    """

    def __init__(self, source: DocumentSource) -> None:
        self._source = source
        self._slots = trio.CapacityLimiter(LOOKUPS_AT_ONCE)
        self._identities: OrderedDict[str, Identity] = OrderedDict()
        self._accounts: OrderedDict[str, AccountState] = OrderedDict()
        self.verified = 0
        self.unproven = 0
        self.breaks = 0

    async def prepare(self, events: Iterable[Event]) -> None:
        """Look up what is not known yet of all these, many at a time; what fails is tried again when it is its turn."""
        wanted = {event.did for event in events if isinstance(event, CommitEvent | SyncEvent)} - self._identities.keys()
        async with trio.open_nursery() as nursery:
            for did in wanted:
                nursery.start_soon(self._look_up, did)

    async def check(self, event: AccountScoped, now_ms: int) -> None:
        """Judge the next event. Raises `Misjudged`."""
        if isinstance(event, IdentityEvent):
            self._identities.pop(event.did, None)
            return
        is_signed = isinstance(event, CommitEvent | SyncEvent)
        verdict = self._judge(event, now_ms, refreshed=False) if is_signed else self._believe(event)
        if verdict is None or isinstance(verdict, Refresh):
            await self._insist(event.did)
            verdict = self._judge(event, now_ms, refreshed=True)
        if isinstance(verdict, Drop | Recheck):
            raise Misjudged(_fault(event, verdict.otherwise if isinstance(verdict, Recheck) else verdict))
        assert isinstance(verdict, Accept), "judged by a fresh document, a verdict is final"
        self._settle(event.did, verdict)

    def _judge(self, event: AccountScoped, now_ms: int, *, refreshed: bool) -> Verdict | None:
        identity = self._identities.get(event.did)
        if identity is None:
            return None
        account = self._accounts.get(event.did, NO_ACCOUNT)
        return judge_event(event, Facts(identity, account, _STREAM, now_ms, refreshed))

    def _believe(self, event: AccountScoped) -> Verdict | None:
        """The verdict on an event without a signature: it is as good as the relay that passes it on."""
        identity = Identity(event.did, None, _STREAM.hostname, 0)
        account = self._accounts.get(event.did, NO_ACCOUNT)
        return judge_event(event, Facts(identity, account, _STREAM, 0, refreshed=True))

    def _settle(self, did: str, verdict: Accept) -> None:
        self.verified += 1
        self.unproven += verdict.unproven
        self.breaks += verdict.chain_break
        self._accounts[did] = verdict.state
        self._accounts.move_to_end(did)
        if len(self._accounts) > ACCOUNTS_KEPT:
            self._accounts.popitem(last=False)

    async def _insist(self, did: str) -> None:
        """Read the document now; keep trying for a while. Raises `Misjudged` when there is none to be had."""
        fault: LookupFault | None = None
        with trio.move_on_after(LOOKUP_PATIENCE_SECONDS):
            while (fault := await self._look_up(did)) is not None:  # noqa: ASYNC110 -- it is elsewhere that it changes
                await trio.sleep(RETRY_SECONDS)
            return
        raise Misjudged(f"{did} does not resolve, so its events cannot be verified: {fault or 'no answer'}")

    async def _look_up(self, did: str) -> LookupFault | None:
        """Read the document now; the fault if there is none."""
        try:
            async with self._slots:
                document = await self._source.fetch(did)
        except LookupFault as fault:
            return fault
        self._identities[did] = Identity(did, document.key, _STREAM.hostname, 0)
        self._identities.move_to_end(did)
        if len(self._identities) > ACCOUNTS_KEPT:
            self._identities.popitem(last=False)
        return None


def _fault(event: AccountScoped, drop: Drop) -> str:
    detail = f" ({drop.detail})" if drop.detail else ""
    return f"seq {event.seq} of {event.did}: {drop.reason}{detail}: {explain(Reason(drop.reason))}"
