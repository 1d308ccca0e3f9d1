"""Tables and facts as a terminal shows them."""

from datetime import UTC, datetime

import pytest

from relay.app.tables import Column, ago, facts, table, text_of

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


def test_columns_are_aligned_and_numbers_stand_at_the_right() -> None:
    lines = table((Column("NAME"), Column("N", is_number=True), Column("WHY")), [("a", 1_000, ""), ("bcd", 2, "x")])

    assert lines == ["NAME      N  WHY", "a     1,000", "bcd       2  x"]


def test_a_line_does_not_wrap() -> None:
    lines = table((Column("NAME", chars_max=4), Column("WHY")), [("abcdef", "because of this")], width=12)

    assert lines == ["NAME  WHY", "abc…  becau…"]


def test_what_is_not_known_is_no_fact() -> None:
    assert facts([("a", None), ("bcd", 1), ("e", ""), ("f", False)]) == ["bcd  1", "f    no"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (True, "yes"), (1234567, "1,234,567"), (1.25, "1.2"), ({"a": 1, "b": 2}, "a 1, b 2")],
)
def test_values_as_text(value: object, text: str) -> None:
    assert text_of(value) == text


def test_a_strangers_text_moves_no_cursor() -> None:
    assert text_of("\x1b[2Jhost\n\u202e") == "?[2Jhost??"


@pytest.mark.parametrize(
    ("time", "text"),
    [
        ("2026-01-31T11:59:55.000Z", "5s"),
        ("2026-01-31T11:57:00Z", "3m"),
        ("2026-01-31T09:00:00Z", "3h"),
        ("2026-01-27T12:00:00Z", "4d"),
        ("2026-01-31T12:00:09Z", "0s"),
        (None, None),
    ],
)
def test_how_long_ago(time: str | None, text: str | None) -> None:
    assert ago(time, NOW) == text
