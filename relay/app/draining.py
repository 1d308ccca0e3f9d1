"""How the time of a stop is shared out: here alone, so that every part ends before the one that waits for it.

Owns the numbers, not the waiting. The supervisor drains role after role and gives each `role_seconds`
(`relay.app.supervisor`); a worker ends its role after `worker_seconds`, whatever that is doing then
(`relay.app.worker_main`); a serve worker gives its consumers what `consumer_times` says (`relay.serve.worker`). Each is
a part of the one before, and what one does not use is not handed on: nobody could tell a worker that is ending already.
"""

from typing import NamedTuple

from relay.net.consumer_socket import CLOSE_SECONDS

# In this order, so that consumers still get what ingest workers append in their last moment.
ROLE_SHARES = {"ingest": 0.4, "serve": 0.5, "housekeeping": 0.1}
EXIT_SECONDS = 1.0  # of a role's time, for the end of the process behind the role's; half of a short one
_CONSUMERS_SHARE = 0.9  # of a serve worker's time; the rest is for reading the last events and for closing the store


class ConsumerTimes(NamedTuple):
    """`flush_seconds` to take what is in memory, then `farewell_seconds` for the Close until whoever is left is cut."""

    flush_seconds: float
    farewell_seconds: float


def role_seconds(role: str, drain_seconds: float) -> float:
    """How long the workers of a role may take to be gone, out of the time for the whole stop."""
    return ROLE_SHARES[role] * drain_seconds


def worker_seconds(role: str, drain_seconds: float) -> float:
    """How long the role inside a worker may take."""
    seconds = role_seconds(role, drain_seconds)
    return seconds - min(EXIT_SECONDS, seconds / 2)


def consumer_times(drain_seconds: float) -> ConsumerTimes:
    """What a serve worker gives its consumers."""
    seconds = _CONSUMERS_SHARE * worker_seconds("serve", drain_seconds)
    farewell_seconds = min(CLOSE_SECONDS, seconds / 2)
    return ConsumerTimes(seconds - farewell_seconds, farewell_seconds)
