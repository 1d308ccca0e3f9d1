"""What a window holds: the seqs between floor and tip, without those that were never issued."""

import pytest

from relay.store.layout import Raise
from relay.store.window import Window

RAISED = Window(100, 1, 1_009, 2, (Raise(10, 100), Raise(104, 1_005)))  # 100..104 and 1005..1009


@pytest.mark.parametrize(
    ("window", "events"),
    [
        (RAISED, 10),
        (Window(100, 1, 109, 2, ()), 10),
        (Window(5, 0, 4, 0, ()), 0),
        (Window(1_005, 0, 1_004, 0, (Raise(104, 1_005),)), 0),  # raised while it was empty
        (Window(100, 1, 1_004, 2, (Raise(104, 1_005),)), 5),  # raised, and nothing since
    ],
)
def test_events_leave_out_what_a_raise_skipped(window: Window, events: int) -> None:
    assert window.events == events
    assert window.is_empty == (events == 0)


@pytest.mark.parametrize(
    ("low", "high", "events"), [(100, 1_010, 10), (103, 1_006, 3), (105, 1_005, 0), (200, 900, 0), (1_005, 1_007, 2)]
)
def test_events_between_two_seqs(low: int, high: int, events: int) -> None:
    assert RAISED.events_between(low, high) == events
