"""Who may import what: the contracts of pyproject.toml, one importer for each library, no undeclared dependency."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.house.sources import ROOT, imports, modules, name_of

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# The border at which each library's types and exceptions are translated into ours (design sections 7 and 9).
BORDERS = {
    "asks": {"relay/net/http.py"},
    "cbor2": {"relay/protocol/cbor.py"},
    "libipld": {"relay/protocol/cbor.py"},
    "coincurve": {"relay/verify/signature.py", "relay/world/keys.py"},
    "cryptography": {"relay/verify/signature.py", "relay/world/keys.py"},
    "lmdb": {"relay/store/env.py"},
    "multiformats": {"relay/protocol/multikey.py"},
    "prometheus_client": {"relay/observe/metrics.py"},
    "structlog": {"relay/observe/logs.py"},
}

# Where the name to install is not the name to import.
IMPORT_NAMES = {"prometheus-client": "prometheus_client", "trio-websocket": "trio_websocket"}
# Libraries of libraries, imported where theirs is: wsproto's events come out of trio-websocket.
COMPANIONS = {"wsproto": "trio-websocket"}

PLANTED = {
    "relay/protocol/planted.py": ("import trio\n", "quiet floors"),
    "relay/store/planted.py": ("import relay.net.backoff\n", "floors:"),
    "relay/identity/planted.py": ("import relay.crawl.settings\n", "floors:"),
    "relay/world/planted.py": ("import relay.protocol.mst\n", "the simulated network"),
    "relay/world/treewalk.py": ("import relay.protocol.cid\n", "the naive tree"),
}


def lint_imports(project: Path) -> "subprocess.CompletedProcess[str]":
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def test_the_contracts_are_kept() -> None:
    run = lint_imports(ROOT)

    assert run.returncode == 0, run.stdout + run.stderr


def test_planted_violations_are_caught(tmp_path: Path) -> None:
    """Each breaks one contract; all of them are reported."""
    shutil.copytree(ROOT / "relay", tmp_path / "relay", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, (text, _) in PLANTED.items():
        (tmp_path / name).write_text(text)

    run = lint_imports(tmp_path)

    assert run.returncode == 1
    for name, (_, contract) in PLANTED.items():
        assert re.search(rf"^{contract}.*", run.stdout, re.MULTILINE), run.stdout
        assert name.removesuffix(".py").replace("/", ".") in run.stdout


def importers(library: str, *folders: str) -> Iterator[str]:
    for path in modules(*folders):
        if any(name.split(".")[0] == library for name in imports(path)):
            yield name_of(path)


def test_a_library_is_imported_at_its_border_only() -> None:
    for library, border in BORDERS.items():
        assert set(importers(library, "relay")) <= border, library


def declared(*groups: str) -> set[str]:
    """Import names of the dependencies in pyproject.toml."""
    texts = list(PYPROJECT["project"]["dependencies"])
    for group in groups:
        texts += [text for text in PYPROJECT["dependency-groups"][group] if isinstance(text, str)]
    names = {re.split(r"[<>=!~ \[]", text)[0] for text in texts}
    names |= {companion for companion, owner in COMPANIONS.items() if owner in names}
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}


def foreign(*folders: str) -> set[str]:
    """Top-level names that are neither the standard library's nor ours."""
    found = {name.split(".")[0] for path in modules(*folders) for name in imports(path)}
    return found - set(sys.stdlib_module_names) - {"relay", "tests", "benchmarks"}


def test_the_relay_imports_declared_dependencies_only() -> None:
    assert foreign("relay") - declared() == set()


def test_tests_and_benchmarks_import_declared_dependencies_only() -> None:
    assert foreign("tests", "benchmarks") - declared("dev") == set()


def test_every_declared_dependency_is_used() -> None:
    assert declared() - foreign("relay") - set(COMPANIONS) == set()
