"""Tables and facts as a terminal shows them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.app.tables import Column, ago, facts, shortened, table, text_of

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


def test_columns_are_aligned_and_numbers_stand_at_the_right() -> None:
    lines = table((Column("NAME"), Column("N", is_number=True), Column("WHY")), [("a", 1_000, ""), ("bcd", 2, "x")])

    assert lines == ["NAME      N  WHY", "a     1,000", "bcd       2  x"]


def test_columns_give_way_by_rank_and_the_name_gets_what_is_left() -> None:
    columns = (Column("NAME", chars_min=5), Column("A", rank=1), Column("B", rank=2), Column("C"))
    rows = [("shiitake.example", "1", "2", "3")]

    assert table(columns, rows, width=25) == ["NAME              A  B  C", "shiitake.example  1  2  3"]
    assert table(columns, rows, width=24) == ["NAME             A  B  C", "shiitak…example  1  2  3"]
    assert table(columns, rows, width=12) == ["NAME    A  C", "shi…le  1  3"]
    assert table(columns, rows, width=9) == ["NAME    C", "shi…le  3"]


@given(st.integers(8, 60), st.lists(st.tuples(st.text(max_size=40), st.integers(), st.text(max_size=90)), max_size=4))
def test_no_line_of_a_terminal_wraps(width: int, rows: list[tuple[str, int, str]]) -> None:
    columns = (Column("NAME", chars_min=4), Column("N", is_number=True, rank=1))
    lines = table(columns, [row[:2] for row in rows], width, Column("WHY"), [row[2] for row in rows])
    lines += facts([("name", row[2]) for row in rows], width)

    assert max(len(line) for line in lines) <= width


def test_a_remark_stands_below_its_row_or_is_a_column_where_there_is_no_terminal() -> None:
    columns, rows, remarks = (Column("NAME"),), [("a",), ("b",)], ["because of this", ""]

    assert table(columns, rows, 14, Column("WHY"), remarks) == ["NAME", "a", "    because of", "    this", "b"]
    assert table(columns, rows, None, Column("WHY"), remarks) == ["NAME  WHY", "a     because of this", "b"]


def test_nothing_is_shortened_for_scripts() -> None:
    assert table((Column("NAME", chars_min=4),), [("x" * 300,)])[1] == "x" * 300


def test_a_name_keeps_its_beginning_and_its_end() -> None:
    assert shortened("morel.us-east.host.bsky.network", 15) == "morel.u…network"


def test_a_long_fact_goes_on_below() -> None:
    assert facts([("a", "one two three"), ("bcd", 1)], 12) == ["a    one two", "     three", "bcd  1"]


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
