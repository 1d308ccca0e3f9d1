"""What a worker says and leaves behind when an error ends it."""

import json

import pytest

from relay.app.worker_main import log_failure, reason_of
from relay.store.errors import DiskFull, StoreClosed
from tests.support.logged import logged

FULL = "no space left: make room on the disk of data_dir"


def test_a_reason_names_what_is_inside_groups_each_once() -> None:
    error = ExceptionGroup("", [ExceptionGroup("", [DiskFull("no space\nleft")]), DiskFull("no space\nleft")])

    assert reason_of(error) == FULL
    assert reason_of(ExceptionGroup("", [error, StoreClosed("x"), KeyError("y")])) == f"{FULL}; x; KeyError: 'y'"


@pytest.mark.parametrize(
    ("error", "has_traceback"),
    [
        (DiskFull("no space left"), False),
        (ExceptionGroup("", [DiskFull("no space left"), StoreClosed("no space left")]), False),
        (ExceptionGroup("", [DiskFull("no space left"), KeyError("x")]), True),
        (KeyError("x"), True),
    ],
)
def test_a_disk_that_fails_is_one_line_and_a_bug_comes_with_its_traceback(
    error: Exception, has_traceback: bool
) -> None:
    with logged() as lines:
        log_failure(error)

    (line,) = [json.loads(text) for text in lines.getvalue().splitlines()]
    assert (line["event"], line["level"], line["reason"]) == ("worker_failed", "error", reason_of(error))
    assert ("exception" in line) is has_traceback
    assert "exc_info" not in line
