"""Waiting for a condition of another process or thread, with a deadline; never for a time to pass."""

from collections.abc import Callable

import trio

LOOK_EVERY_SECONDS = 0.01


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return once `condition` holds; fails the test when it does not within `seconds`."""
    try:
        with trio.fail_after(seconds):
            while not condition():  # noqa: ASYNC110 -- what is waited for is in another process or thread
                await trio.sleep(LOOK_EVERY_SECONDS)
    except trio.TooSlowError:
        raise AssertionError(f"not within {seconds} s: {condition}") from None
