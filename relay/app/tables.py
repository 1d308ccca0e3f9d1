"""Lists and single things as people read them in a terminal: aligned columns, short times, nothing that wraps.

Owns what gives way on a narrow terminal. Pure but for the question how wide that is.
"""

import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

GAP = "  "
ELLIPSIS = "…"
REMARK_INDENT = "    "


class Column(NamedTuple):
    """A column: its head, and whether it holds numbers, which stand at the right.

    Where the terminal is too narrow, columns with a `rank` are left out, the highest first, until those with a
    `chars_min` can be shortened to that.
    """

    head: str
    is_number: bool = False
    rank: int = 0
    chars_min: int = 0


def terminal_width() -> int | None:
    """How many characters fit on a line; None where stdout is no terminal, so that nothing is to be shortened."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def mebibytes(size: int) -> str:
    """A size in bytes."""
    return f"{size / (1 << 20):,.1f} MiB"


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Any]],
    width: int | None = None,
    last: Column | None = None,
    remarks: Sequence[Any] = (),
) -> list[str]:
    """Lines of a table with a head, at most `width` wide.

    `remarks`, one a row, are text of any length: the column `last` where there is no `width`, else lines of their own
    below their row, where they are not empty.
    """
    if last is not None and width is None:
        return table([*columns, last], [[*row, remark] for row, remark in zip(rows, remarks, strict=True)])
    cells = [[text_of(value) for value in row] for row in rows]
    sizes = [max(len(text) for text in texts) for texts in zip([each.head for each in columns], *cells, strict=True)]
    shown = _fitting(columns, sizes, width)
    lines = [_line(columns, [each.head for each in columns], shown)]
    for at, row in enumerate(cells):
        lines.append(_line(columns, row, shown))
        if remarks and width is not None and remarks[at]:
            lines += _wrapped(text_of(remarks[at]), width, REMARK_INDENT, REMARK_INDENT)
    return [_cut(line, width) for line in lines]


def _fitting(columns: Sequence[Column], sizes: Sequence[int], width: int | None) -> dict[int, int]:
    """Which columns are shown, each with how wide it is."""
    shown = dict(enumerate(sizes))
    if width is None:
        return shown
    least = {at: min(size, columns[at].chars_min or size) for at, size in shown.items()}
    while _excess([least[at] for at in shown], width) > 0 and any(columns[at].rank for at in shown):
        del shown[max(shown, key=lambda at: columns[at].rank)]
    for at, size in tuple(shown.items()):
        shown[at] = max(least[at], size - max(0, _excess(shown.values(), width)))
    return shown


def _excess(sizes: Collection[int], width: int) -> int:
    return sum(sizes) + len(GAP) * (len(sizes) - 1) - width


def _line(columns: Sequence[Column], row: Sequence[str], shown: Mapping[int, int]) -> str:
    texts = ((columns[at], shortened(row[at], size), size) for at, size in shown.items())
    return GAP.join(text.rjust(size) if column.is_number else text.ljust(size) for column, text, size in texts).rstrip()


def facts(pairs: Sequence[tuple[str, Any]], width: int | None = None) -> list[str]:
    """One line a fact, names aligned, long values going on below; facts that are not known are left out."""
    known = [(name, text_of(value)) for name, value in pairs if value is not None and value not in ("", {}, [])]
    size = max((len(name) for name, _ in known), default=0)
    lines: list[str] = []
    for name, value in known:
        head = f"{name.ljust(size)}{GAP}"
        lines += [head + value] if width is None else _wrapped(value, width, head, " " * len(head))
    return lines


def _wrapped(text: str, width: int, first: str, rest: str) -> list[str]:
    width = max(width, len(rest) + 1)
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def shortened(text: str, chars_max: int) -> str:
    """A text with as much of its beginning and end as fits: names of hosts differ at the one, domains at the other."""
    if len(text) <= chars_max:
        return text
    tail = (chars_max - 1) // 2
    return text[: chars_max - 1 - tail] + ELLIPSIS + text[len(text) - tail :]


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
    return span(((now or datetime.now(UTC)) - datetime.fromisoformat(time)).total_seconds())


def span(seconds: float) -> str:
    """A length of time: `5s`, `3m`, `2h`, `4d`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f}{unit}"
    return f"{max(0, seconds):.0f}s"


def _cut(text: str, chars_max: int | None) -> str:
    return text if chars_max is None or len(text) <= chars_max else text[: chars_max - 1] + ELLIPSIS
