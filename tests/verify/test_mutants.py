"""The forty wrong and ten right ways of `tests.support.mutants`, one by one and without a relay around them."""

import pytest

from relay.ingest.pipeline import Unfit, judge_event, read_message
from relay.verify.facts import NO_ACCOUNT, AccountState, Facts
from relay.verify.modes import LENIENT, MODES, STRICT
from relay.verify.verdict import Accept, Drop, Reason, Recheck
from relay.world.messages import Message
from tests.support.mutants import RIGHT, WRONG, Case, Victim
from tests.support.scene import ELSEWHERE, HOME, NOW_MS

STRANGER = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
# What hosts from before Sync 1.1 may send (design section 4), and what an operator may let pass.
OF_OLD_HOSTS = {Reason.PREV_DATA_MISSING, Reason.OP_PREV_MISSING}


def judged(victim: Victim, messages: list[Message], mode: str) -> list[Reason | None]:
    """The reason for each message in turn, None for what passes."""
    account: AccountState = NO_ACCOUNT
    reasons: list[Reason | None] = []
    for seq, message in enumerate(messages, 1):
        read = read_message(message.frame(seq, NOW_MS))
        if isinstance(read, Unfit):
            reasons.append(read.drop.reason)
            continue
        identity = victim.identity(host=HOME.hostname if read[0].did == victim.did else ELSEWHERE.hostname)
        facts = Facts(identity, account, HOME._replace(mode=mode), victim.now_ms, refreshed=True)
        verdict = judge_event(read[0], facts)
        if isinstance(verdict, Recheck):  # the host says the same again
            verdict = verdict.otherwise
        assert isinstance(verdict, Accept | Drop)
        if isinstance(verdict, Accept):
            account = verdict.state._replace(version=account.version + 1)
        reasons.append(verdict.reason if isinstance(verdict, Drop) else None)
    return reasons


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", [case for case in WRONG if case.document], ids=lambda case: case.name)
def test_each_fault_has_its_own_reason(case: Case, mode: str) -> None:
    """And only the two that old hosts are forgiven depend on the mode."""
    victim = Victim(7, NOW_MS + 60_000, STRANGER)
    messages = [victim.base, *case.make(victim)]
    *before, last = judged(victim, messages, mode)

    assert before == [None] * len(before)
    assert last is (None if mode != STRICT and case.reason in OF_OLD_HOSTS else case.reason)


@pytest.mark.parametrize("mode", [STRICT, LENIENT])
@pytest.mark.parametrize("case", RIGHT, ids=lambda case: case.name)
def test_what_is_no_fault(case: Case, mode: str) -> None:
    victim = Victim(8, NOW_MS + 60_000, STRANGER)
    messages = [victim.base, *case.make(victim)]
    assert judged(victim, messages, mode) == [None] * len(messages)


def test_what_the_cases_start_from_is_good() -> None:
    victim = Victim(9, NOW_MS + 60_000, STRANGER)
    assert judged(victim, [victim.base, victim.follow], STRICT) == [None, None]


def test_every_reason_of_a_judged_commit_has_a_case() -> None:
    """Invariant 11. The rest concern frames, connections, operators, identities and what we emit."""
    elsewhere = {
        Reason.FRAMING,
        Reason.MESSAGE_NOT_BINARY,
        Reason.MESSAGE_TOO_BIG,
        Reason.UNKNOWN_OP,
        Reason.UNKNOWN_TYPE,
        Reason.UPSTREAM_ERROR,
        Reason.UPSTREAM_INFO,
        Reason.SEQ_INVALID,
        Reason.SEQ_NOT_INCREASING,
        Reason.REPLAYED,
        Reason.HOST_BANNED,
        Reason.HOST_QUOTA,
        Reason.IDENTITY_INCOMPLETE,
        Reason.IDENTITY_TOMBSTONED,
        Reason.ACCOUNT_TAKENDOWN,
        Reason.ACCOUNT_THROTTLED,
        Reason.FRAME_TOO_BIG,
    }
    assert {case.reason for case in WRONG} == set(Reason) - elsewhere
