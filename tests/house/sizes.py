"""What is larger than it should be, as `sizes.toml` lists it: `python -m tests.house.sizes > tests/house/sizes.toml`.

The list is there to get shorter. Nothing may join it, and nothing on it may grow.
"""

import ast
import sys
import tomllib

from tests.house.sources import ROOT, functions, modules, name_of

FUNCTION_LINES = 30
MODULE_LINES = 200
PARAMETERS = 8

Sizes = dict[str, dict[str, int]]


def function_lines() -> dict[str, int]:
    """Of every function, tests included, from its `def` to its last line."""
    return {
        f"{name_of(path)}: {name}": (node.end_lineno or 0) - node.lineno + 1
        for path in modules("relay", "tests", "benchmarks")
        for name, node in functions(path)
    }


def module_lines() -> dict[str, int]:
    """Of every module that runs. A module of tests is a list of cases and may be longer."""
    return {name_of(path): len(path.read_text().splitlines()) for path in modules("relay", "benchmarks")}


def parameters() -> dict[str, int]:
    """Of every function that runs, `self` and `cls` aside."""
    return {
        f"{name_of(path)}: {name}": _count(node.args)
        for path in modules("relay", "benchmarks")
        for name, node in functions(path)
    }


def too_large() -> Sizes:
    """By kind, what is above its target."""
    return {
        "function_lines": _above(FUNCTION_LINES, function_lines()),
        "module_lines": _above(MODULE_LINES, module_lines()),
        "parameters": _above(PARAMETERS, parameters()),
    }


def listed() -> Sizes:
    """The same as it was when the list was last written."""
    return tomllib.loads((ROOT / "tests/house/sizes.toml").read_text())


def _above(target: int, sizes: dict[str, int]) -> dict[str, int]:
    return {name: size for name, size in sorted(sizes.items()) if size > target}


def _count(given: ast.arguments) -> int:
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    return sum(one.arg not in ("self", "cls") for one in every)


def page(sizes: Sizes) -> str:
    """The list as it is kept."""
    lines = ["# What was above its target when this was written, see tests/house/sizes.py."]
    for kind, found in sizes.items():
        lines += ["", f"[{kind}]", *(f'"{name}" = {size}' for name, size in found.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page(too_large()))
