"""Working off a lane: the one place of the ingest role that waits for a DID document, or for a host's word.

The two kinds of failure of design section 4: a DID at fault is held for `hold_seconds` and then dropped; what the
directory fails to answer drops nothing, however long it lasts: lanes fill, readers stop, cursors stay. The exception is
a DID for which it fails while it gives documents of others, for a quarter of an hour (`relay.identity.health`).

A directory may also answer with what was true a moment ago. Right after an `#identity` of a host, a document that still
contradicts it is read again after a short delay before the event is dropped (protocol.md section 11.2).
"""

import random
from functools import partial

import trio

from relay.identity.fetch import DirectoryFault, LookupFault
from relay.ingest.judge import Desk, Judge
from relay.ingest.lanes import Pending
from relay.verify.account import of_a_gone_did, of_a_recheck
from relay.verify.chain import AccountState
from relay.verify.verdict import Drop, Reason, Recheck, Refresh, Verdict

RETRY_SECONDS_MIN = 0.5
RETRY_SECONDS_MAX = 15.0
LAG_SECONDS = (1.0, 4.0)  # how long a document may lag behind the `#identity` that announced it

_MAY_LAG = frozenset({Reason.HOST_MISMATCH, Reason.SIGNATURE_INVALID})


async def work_off(judge: Judge, did: str) -> None:
    """Judge the events of one lane in their order until it is empty, learning about the DID where they need it."""
    desk, lane = judge.desk, judge.lanes[did]
    refreshed, waits = False, iter(LAG_SECONDS)
    while lane:
        pending = lane.head
        now_ms = desk.now_ms()
        with desk.store.view() as view:
            account = judge.account(did, view)
            verdict = judge.verdict(pending, account, now_ms, refreshed=refreshed)
        if judge.is_banned:
            verdict = Drop(Reason.HOST_BANNED)
        if verdict is None or isinstance(verdict, Refresh):
            assert not (refreshed and verdict), "judged by a fresh document, a verdict is final"
            verdict = await _learn(judge, pending, verdict, desk)
            if verdict is None or lane.head is not pending:
                refreshed = True  # refused events may have come back before this one meanwhile
                _tell_if_gone(did, desk)
                continue
        elif isinstance(verdict, Recheck):
            await _recheck(judge, did, account, desk)
            continue
        elif _may_lag(verdict, judge, did, desk) and (seconds := next(waits, None)) is not None:
            await trio.sleep(seconds)
            refreshed = False
            continue
        lane.pop()
        judge.carry_out(pending, verdict, account, now_ms)
        refreshed, waits = False, iter(LAG_SECONDS)
        await desk.batcher.wait_for_room()
    judge.lanes.close(did)


async def _learn(judge: Judge, pending: Pending, wanted: Refresh | None, desk: Desk) -> Drop | None:
    """Look the DID up until there is an answer. None: judge again; a Drop ends the event.

    `wanted` is None while the DID is unknown, else why its document is wanted afresh. A stale one is waited for; else
    the event is judged by what is known when its DID was read again often enough.
    """
    did, hostname = pending.event.did, judge.host.hostname
    unresolved = wanted.otherwise if wanted else Drop(Reason.IDENTITY_UNRESOLVED)
    if desk.resolver.given_up(did):
        return unresolved
    if wanted is not None:
        is_stale = wanted.otherwise.reason is Reason.IDENTITY_UNRESOLVED
        ask = desk.resolver.stale_wait_seconds if is_stale else desk.resolver.refresh_wait_seconds
        seconds = ask(did, hostname)
        if seconds is None:
            return None
        await trio.sleep(seconds)
    held_since = trio.current_time()
    delay = RETRY_SECONDS_MIN
    while True:
        try:
            await desk.resolver.resolve(did)
        except LookupFault as fault:
            if isinstance(fault, DirectoryFault):
                held_since = trio.current_time()
                is_over = desk.resolver.refused(did)
            else:
                is_over = trio.current_time() - held_since >= desk.hold_seconds
            if is_over:
                desk.resolver.give_up(did, hostname)
                return Drop(Reason.IDENTITY_UNRESOLVED, str(fault))
        else:
            return None
        await trio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 -- spreads retries, guards nothing
        delay = min(delay * 2, RETRY_SECONDS_MAX)


def _tell_if_gone(did: str, desk: Desk) -> None:
    """A DID that turns out to be gone is told as deleted, before whatever event made us look (checklist 181)."""
    identity = desk.resolver.known(did)
    if identity is not None and identity.tombstone:
        desk.words.say(did, of_a_gone_did)


def _may_lag(verdict: Verdict, judge: Judge, did: str, desk: Desk) -> bool:
    """Whether this drop may be the directory's delay: the host announced a change of the document just now."""
    is_contradicted = isinstance(verdict, Drop) and verdict.reason in _MAY_LAG
    return is_contradicted and desk.resolver.may_lag(did, judge.host.hostname)


async def _recheck(judge: Judge, did: str, account: AccountState, desk: Desk) -> None:
    """Ask the host what holds for an account it called inactive; if it is active, that is told before its content."""
    word = await desk.statuses.ask(did, judge.host.hostname)
    if word is not None:
        change = partial(of_a_recheck, host_id=account.host_id, active=word.active, status=word.status)
        desk.words.say(did, change)
