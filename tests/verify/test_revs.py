"""Revs: their order, and what moves the stored one."""

from hypothesis import given
from hypothesis import strategies as st

from relay.protocol.syntax import is_tid
from relay.verify.signed import check_rev
from relay.verify.verdict import Drop, Reason
from tests.support.scene import NOW_MS, Scene

TIDS = st.tuples(
    st.sampled_from("234567abcdefghij"), st.text("234567abcdefghijklmnopqrstuvwxyz", min_size=12, max_size=12)
).map("".join)
SKEW_MS = 300_000
FAR_MS = 1 << 63  # no rev lies behind this clock


@given(stored=TIDS, rev=TIDS)
def test_revs_are_compared_as_text(stored: str, rev: str) -> None:
    """Checklist 195: no number is made of them, the highest bit included."""
    assert is_tid(stored)
    assert is_tid(rev)
    found = check_rev(rev, Scene(1).known(rev=stored), FAR_MS, may_repeat=False)
    expected = None if rev.encode() > stored.encode() else Drop(Reason.REV_NOT_NEWER)
    assert found == expected


@given(rev=TIDS)
def test_an_equal_rev_is_for_a_sync_only(rev: str) -> None:
    """Checklist 190, 191."""
    known = Scene(1).known(rev=rev)
    assert check_rev(rev, known, FAR_MS, may_repeat=True) is None
    assert check_rev(rev, known, FAR_MS, may_repeat=False) == Drop(Reason.REV_NOT_NEWER)


def test_the_future_begins_behind_the_skew() -> None:
    """Checklist 192, 194: five minutes."""
    scene = Scene(1)
    rev = scene.write(now_ms=NOW_MS).rev
    assert check_rev(rev, scene.known(), NOW_MS - SKEW_MS, may_repeat=False) is None
    assert check_rev(rev, scene.known(), NOW_MS - SKEW_MS - 1, may_repeat=False) == Drop(Reason.REV_IN_FUTURE)
    assert check_rev("jzzzzzzzzzzzz", scene.known(), NOW_MS, may_repeat=False) == Drop(Reason.REV_IN_FUTURE)
