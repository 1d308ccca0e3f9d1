"""`relay demo` as a newcomer meets it."""

import pytest
import trio

from tests.support.processes import RELAY, environ

pytestmark = pytest.mark.slow


async def test_the_demo_ends_by_itself_and_says_ok() -> None:
    with trio.fail_after(60):
        run = await trio.run_process(
            [*RELAY, "demo", "--seconds", "3"], capture_stdout=True, capture_stderr=True, check=False, env=environ({})
        )

    assert run.returncode == 0, (run.stdout, run.stderr)
    assert run.stdout.splitlines()[-1] == b"OK: every event that must pass arrived, verified and in order."
