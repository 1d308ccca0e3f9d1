"""Rules of the code that neither ruff nor mypy knows (design sections 7, 8 and 10)."""

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.sources import functions, modules, name_of, tree_of

# What gives out a txn, or a value that lives only as long as one.
TXNS = {"view", "reading", "writing", "begin", "begin_views", "borrowed", "txn"}

# Where anything at all may be caught, and why (design section 7).
BULKHEADS = {
    "relay/app/worker_main.py: main": "a worker that fails tells the supervisor why, then exits",
    "relay/net/connection.py: Connection._answer": "one HTTP request: a fault becomes a 500 and is told to the site",
    "relay/net/connection.py: Connection._send_pieces": "the same request, while its body is sent piece by piece",
    "relay/net/websocket.py: _run": "one WebSocket: whatever its library raises about a stranger's bytes ends it alone",
    "relay/net/websocket.py: link_nursery": "raised again, only past the nursery that would group it",
}

_NOQA = re.compile(r"#\s*noqa(?P<rest>.*)")
_NOQA_SPOKEN = re.compile(r": [A-Z]+[0-9]+(, ?[A-Z]+[0-9]+)* -- \S.+")
_IGNORE = re.compile(r"#\s*type:\s*ignore(?P<rest>.*)")
_IGNORE_SPOKEN = re.compile(r"\[[a-z-]+(, ?[a-z-]+)*\]\s+#\s*\S.+")


def awaits_in_txns(tree: ast.AST) -> Iterator[int]:
    """Lines of a `with` that holds a txn and in which a coroutine can be suspended."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.AsyncFunctionDef):
            continue
        for block in _own(node):
            if isinstance(block, ast.With) and any(_gives_txn(item.context_expr) for item in block.items):
                yield from (block.lineno for each in _own(block) if _suspends(each))


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """Everything below `node` that runs with it; what nested functions do is theirs."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _own(child)


def _gives_txn(expression: ast.expr) -> bool:
    if not isinstance(expression, ast.Call):
        return False
    called = expression.func
    name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    return name.lstrip("_") in TXNS


def _suspends(node: ast.AST) -> bool:
    if isinstance(node, ast.comprehension):
        return bool(node.is_async)
    return isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith | ast.Yield | ast.YieldFrom)


def test_nothing_awaits_inside_a_txn() -> None:
    """Invariant 7: a txn that waits for the network pins pages, or holds the one lock."""
    found = [f"{name_of(path)}:{line}" for path in modules("relay") for line in awaits_in_txns(tree_of(path))]

    assert found == []


@pytest.mark.parametrize(
    "body",
    [
        "with store.view() as view:\n    await trio.sleep(0)",
        "with store.view() as view:\n    if view:\n        async with lock:\n            pass",
        "with state.writing() as txn:\n    async for item in items:\n        txn.put(item)",
        "with store.view() as view:\n    yield view.account(did)",
        "with store.view() as view:\n    found = [view.account(did) async for did in dids]",
    ],
)
def test_a_planted_await_is_caught(body: str) -> None:
    planted = "async def f(store, state, lock, items, dids, did):\n" + textwrap.indent(body, "    ")

    assert list(awaits_in_txns(ast.parse(planted))) != []


def test_what_runs_after_the_txn_may_await() -> None:
    allowed = "async def f(store):\n    with store.view() as view:\n        row = view.account(1)\n    await g(row)"

    assert list(awaits_in_txns(ast.parse(allowed))) == []


def blind_handlers(path: Path) -> Iterator[str]:
    """Functions that catch everything and go on; cleaning up and raising again is not going on."""
    for name, function in functions(path):
        for node in _own(function):
            if isinstance(node, ast.ExceptHandler) and _is_blind(node.type) and not _raises_again(node):
                yield f"{name_of(path)}: {name}"


def _is_blind(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(isinstance(name, ast.Name) and name.id in ("Exception", "BaseException") for name in names)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_everything_is_caught_at_named_bulkheads_only() -> None:
    found = {place for path in modules("relay") for place in blind_handlers(path)}

    assert found == set(BULKHEADS)


def unspoken(source: str) -> Iterator[str]:
    """Suppressions of a check without its code or without a reason."""
    for line in source.splitlines():
        for comment, spoken in ((_NOQA, _NOQA_SPOKEN), (_IGNORE, _IGNORE_SPOKEN)):
            match = comment.search(line)
            if match and not spoken.match(match["rest"]):
                yield line.strip()


def test_every_suppression_gives_its_code_and_its_reason() -> None:
    found = [
        f"{name_of(path)}: {line}"
        for path in modules("relay", "tests", "benchmarks")
        if path != Path(__file__)
        for line in unspoken(path.read_text())
    ]

    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "x = 1  # noqa",
        "x = 1  # noqa: S101",
        "x = 1  # noqa: S101 - why",
        "x = 1  # noqa: S101  # why",
        "x = 1  # type: ignore",
        "x  # type: ignore[a]",
    ],
)
def test_a_planted_suppression_is_caught(line: str) -> None:
    assert list(unspoken(line)) == [line]


def test_every_module_calls_its_logger_by_the_same_name() -> None:
    found = {
        f"{name_of(path)}: {ast.unparse(node)}"
        for path in modules("relay")
        for node in tree_of(path).body
        if isinstance(node, ast.Assign) and re.match(r"(?!_log = ).*\bget_logger\(", ast.unparse(node))
    }

    assert found == set()


def test_signals_are_received_in_one_place() -> None:
    """Design section 8, rule 9. Who else wants to be told uses `lifecycle.on_stop_signals`."""
    found = {
        name_of(path)
        for path in modules("relay")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("trio.open_signal_receiver", "signal.signal")
    }

    assert found == {"relay/app/lifecycle.py"}
