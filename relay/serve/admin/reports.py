"""How the relay is doing, for a page that is looked at: one overview, its stream of updates, and rates over time.

Owns what the figures are and how often they are made. One overview a second is made however many look on. Event rates
of the whole window are read out of the log, which knows when each chunk was appended; drops are counted by the samples
of this worker, which begin when it does.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator
from functools import partial
from typing import Any, NamedTuple

import msgspec
import trio

from relay import __version__
from relay.net.exchange import Request, Response, json_response
from relay.protocol.syntax import format_datetime
from relay.serve.admin.figures import Figures
from relay.serve.admin.hostviews import STATUSES, is_connected
from relay.serve.admin.peers import Peers
from relay.serve.crawlrequest import Offload
from relay.serve.crew import Findings
from relay.serve.pages import describe_window
from relay.serve.routes import QUERY, STREAM, Route
from relay.serve.xrpc import too_many, whole_number
from relay.store.hosts import HostRow
from relay.store.store import Store

PULSE_SECONDS = 2.0
STREAM_SECONDS = 300.0  # a stream then ends and the browser asks again, and shows its session again
STREAM_RETRY_SECONDS = 10.0
BUCKETS = 60
HOURS_MAX = 24 * 365
_FRESH_SECONDS = 1.0
_RECENT_SAMPLES = 5  # of which a present rate is made


class Machine(NamedTuple):
    """What the store does not know: unix milliseconds, free bytes, and what `/_ready` says."""

    now_ms: Callable[[], int]
    disk_free: Callable[[], int]
    findings: Callable[[], Awaitable[Findings]]


class Reports:
    """Overviews and histories."""

    def __init__(
        self, store: Store, figures: Figures, peers: Peers, machine: Machine, *, offload: Offload, streams_max: int
    ) -> None:
        """`streams_max` pages are kept up to date at a time."""
        self._store = store
        self._figures = figures
        self._peers = peers
        self._machine = machine
        self._offload = offload
        self._overview: dict[str, Any] = {}
        self._made_at = float("-inf")
        self._making = trio.Lock()
        self._streams = 0
        self._streams_max = streams_max

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The paths served here."""
        yield "/admin/overview", Route(QUERY, self.overview)
        yield "/admin/live", Route(STREAM, self.live)
        yield "/admin/history", Route(QUERY, self.history)

    async def overview(self, _request: Request) -> Response:
        """`GET /admin/overview`: everything at a glance."""
        return json_response(200, await self._fresh())

    async def live(self, _request: Request) -> Response:
        """`GET /admin/live`: the overview as server-sent events, every two seconds."""
        if self._streams >= self._streams_max:
            raise too_many("too many pages are being kept up to date", STREAM_RETRY_SECONDS)
        pulses = self._pulses()
        await anext(pulses)  # begun, so that to close it gives its place back, however little of it was sent
        return Response(200, (("Content-Type", "text/event-stream"),), pulses)

    async def history(self, request: Request) -> Response:
        """`GET /admin/history?hours=`: events a second out of the log, drops a second out of the samples."""
        hours = whole_number(request.query, "hours", 1, HOURS_MAX, minimum=1)
        now_ms = self._machine.now_ms()
        events = await self._offload(partial(event_rates, self._store, now_ms - hours * 3_600_000, now_ms))
        drops = [
            {"time": format_datetime(after.time_ms), "reasons": _drop_rates(before, after)}
            for before, after in zip(list(self._figures.samples)[:-1], list(self._figures.samples)[1:], strict=True)
        ]
        return json_response(200, {"hours": hours, "events": events, "drops": drops})

    async def _pulses(self) -> AsyncGenerator[bytes, None]:
        self._streams += 1
        try:
            yield b""  # to `live`
            yield b"retry: 2000\n\n"
            ends_at = trio.current_time() + STREAM_SECONDS
            while trio.current_time() < ends_at:
                yield b"data: " + msgspec.json.encode(await self._fresh()) + b"\n\n"
                await trio.sleep(PULSE_SECONDS)
        finally:
            self._streams -= 1

    async def _fresh(self) -> dict[str, Any]:
        async with self._making:
            if trio.current_time() - self._made_at > _FRESH_SECONDS:
                self._overview = await self._make()
                self._made_at = trio.current_time()
        return self._overview

    async def _make(self) -> dict[str, Any]:
        rows = (await self._figures.fresh()).values()
        consumers = await self._peers.consumers()
        lags = [each["lag_seconds"] for each in consumers if each["lag_seconds"] is not None]
        events_rate, drops_rate = self._present_rates()
        window = self._store.window()
        reasons, warnings = await self._machine.findings()
        return {
            "version": __version__,
            "time": format_datetime(self._machine.now_ms()),
            "ready": {"reasons": reasons, "warnings": warnings},
            "window": {**describe_window(window), "events": window.events},
            "eventsPerSecond": events_rate,
            "dropsPerSecond": drops_rate,
            **await self._offload(partial(_add_up, rows)),
            "consumers": {"count": len(consumers), "lagSecondsMax": max(lags, default=None)},
            "diskFreeBytes": self._machine.disk_free(),
            "workers": await self._peers.workers(),
        }

    def _present_rates(self) -> tuple[float | None, float | None]:
        """Events and drops a second over the last samples; None while there are fewer than two."""
        samples = list(self._figures.samples)[-_RECENT_SAMPLES:]
        if len(samples) < 2:
            return None, None
        before, after = samples[0], samples[-1]
        seconds = max(1, after.time_ms - before.time_ms) / 1_000
        drops = sum(after.dropped.values()) - sum(before.dropped.values())
        return round((after.accepted - before.accepted) / seconds, 2), round(drops / seconds, 2)


def _add_up(rows: Collection[HostRow]) -> dict[str, Any]:
    """What all hosts come to. There may be many: for a thread."""
    statuses = dict.fromkeys(STATUSES, 0)
    dropped: dict[str, int] = {}
    for row in rows:
        statuses[row.status] = statuses.get(row.status, 0) + 1
        for reason, count in row.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    return {
        "hosts": {"total": len(rows), "connected": sum(map(is_connected, rows)), "statuses": statuses},
        "accounts": sum(row.account_count for row in rows),
        "accepted": sum(row.accepted for row in rows),
        "dropped": dropped,
    }


def event_rates(store: Store, from_ms: int, to_ms: int) -> list[dict[str, Any]]:
    """Events a second between two moments, out of the log, in `BUCKETS` steps of a second at least.

    Begins where the window does when that is later, so that a young log fills the chart as well.
    """
    window = store.window()
    from_ms = max(from_ms, window.floor_time_ms)
    if not window.floor_time_ms or to_ms <= from_ms:
        return []
    step_ms = max(1_000, -(-(to_ms - from_ms) // BUCKETS))
    edges = range(from_ms, to_ms, step_ms)
    seqs = [store.seq_at(edge) for edge in edges] + [window.tip_seq + 1]
    rates = []
    for edge, low, high in zip(edges, seqs[:-1], seqs[1:], strict=True):
        seconds = (min(edge + step_ms, to_ms) - edge) / 1_000
        rates.append({"time": format_datetime(edge), "perSecond": round(window.events_between(low, high) / seconds, 3)})
    return rates


def _drop_rates(before: Any, after: Any) -> dict[str, float]:
    seconds = max(1, after.time_ms - before.time_ms) / 1_000
    rates = {name: (count - before.dropped.get(name, 0)) / seconds for name, count in after.dropped.items()}
    return {name: round(rate, 3) for name, rate in rates.items() if rate > 0}
