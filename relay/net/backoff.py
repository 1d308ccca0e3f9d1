"""Randomised exponential backoff: how long to wait before the next try (protocol.md section 21).

Pure: the random source is passed in, the waiting is the caller's.
"""

from random import Random


class Backoff:
    """Delays that double from `first_seconds` up to `seconds_max`, each drawn from the upper half of its step.

    The random half spreads the peers of a host that came back; the fixed half keeps a lower bound. A bare connect is no
    progress: call `progress` only after something useful arrived, or a host that accepts and drops is hammered.
    """

    def __init__(self, rng: Random, *, first_seconds: float, seconds_max: float) -> None:
        assert 0 < first_seconds <= seconds_max
        self._rng = rng
        self._first_seconds = first_seconds
        self._seconds_max = seconds_max
        self._step_seconds = first_seconds
        self.failures = 0

    def next_seconds(self) -> float:
        """Count one more failure and say how long to wait after it."""
        step_seconds = self._step_seconds
        self.failures += 1
        self._step_seconds = min(step_seconds * 2, self._seconds_max)
        return self._rng.uniform(step_seconds / 2, step_seconds)

    def progress(self) -> None:
        """Something useful arrived: the next failure is a first one."""
        self.failures = 0
        self._step_seconds = self._first_seconds
