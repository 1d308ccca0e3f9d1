"""The verdict on `#account` and `#identity`, and what consumers are told."""

import pytest

from relay.protocol.events import AccountEvent, IdentityEvent
from relay.verify.account import judge_account, of_a_gone_did, of_a_recheck
from relay.verify.facts import NO_ACCOUNT, AccountState, effective_status
from relay.verify.identity import judge_identity
from relay.verify.reasons import explain
from relay.verify.verdict import Accept, Drop, Reason, Refresh
from tests.support.scene import ELSEWHERE, HOME, Scene

SCENE = Scene()
DELETED_AND_TAKEN_DOWN = AccountState(local_status="takendown", upstream_active=False, upstream_status="deleted")


def status(active: bool, text: str | None = None, seq: int = 5) -> AccountEvent:
    return AccountEvent(seq, SCENE.did, active, text)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (status(True), (True, "")),
        (status(False), (False, "")),
        (status(False, "deactivated"), (False, "deactivated")),
        (status(True, "desynchronized"), (True, "desynchronized")),
        (status(False, "frozen"), (False, "frozen")),
    ],
)
def test_status_of_the_own_host_is_kept_as_it_was_said(event: AccountEvent, expected: tuple[bool, str]) -> None:
    """Checklist 75, 76, 176."""
    verdict = judge_account(event, SCENE.facts())

    assert isinstance(verdict, Accept)
    assert (verdict.state.upstream_active, verdict.state.upstream_status) == expected
    assert verdict.state.upstream_seq == 5
    assert verdict.state.host_id == HOME.host_id


def test_status_of_another_host_is_ignored_after_one_refresh() -> None:
    """Checklist 162: the old host deactivates after a migration."""
    drop = judge_account(status(False), SCENE.facts(SCENE.known(), host=ELSEWHERE))
    assert isinstance(drop, Drop)
    assert drop.reason is Reason.HOST_MISMATCH
    first = judge_account(status(False), SCENE.facts(SCENE.known(), host=ELSEWHERE, refreshed=False))
    assert first == Refresh(drop)


def test_the_stored_host_may_speak_for_a_did_that_is_gone() -> None:
    """Checklist 181: authority falls back to the stored host."""
    gone = SCENE.identity(tombstone=True, host=None, key=None)
    deleted = status(False, "deleted")

    assert isinstance(judge_account(deleted, SCENE.facts(SCENE.known(), identity=gone)), Accept)
    for account, host in ((SCENE.known(), ELSEWHERE), (NO_ACCOUNT, HOME)):
        drop = judge_account(deleted, SCENE.facts(account, identity=gone, host=host))
        assert isinstance(drop, Drop)
        assert drop.reason is Reason.IDENTITY_TOMBSTONED


def test_a_did_that_is_gone_is_deleted_and_nothing_else() -> None:
    """Checklist 145: its host says so once; no other word passes, before or after."""
    gone = SCENE.identity(tombstone=True, host=None, key=None)
    asleep, deleted = (SCENE.known(upstream_active=False, upstream_status=word) for word in ("deactivated", "deleted"))
    farewell = status(False, "deleted")

    assert isinstance(judge_account(farewell, SCENE.facts(asleep, identity=gone)), Accept)
    refused = [(farewell, deleted)]
    others = [status(False, "suspended"), status(False), status(True, "deleted"), status(True)]
    refused += [(event, account) for event in others for account in (SCENE.known(), asleep, deleted)]
    for event, account in refused:
        assert judge_account(event, SCENE.facts(account, identity=gone)) == Drop(Reason.IDENTITY_TOMBSTONED)


def test_replayed_status_and_identity_are_no_faults() -> None:
    facts = SCENE.facts(SCENE.known(upstream_seq=5))
    replayed = Drop(Reason.REPLAYED)

    assert judge_account(status(True), facts) == replayed
    assert judge_identity(IdentityEvent(5, SCENE.did, None), facts) == replayed


def test_identity_passes_when_a_fresh_document_names_its_host() -> None:
    """Design section 4, "#identity"."""
    event = IdentityEvent(6, SCENE.did, None)
    known = SCENE.facts(SCENE.known(), refreshed=False)
    own = judge_identity(event, known)
    assert isinstance(own, Accept)
    assert own.state.upstream_seq == 6
    stale = known._replace(identity=SCENE.identity(stale=True))
    assert isinstance(judge_identity(event, stale), Refresh)
    assert isinstance(judge_identity(event, stale._replace(refreshed=True)), Accept)

    foreign = known._replace(host=ELSEWHERE)
    assert isinstance(judge_identity(event, foreign), Refresh)
    moved = foreign._replace(identity=SCENE.identity(host=ELSEWHERE.hostname), refreshed=True)
    assert isinstance(judge_identity(event, moved), Accept)
    still = judge_identity(event, foreign._replace(refreshed=True))
    assert isinstance(still, Drop)
    assert still.reason is Reason.HOST_MISMATCH


def test_identity_with_a_document_that_names_no_host_is_incomplete_and_no_mismatch() -> None:
    """Invariant 11: the owner is told what the document lacks, as for every other event."""
    facts = SCENE.facts(SCENE.known(), identity=SCENE.identity(host=None))
    drop = judge_identity(IdentityEvent(6, SCENE.did, None), facts)
    assert isinstance(drop, Drop)
    assert drop.reason is Reason.IDENTITY_INCOMPLETE
    assert judge_identity(IdentityEvent(6, SCENE.did, None), facts._replace(refreshed=False)) == Refresh(drop)


def test_identity_of_a_did_that_is_gone_passes_from_the_stored_host_only() -> None:
    """Checklist 181: any host can send one for any DID, and no document names one any more."""
    event = IdentityEvent(6, SCENE.did, None)
    gone = SCENE.identity(tombstone=True, host=None, key=None)
    assert isinstance(judge_identity(event, SCENE.facts(SCENE.known(), identity=gone)), Accept)
    for account, host in ((SCENE.known(), ELSEWHERE), (NO_ACCOUNT, HOME)):
        drop = judge_identity(event, SCENE.facts(account, identity=gone, host=host))
        assert drop == Drop(Reason.IDENTITY_TOMBSTONED)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (AccountState(), (True, None)),
        (AccountState(upstream_status="throttled"), (True, "throttled")),
        (AccountState(upstream_active=False), (False, None)),
        (AccountState(upstream_active=False, upstream_status="suspended"), (False, "suspended")),
        (AccountState(upstream_active=False, upstream_status="frozen"), (False, "frozen")),
        (AccountState(upstream_status="desynchronized"), (True, "desynchronized")),
        (AccountState(local_status="takendown"), (False, "takendown")),
        (DELETED_AND_TAKEN_DOWN, (False, "takendown")),
        (AccountState(local_status="throttled"), (False, "throttled")),
    ],
)
def test_effective_status(state: AccountState, told: tuple[bool, str | None]) -> None:
    """Checklist 173, 176, 177."""
    assert effective_status(state) == told


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_explained_in_a_sentence_with_its_source(reason: Reason) -> None:
    """Invariant 11."""
    words = explain(reason)
    assert words[0].isupper()
    assert words.endswith(")")
    assert "(" in words


GONE = SCENE.known(upstream_active=False, upstream_status="deleted")
ASLEEP = SCENE.known(upstream_active=False, upstream_status="deactivated")


def test_a_gone_did_leaves_a_deleted_account_and_nothing_new_the_second_time() -> None:
    """Checklist 145, 181."""
    for account in (SCENE.known(), ASLEEP, SCENE.known(local_status="takendown")):
        assert of_a_gone_did(account) == account._replace(upstream_active=False, upstream_status="deleted")
    for settled in (GONE, NO_ACCOUNT):
        assert of_a_gone_did(settled) is None


def test_a_recheck_lifts_a_flag_of_that_host_and_does_nothing_else() -> None:
    """Checklist 171."""
    lifted = of_a_recheck(ASLEEP, HOME.host_id, active=True, status="desynchronized")
    assert lifted == ASLEEP._replace(upstream_active=True, upstream_status="desynchronized")
    assert of_a_recheck(ASLEEP, HOME.host_id, active=False, status="suspended") is None
    assert of_a_recheck(ASLEEP, ELSEWHERE.host_id, active=True, status="") is None
    assert of_a_recheck(SCENE.known(), HOME.host_id, active=True, status="") is None
