"""Times of an append, taken where the store says that it passes a point; the store itself has no clock."""

import time

from relay.observe.metrics import AppendMetrics


class AppendTimer:
    """Feeds the lock and commit histograms from the steps of `relay.store.state`."""

    def __init__(self, metrics: AppendMetrics) -> None:
        self._metrics = metrics
        self._wanted = self._locked = self._committing = 0.0

    def on_step(self, name: str) -> None:
        """Called inside the writing thread, at each step by name."""
        now = time.perf_counter()
        match name:
            case "lock_wanted":
                self._wanted = now
            case "locked":
                self._locked = now
                self._metrics.lock_wait_seconds.observe(now - self._wanted)
            case "state_commit":
                self._committing = now
            case "state_committed":
                self._metrics.commit_seconds.observe(now - self._committing)
                self._metrics.lock_held_seconds.observe(now - self._locked)
