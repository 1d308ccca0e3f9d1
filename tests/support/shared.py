"""Where the public vectors and recorded traffic are, for tests that use them when present.

They live beside the checkout, not in it. A test that needs them calls `shared_dir`, and is skipped with a line that
says so when they are absent; the project's own known answers cover the same ground without them.
"""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def shared_dir() -> Path:
    """The folder of `vectors/` and `corpus/`: `RELAY_SHARED` if set, else `../shared`. Skips the test if absent."""
    found = Path(os.environ.get("RELAY_SHARED") or REPOSITORY.parent / "shared")
    if not found.is_dir():
        pytest.skip(f"no shared vectors and recordings at {found} (set RELAY_SHARED to their folder)")
    return found
