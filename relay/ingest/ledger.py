"""What a worker learns about its hosts beside their events, written down at the worker's own pace.

Status and last error change with every connect and disconnect; a host that flaps must not cost a synced write each
time, so the newest word about each host waits here for the next write.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from relay.crawl.host import HostNews

WRITE_INTERVAL_SECONDS = 0.5

Write = Callable[[dict[int, dict[str, Any]]], Awaitable[None]]


class Ledger:
    """Pending changes of host rows. `write` stores them all, in the worker's one writing thread."""

    def __init__(self, write: Write, now_ms: Callable[[], int]) -> None:
        self._write = write
        self._now_ms = now_ms
        self._changes: dict[int, dict[str, Any]] = {}
        self._status: dict[int, str] = {}
        self._connected: set[int] = set()

    def begin(self, host_id: int, status: str) -> None:
        """The host is followed from now on, and its row says `status`."""
        self._status[host_id] = status
        self._connected.discard(host_id)
        self.note(host_id, connected_ms=0)

    def report(self, host_id: int, news: HostNews) -> None:
        """Take note of a change of a host."""
        change = self._changes.setdefault(host_id, {})
        change["last_error"] = news.error
        if self._status.get(host_id) != news.status:
            self._status[host_id] = news.status
            change["status"] = news.status
            change["since_ms"] = self._now_ms()
        if news.ending is not None:
            self._connected.discard(host_id)
            change |= {"connected_ms": 0, "last_ending": str(news.ending)}
        elif not (news.gap or news.probed or news.error):
            change["last_ending"] = ""
            if host_id not in self._connected:
                self._connected.add(host_id)
                change["connected_ms"] = self._now_ms()
        if news.gap:
            change |= {"possible_gap": news.gap, "possible_gap_ms": self._now_ms()}
        if news.probed:
            change["probed_ms"] = self._now_ms()
        if news.cursor_before is not None:
            change |= {"cursor_before": news.cursor_before, "last_ending": ""}

    def note(self, host_id: int, **fields: Any) -> None:
        """Other fields of the row that only describe what happened."""
        self._changes.setdefault(host_id, {}).update(fields)

    def statuses(self) -> dict[int, str]:
        """The last reported status of each host."""
        return self._status

    def forget(self, host_id: int) -> None:
        """The host is no longer followed here."""
        self._status.pop(host_id, None)
        self._changes.pop(host_id, None)

    async def run(self) -> None:
        """Write what changed, until cancelled."""
        while True:
            await trio.sleep(WRITE_INTERVAL_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write what changed now."""
        if self._changes:
            changes, self._changes = self._changes, {}
            try:
                await self._write(changes)
            except BaseException:
                for host_id, change in changes.items():
                    self._changes[host_id] = change | self._changes.get(host_id, {})
                raise
