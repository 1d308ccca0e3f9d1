"""DIDs that did not resolve for so long that they were given up: bounded for each host and in all, and for a time."""

from collections import OrderedDict

ENTRIES_MAX = 100_000
ENTRIES_PER_HOST_MAX = 100


class Negative:
    """Who was given up until when. `now_ms` is any clock in milliseconds, passed to every call."""

    def __init__(self, seconds: float) -> None:
        self._keep_ms = int(seconds * 1000)
        self._until: OrderedDict[str, tuple[int, str]] = OrderedDict()
        self._of_host: dict[str, int] = {}

    def holds(self, did: str, now_ms: int) -> bool:
        """Whether the DID was given up, and not too long ago."""
        entry = self._until.get(did)
        return entry is not None and now_ms < entry[0]

    def add(self, did: str, host: str, now_ms: int) -> None:
        """Give the DID up at the word of `host`; the oldest of that host, or of all, goes when there are too many."""
        self.forget(did)
        if self._of_host.get(host, 0) >= ENTRIES_PER_HOST_MAX:
            self.forget(next(key for key, (_, owner) in self._until.items() if owner == host))
        if len(self._until) >= ENTRIES_MAX:
            self.forget(next(iter(self._until)))
        self._until[did] = (now_ms + self._keep_ms, host)
        self._of_host[host] = self._of_host.get(host, 0) + 1

    def forget(self, did: str) -> None:
        """The DID resolves after all."""
        if did in self._until:
            _, host = self._until.pop(did)
            self._of_host[host] -= 1
            if not self._of_host[host]:
                del self._of_host[host]
