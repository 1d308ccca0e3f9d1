"""TIDs and datetimes of the world against known texts and the relay's own reading of them."""

import pytest

from relay.protocol.syntax import is_datetime, is_tid, tid_ms
from relay.world.times import datetime_text, tid


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (7, "1970-01-01T00:00:00.007Z"),
        (1_750_000_000_000, "2025-06-15T15:06:40.000Z"),
        (1_795_337_483_884, "2026-11-22T08:51:23.884Z"),
    ],
)
def test_datetimes(time_ms: int, text: str) -> None:
    assert datetime_text(time_ms) == text
    assert is_datetime(text)


def test_tids() -> None:
    """Thirteen characters that read back as the time and sort as the number."""
    times = [0, 1, 1_750_000_000_000_000, 1_750_000_000_000_001, 2**53 - 1]
    texts = [tid(time_us, clock_id) for time_us in times for clock_id in (0, 1, 1023)]

    assert tid(0) == "2222222222222"
    assert all(map(is_tid, texts))
    assert texts == sorted(texts)
    assert [tid_ms(text) for text in texts[::3]] == [time_us // 1000 for time_us in times]
