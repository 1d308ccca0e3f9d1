"""Whether a host's seqs began anew, by how high its window goes."""

from relay.crawl.probe import Finding, WindowHeight
from relay.world.messages import account_message, error_frame, info_frame

NOW_MS = 1_760_000_000_000
OLD_MS = NOW_MS - 3_600_000


def frame(seq: int, time_ms: int = OLD_MS) -> bytes:
    return account_message("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").frame(seq, time_ms)


def height(*messages: bytes, cursor: int = 100) -> WindowHeight:
    made = WindowHeight(cursor)
    made.take(messages, NOW_MS)
    return made


def test_a_window_that_ends_below_our_cursor_proves_it() -> None:
    assert height(frame(1), frame(99)).early is None
    assert height(frame(1), frame(99)).at_end is Finding.RESTARTED


def test_a_window_that_reaches_our_cursor_disproves_it_at_once() -> None:
    assert height(frame(1), frame(100)).early is Finding.NOT_RESTARTED


def test_an_event_of_now_is_the_end_of_the_window_of_a_busy_host() -> None:
    assert height(frame(1), frame(99, NOW_MS)).early is Finding.RESTARTED


def test_an_empty_window_is_its_own_finding() -> None:
    assert height().at_end is Finding.EMPTY
    assert height(info_frame("OutdatedCursor", "")).at_end is Finding.EMPTY


def test_what_cannot_be_read_decides_nothing() -> None:
    assert height(frame(1), b"\xff").early is Finding.UNDECIDED
    assert height(error_frame("FutureCursor", "")).early is Finding.UNDECIDED
