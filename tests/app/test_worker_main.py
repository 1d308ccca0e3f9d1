"""What a worker leaves behind when an error ends it."""

from relay.app.worker_main import reason_of
from relay.store.errors import DiskFull, StoreClosed


def test_a_reason_names_what_is_inside_groups_each_once() -> None:
    error = ExceptionGroup("", [ExceptionGroup("", [DiskFull("no space\nleft")]), DiskFull("no space\nleft")])

    assert reason_of(error) == "DiskFull: no space left"
    assert reason_of(ExceptionGroup("", [error, StoreClosed("x")])) == "DiskFull: no space left; StoreClosed: x"
