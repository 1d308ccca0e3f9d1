"""Lists and single things as people read them in a terminal: aligned columns, short times, nothing that wraps. Pure."""

import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

GAP = "  "
ELLIPSIS = "…"


class Column(NamedTuple):
    """A column: its head, and whether it holds numbers, which stand at the right. `chars_max` 0 is no bound."""

    head: str
    is_number: bool = False
    chars_max: int = 0


def table(columns: Sequence[Column], rows: Sequence[Sequence[Any]], width: int | None = None) -> list[str]:
    """Lines of a table with a head; the last column gives way when the terminal is `width` wide."""
    cells = [
        [_cut(text_of(value), column.chars_max) for column, value in zip(columns, row, strict=True)] for row in rows
    ]
    heads = [column.head for column in columns]
    widths = [max(len(row[at]) for row in [heads, *cells]) for at in range(len(columns))]
    lines = []
    for row in [heads, *cells]:
        placed = [
            text.rjust(size) if column.is_number else text.ljust(size)
            for column, text, size in zip(columns, row, widths, strict=True)
        ]
        lines.append(_cut(GAP.join(placed).rstrip(), width or 0))
    return lines


def facts(pairs: Sequence[tuple[str, Any]]) -> list[str]:
    """One line a fact, names aligned; facts that are not known are left out."""
    known = [(name, text_of(value)) for name, value in pairs if value is not None and value not in ("", {}, [])]
    size = max((len(name) for name, _ in known), default=0)
    return [f"{name.ljust(size)}  {value}" for name, value in known]


def text_of(value: Any) -> str:
    """A value in a cell. Control characters, which are strangers' text, never reach the terminal."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {text_of(each)}" for name, each in value.items())
    return "".join(char if not unicodedata.category(char).startswith("C") else "?" for char in str(value))


def ago(time: str | None, now: datetime | None = None) -> str | None:
    """How long ago an RFC 3339 moment is: `5s`, `3m`, `2h`, `4d`; None for none."""
    if time is None:
        return None
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(time)).total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f}{unit}"
    return f"{max(0, seconds):.0f}s"


def _cut(text: str, chars_max: int) -> str:
    return text if not chars_max or len(text) <= chars_max else text[: chars_max - 1] + ELLIPSIS
