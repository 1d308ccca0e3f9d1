"""The tier that runs for minutes: skipped unless asked for with `-m soak`."""

import pytest

MARKER = "soak"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if MARKER in config.option.markexpr:
        return
    skip = pytest.mark.skip(reason="runs for minutes: python -m pytest -m soak -o timeout=0 tests/soak")
    for item in items:
        if item.get_closest_marker(MARKER):
            item.add_marker(skip)
