"""Working off a lane: the one place of the ingest role that waits for a DID document, or for a host's word.

The two kinds of failure of design section 4: a DID at fault is held for `hold_seconds` and then dropped; what the
directory fails to answer drops nothing, however long it lasts: lanes fill, readers stop, cursors stay. The exception is
a DID for which it fails while it gives documents of others, for a quarter of an hour (`relay.identity.health`).

No account makes the others of its host wait for long: a lane that holds the host up (`Lane.hurried`) waits for no
budget and for no directory that may lag, and for a DID at fault only `HURRIED_HOLD_SECONDS`. What has to be known for
an event to pass stays the same, and what that costs in lookups is little: it takes a full lane each time.

A directory may also answer with what was true a moment ago. Right after an `#identity` of a host, a document that still
contradicts it is read again after a short delay before the event is dropped (protocol.md section 11.2).
"""

import random
from functools import partial

import trio

from relay.identity.fetch import DirectoryFault, LookupFault
from relay.ingest.judge import Desk, Judge
from relay.ingest.lanes import Lane
from relay.verify.account import of_a_gone_did, of_a_recheck
from relay.verify.facts import AccountState
from relay.verify.verdict import Drop, Reason, Recheck, Refresh, Verdict

RETRY_SECONDS_MIN = 0.5
RETRY_SECONDS_MAX = 15.0
HURRIED_HOLD_SECONDS = 5.0
LAG_SECONDS = (1.0, 4.0)  # how long a document may lag behind the `#identity` that announced it

_MAY_LAG = frozenset({Reason.HOST_MISMATCH, Reason.IDENTITY_INCOMPLETE, Reason.SIGNATURE_INVALID})


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
            verdict = await _learn(judge, lane, verdict)
            if verdict is None or lane.head is not pending:
                refreshed = True  # refused events may have come back before this one meanwhile
                _tell_if_gone(did, desk)
                continue
        elif isinstance(verdict, Recheck):
            await _recheck(judge, did, account, desk)
            continue
        elif _may_lag(verdict, judge, did, desk) and (seconds := next(waits, None)) is not None:
            await _pause(lane, seconds)
            refreshed = False
            continue
        lane.pop()
        judge.carry_out(pending, verdict, account, now_ms)
        refreshed, waits = False, iter(LAG_SECONDS)
        await desk.batcher.wait_for_room()
    judge.lanes.close(did)


async def _learn(judge: Judge, lane: Lane, wanted: Refresh | None) -> Drop | None:
    """Look the DID of the lane's head up until there is an answer. None: judge again; a Drop ends the event.

    `wanted` is None while the DID is unknown, else why its document is wanted afresh.
    """
    did, resolver = lane.head.event.did, judge.desk.resolver
    unresolved = wanted.otherwise if wanted else Drop(Reason.IDENTITY_UNRESOLVED)
    if resolver.given_up(did):
        return unresolved
    if wanted is not None and not await _take_turn(judge, lane, wanted):
        return None
    return await _look_up(judge, lane)


async def _take_turn(judge: Judge, lane: Lane, wanted: Refresh) -> bool:
    """Wait until the document may be read again; False if it was read so often that what is known has to do.

    That is never so for a stale one: without an answer newer than the event, nothing passes.
    """
    did, hostname, refreshes = lane.head.event.did, judge.host.hostname, judge.desk.resolver.refreshes
    if wanted.otherwise.reason is Reason.IDENTITY_UNRESOLVED:
        while (seconds := refreshes.stale_wait_seconds(did, hostname)) and not lane.hurried.is_set():
            await _pause(lane, seconds)
        return True
    turn_seconds = refreshes.wait_seconds(did, hostname)
    if turn_seconds is None:
        return False
    await _pause(lane, turn_seconds)
    return True


async def _look_up(judge: Judge, lane: Lane) -> Drop | None:
    """Ask for a document newer than the lane's head, until there is one (None) or it was waited for long enough."""
    pending, resolver = lane.head, judge.desk.resolver
    did = pending.event.did
    held_since = trio.current_time()
    delay = RETRY_SECONDS_MIN
    while True:
        try:
            await resolver.resolve(did, pending.reads)
        except LookupFault as fault:
            said, is_directory = str(fault), isinstance(fault, DirectoryFault)
        else:
            return None
        if is_directory:
            held_since = trio.current_time()
            is_over = resolver.refused(did)
        else:
            is_over = trio.current_time() - held_since >= _hold_seconds(judge, lane)
        if is_over:
            resolver.give_up(did, judge.host.hostname)
            return Drop(Reason.IDENTITY_UNRESOLVED, said)
        seconds = delay * random.uniform(0.5, 1.0)  # noqa: S311 -- spreads retries, guards nothing
        await _pause_between(lane, seconds, is_directory)
        delay = min(delay * 2, RETRY_SECONDS_MAX)


async def _pause_between(lane: Lane, seconds: float, is_directory: bool) -> None:
    """Wait before the next try. A directory that is down is not asked more often because many wait for it."""
    at_least_seconds = seconds if is_directory else min(seconds, RETRY_SECONDS_MIN)
    await trio.sleep(at_least_seconds)
    await _pause(lane, seconds - at_least_seconds)


async def _pause(lane: Lane, seconds: float) -> None:
    """Wait so long, or until the lane is hurried."""
    with trio.move_on_after(seconds):
        await lane.hurried.wait()


def _hold_seconds(judge: Judge, lane: Lane) -> float:
    """How long the events of a DID at fault are held."""
    hold_seconds = judge.desk.hold_seconds
    return min(hold_seconds, HURRIED_HOLD_SECONDS) if lane.hurried.is_set() else hold_seconds


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
