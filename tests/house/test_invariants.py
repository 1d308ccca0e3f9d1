"""The invariants of the design against the tests: each has at least one test whose docstring names it.

"Invariant 3: ...", "Invariants 4 and 10: ..." (design section 10).
"""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.house.sources import functions, modules

INVARIANTS = {
    1: "seqs are contiguous but for recorded raises; a frame is seen only after its synced txn",
    2: "frame, account state and host cursor are durable together",
    3: "a host cursor never passes an unsettled event",
    4: "events of one DID keep their host's order",
    5: "a stored frame never changes, and all consumers get the same bytes",
    6: "the log loses data only at the floor, in order, by retention",
    7: "no await inside a txn",
    8: "everything has a bound",
    9: "bytes from outside never crash a worker; doubt about our own data always does",
    10: "books balance",
    11: "a reason has one meaning, one counter label, one test",
    12: "nothing is emitted unsigned, from a host that is not the account's, or unproven but on legacy hosts",
}

_REFERENCE = re.compile(r"\b[Ii]nvariants?\s+(\d+(?:(?:\s*,\s*(?:and\s+)?|\s+and\s+)\d+)*)")


def named(docstring: str | None) -> Iterator[int]:
    """The invariants that a docstring names."""
    for reference in _REFERENCE.findall(docstring or ""):
        yield from map(int, re.findall(r"\d+", reference))


def named_by_tests() -> set[int]:
    return {
        number
        for path in modules("tests")
        for name, node in functions(path)
        if name.rpartition(".")[2].startswith("test_")
        for number in named(ast.get_docstring(node))
    }


def test_every_invariant_has_a_test_that_names_it() -> None:
    found = named_by_tests()

    assert [f"{number}: {text}" for number, text in INVARIANTS.items() if number not in found] == []


def test_no_test_names_an_invariant_that_there_is_not() -> None:
    assert named_by_tests() <= set(INVARIANTS)


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Invariant 7. A txn that waits.", [7]),
        ("Words (invariant 3), and 19 more. Invariants 4 and 10: balance.", [3, 4, 10]),
        ("Invariants 1, 2, and\n5: all.", [1, 2, 5]),
        ("An invariant of 12 things.", []),
        (None, []),
    ],
)
def test_how_invariants_are_named(docstring: str | None, expected: list[int]) -> None:
    assert list(named(docstring)) == expected
