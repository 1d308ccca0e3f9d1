"""The requirement checklist against the tests: every MUST row of areas C to M has a test that names it.

A test names rows in its docstring: "Checklist 12.", "Checklist 12, 14 to 16 and 18: ...". The list itself is
`checklist.toml`; where the full checklist lies beside the checkout the two are compared.
"""

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.house.sources import ROOT, functions, modules, name_of
from tests.support.shared import shared_dir

AREAS = tomllib.loads((ROOT / "tests/house/checklist.toml").read_text())
ROWS = {int(key): text for area in AREAS.values() for key, text in area.items() if key != "title"}
LAST_ROW = 277

_REFERENCE = re.compile(r"[Cc]hecklist\s+(\d+(?:(?:\s*,\s*(?:and\s+)?|\s+and\s+|\s+to\s+|\s*-\s*)\d+)*)")
_PART = re.compile(r"(\d+)(?:(?:\s+to\s+|\s*-\s*)(\d+))?")
_SHARED_ROW = re.compile(r"^\| (\d+) \|.*\| (MUST|SHOULD) \| [a-z/]+ \|", re.MULTILINE)


def rows_named(docstring: str | None) -> Iterator[int]:
    """The rows that a docstring names."""
    for reference in _REFERENCE.findall(docstring or ""):
        for first, last in _PART.findall(reference):
            yield from range(int(first), int(last or first) + 1)


def named(path: Path) -> Iterator[tuple[int, str]]:
    """Rows and the test that names each, of one module."""
    for name, node in functions(path):
        if name.rpartition(".")[2].startswith("test_"):
            yield from ((row, f"{name_of(path)}::{name}") for row in rows_named(ast.get_docstring(node)))


def cover() -> Mapping[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for path in modules("tests"):
        for row, test in named(path):
            found[row].append(test)
    return found


def test_every_must_row_has_a_test_that_names_it() -> None:
    found = cover()

    assert [f"{row}: {text}" for row, text in ROWS.items() if row not in found] == []


def test_no_test_names_a_row_that_there_is_not() -> None:
    strange = {row: tests for row, tests in cover().items() if not 1 <= row <= LAST_ROW}

    assert strange == {}


def test_the_list_is_the_checklist_s() -> None:
    """Against the full list, where that is at hand: the same rows, all of them MUST."""
    text = (shared_dir() / "checklist.md").read_text()
    must = {int(row) for row, level in _SHARED_ROW.findall(text) if level == "MUST" and 46 <= int(row) <= 222}

    assert must == set(ROWS)


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Checklist 12.", [12]),
        ("Nothing. Checklist 12, 14 to 16 and 18: words, and 19 more.", [12, 14, 15, 16, 18]),
        ("Checklist 7-9\nand checklist 1", [7, 8, 9, 1]),
        ("a checklist of 12 things", []),
        (None, []),
    ],
)
def test_how_rows_are_named(docstring: str | None, expected: list[int]) -> None:
    assert list(rows_named(docstring)) == expected
