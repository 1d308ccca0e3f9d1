"""The tiers that `make test` leaves out: their tests are skipped with a line that says how to ask for them."""

import pytest

TIERS = {
    "realpds": "real PDSes are installed and started by `make test-realpds` only",
    "soak": "runs for minutes: python -m pytest -m soak -o timeout=0 tests/soak",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for marker, reason in TIERS.items():
        if marker not in config.option.markexpr:
            for item in items:
                if item.get_closest_marker(marker):
                    item.add_marker(pytest.mark.skip(reason=reason))
