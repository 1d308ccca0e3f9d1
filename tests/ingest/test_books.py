"""What is counted of a host: the same in its marks and in the metrics of the process."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.ingest.books import BACKLOG_SECONDS, Books, age_of
from relay.ingest.pipeline import CHAIN_BREAK, SINCE_DIFFERS, UNPROVEN
from relay.observe.metrics import Metrics
from relay.protocol.frame import MessageFrame
from relay.verify.verdict import Reason
from tests.support.scene import HOME, NOW_MS

NOW = "2025-10-09T08:53:20Z"  # NOW_MS


def frame(time: str = NOW) -> MessageFrame:
    return MessageFrame("#commit", {"time": time})


def counted(metrics: Metrics, name: str, label: str = "") -> Counter[str]:
    """The samples of one counter, by a label's value."""
    found: Counter[str] = Counter()
    for line in metrics.render().decode().splitlines():
        if line.startswith((f"{name}{{", f"{name} ")):
            value = line.partition(f'{label}="')[2].partition('"')[0] if label else ""
            found[value] += int(float(line.rpartition(" ")[2]))
    return +found


REASONS = (Reason.SCHEMA, Reason.REPLAYED, Reason.HOST_MISMATCH)


@given(st.lists(st.sampled_from(["received", "accepted", "appended", "mark", *REASONS]), max_size=60))
def test_marks_and_metrics_add_up_to_the_same(steps: list[str | Reason]) -> None:
    """Invariant 10: nothing is counted twice or lost between two marks."""
    metrics = Metrics()
    books = Books(metrics)
    marks = []
    for step in [*steps, "mark"]:
        match step:
            case Reason():
                books.dropped(step)
            case "received":
                books.received("#commit")
            case "accepted":
                books.accepted()
            case "appended":
                books.appended(frame(), (), NOW_MS)
            case _:
                marks.append(books.take_mark(HOME, 7, proven=False))
    drops: Counter[str] = Counter()
    for mark in marks:
        drops.update(mark.dropped)

    assert drops == counted(metrics, "relay_ingest_events_dropped_total", "reason")
    assert drops == Counter(step for step in steps if isinstance(step, Reason))
    assert sum(mark.accepted for mark in marks) == steps.count("accepted")
    assert counted(metrics, "relay_ingest_frames_received_total", "event")["#commit"] == steps.count("received")
    assert books.progress == steps.count("appended")
    assert counted(metrics, "relay_log_events_appended_total", "origin")["host"] == books.progress


def test_a_mark_says_how_far_the_host_is() -> None:
    books = Books(Metrics())
    books.last_event_ms = NOW_MS
    mark = books.take_mark(HOME._replace(epoch=3), 12, proven=True)

    assert (mark.host_id, mark.epoch, mark.low_water, mark.last_event_ms, mark.proven) == (1, 3, 12, NOW_MS, True)


def test_what_is_remarked_on_an_event_has_its_counter() -> None:
    metrics = Metrics()
    books = Books(metrics)
    for remarks in ((), (UNPROVEN,), (UNPROVEN, CHAIN_BREAK), (SINCE_DIFFERS,)):
        books.appended(frame(), remarks, NOW_MS)

    assert counted(metrics, "relay_ingest_events_unproven_total") == {"": 2}
    assert counted(metrics, "relay_ingest_chain_breaks_total") == {"": 1}


def test_the_backlog_is_as_old_as_what_is_read_now() -> None:
    """And nothing is left of it once the host has been silent for a while."""
    books = Books(Metrics())
    books.last_event_ms = NOW_MS
    assert books.backlog_seconds(NOW_MS) == 0
    books.appended(frame("2025-10-09T07:53:20Z"), (), NOW_MS)
    books.appended(frame("no time at all"), (), NOW_MS)

    assert books.backlog_seconds(NOW_MS + 1_000) == 3_600
    assert books.backlog_seconds(NOW_MS + int(BACKLOG_SECONDS * 1_000)) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (NOW, 0.0),
        ("2025-10-09T08:53:19.500Z", 0.5),
        ("2025-10-09T10:53:10+02:00", 10.0),
        ("2031-01-01T00:00:00Z", 0.0),
        ("2025-10-09T08:53:20", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_the_age_of_an_event_by_its_own_word(text: str, expected: float | None) -> None:
    """It may be any text, and is never below zero."""
    assert age_of(frame(text), NOW_MS) == expected
