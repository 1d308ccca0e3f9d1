"""Sizes, names and docstrings (design sections 2, 6 and 11)."""

import ast
import re

import pytest

from tests.house.sources import PACKAGE, functions, modules, name_of, tree_of

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
BINS = {"utils", "util", "common", "helpers", "helper", "base", "misc", "shared"}
VAGUE = re.compile(r"(Manager|Handler|Processor|Service)$")
# Other people's words for things of theirs: asks' request processor, the `service` entries of a DID document.
VAGUE_BUT_FOREIGN = {"relay/net/http.py: _Processor", "relay/protocol/diddoc.py: _Service"}


def test_modules_are_short_enough_to_be_read_at_once() -> None:
    """Those that run. A module of tests is a list of cases and may be longer."""
    lines = {name_of(path): len(path.read_text().splitlines()) for path in modules("relay", "benchmarks")}

    assert {name: count for name, count in lines.items() if count > MODULE_LINES_MAX} == {}


def test_functions_fit_on_a_screen() -> None:
    lines = {
        f"{name_of(path)}: {name}": (node.end_lineno or 0) - node.lineno + 1
        for path in modules("relay", "tests", "benchmarks")
        for name, node in functions(path)
    }

    assert {name: count for name, count in lines.items() if count > FUNCTION_LINES_MAX} == {}


def test_no_module_is_a_bin_for_what_has_no_place() -> None:
    parts = {part for path in modules("relay") for part in path.relative_to(PACKAGE).with_suffix("").parts}

    assert parts & BINS == set()


def test_no_class_is_named_after_nothing_it_does() -> None:
    found = {
        f"{name_of(path)}: {node.name}"
        for path in modules("relay")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef) and VAGUE.search(node.name)
    }

    assert found - VAGUE_BUT_FOREIGN == set()


@pytest.mark.parametrize("folder", ["relay", "tests", "benchmarks"])
def test_every_module_says_what_it_owns(folder: str) -> None:
    silent = {
        name_of(path)
        for path in modules(folder)
        if ast.get_docstring(tree_of(path)) is None and (folder == "relay" or path.name != "__init__.py")
    }

    assert silent == set()
