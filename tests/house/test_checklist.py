"""The requirement checklist against the tests: every MUST row of areas C to M has a test that names it and always runs.

A test names rows in its docstring: "Checklist 12.", "Checklist 12, 14 to 16 and 18: ...". What may be skipped, for want
of the shared folder or of anything else, covers no row. The list itself is `checklist.toml`; where the full checklist
lies beside the checkout the two are compared.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import pytest

from tests.house.sources import ROOT, functions, modules, name_of, tree_of
from tests.support.shared import shared_dir

AREAS = tomllib.loads((ROOT / "tests/house/checklist.toml").read_text())
ROWS = {int(key): text for area in AREAS.values() for key, text in area.items() if key != "title"}
LAST_ROW = 277
BY_REQUEST = ("browser", "realpds", "soak")  # folders of tests that `make test` leaves out
SKIPPING = frozenset({"shared_dir", "skip", "skipif", "importorskip"})

FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef

_REFERENCE = re.compile(r"[Cc]hecklist\s+(\d+(?:(?:\s*,\s*(?:and\s+)?|\s+and\s+|\s+to\s+|\s*-\s*)\d+)*)")
_PART = re.compile(r"(\d+)(?:(?:\s+to\s+|\s*-\s*)(\d+))?")
_SHARED_ROW = re.compile(r"^\| (\d+) \|.*\| (MUST|SHOULD) \| [a-z/]+ \|", re.MULTILINE)


def rows_named(docstring: str | None) -> Iterator[int]:
    """The rows that a docstring names."""
    for reference in _REFERENCE.findall(docstring or ""):
        for first, last in _PART.findall(reference):
            yield from range(int(first), int(last or first) + 1)


def skippable(tree: ast.Module, known: frozenset[str] = SKIPPING) -> frozenset[str]:
    """`known` and the functions of a module that use one of these names, themselves or through each other."""
    uses = {node.name: set(_names(node)) for node in ast.walk(tree) if isinstance(node, FUNCTION)}
    while grown := {name for name, used in uses.items() if used & known} - known:
        known |= grown
    return known


def _names(function: ast.AST) -> Iterator[str]:
    """What a function mentions: names, attributes, and its arguments, which may be fixtures."""
    for node in ast.walk(function):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name


@cache
def skipping_in_support() -> frozenset[str]:
    """The functions that tests are given to call, and after which they may be skipped."""
    return SKIPPING.union(*(skippable(tree_of(path)) for path in modules("tests/support")))


class Claim(NamedTuple):
    """A test and the rows that it names; `always_runs` unless something on the machine may be missing."""

    test: str
    rows: frozenset[int]
    always_runs: bool


def claims(folder: str) -> Iterator[Claim]:
    """Every test below a folder of the project."""
    for path in modules(folder):
        is_left_out = path.relative_to(ROOT / "tests").parts[0] in BY_REQUEST
        may_skip = skippable(tree_of(path), skipping_in_support())
        for name, node in functions(path):
            last = name.rpartition(".")[2]
            if last.startswith("test_"):
                rows = frozenset(rows_named(ast.get_docstring(node)))
                yield Claim(f"{name_of(path)}::{name}", rows, not is_left_out and last not in may_skip)


def test_every_must_row_has_a_test_that_names_it_and_always_runs() -> None:
    covered = frozenset[int]().union(*(claim.rows for claim in claims("tests") if claim.always_runs))

    assert [f"{row}: {text}" for row, text in ROWS.items() if row not in covered] == []


def test_every_interop_test_names_the_rows_that_it_proves() -> None:
    assert [claim.test for claim in claims("tests/interop") if not claim.rows & set(ROWS)] == []


def test_no_test_names_a_row_that_there_is_not() -> None:
    strange = {claim.test: claim.rows for claim in claims("tests") if claim.rows - set(range(1, LAST_ROW + 1))}

    assert strange == {}


def test_what_needs_the_shared_folder_is_told_from_what_always_runs() -> None:
    """Also through another function or a fixture, and when a mark may skip it."""
    source = """
def cases(): return shared_dir() / "a"
@pytest.fixture
def given(): return cases()
def test_a(given): pass
@pytest.mark.skipif(True, reason="")
def test_b(): pass
def test_c(tmp_path): own_answers()
"""
    found = skippable(ast.parse(source)) - SKIPPING

    assert found == {"cases", "given", "test_a", "test_b"}


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
