"""What the relay logs, for a test that looks at it; logging is put back afterwards, whoever configured it before."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from relay.observe import logs


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """Everything that is logged inside the block, as JSON lines."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure("info", "json", stream=stream)
    try:
        yield stream
    finally:
        logs.configure()
        root.handlers[:] = handlers
        root.setLevel(level)
