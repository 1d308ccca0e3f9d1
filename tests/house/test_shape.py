"""Sizes, names and docstrings (design sections 2, 6 and 11)."""

import ast
import re

import pytest

from tests.house.sizes import function_lines, listed, module_lines, too_large
from tests.house.sources import PACKAGE, modules, name_of, tree_of

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
BINS = {"utils", "util", "common", "helpers", "helper", "base", "misc", "shared"}
VAGUE = re.compile(r"(Manager|Handler|Processor|Service)$")
# Other people's words for things of theirs: asks' request processor, the `service` entries of a DID document.
VAGUE_BUT_FOREIGN = {"relay/net/http.py: _Processor", "relay/protocol/diddoc.py: _Service"}


def test_modules_are_short_enough_to_be_read_at_once() -> None:
    assert {name: count for name, count in module_lines().items() if count > MODULE_LINES_MAX} == {}


def test_functions_fit_on_a_screen() -> None:
    assert {name: count for name, count in function_lines().items() if count > FUNCTION_LINES_MAX} == {}


@pytest.mark.parametrize("kind", ["function_lines", "module_lines", "parameters"])
def test_what_is_too_large_does_not_grow_and_nothing_joins_it(kind: str) -> None:
    """To mend it: split it. What was split, renamed or moved is dropped: `python -m tests.house.sizes`."""
    found, known = too_large()[kind], listed()[kind]

    assert {name: size for name, size in found.items() if size > known.get(name, 0)} == {}
    assert known.keys() - found.keys() == set()


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
