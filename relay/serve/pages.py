"""What the relay says about itself to people, load balancers and consumers: health, readiness, window, front page.

Owns the words of `/_ready` but for those about workers (`relay.serve.crew`). Everything is read from the store at the
moment of asking; the disk and the clock are arguments, so that a simulation can hold them.
"""

import math
from collections.abc import Callable, Iterator

from relay import __version__
from relay.crawl.discovery import retry_seconds
from relay.crawl.settings import HostSettings
from relay.net.exchange import Request, Response, json_response
from relay.protocol.syntax import datetime_ms, format_datetime, is_datetime
from relay.serve.crew import Crew, Findings
from relay.serve.routes import QUERY, Route
from relay.serve.settings import ServeRoleSettings
from relay.serve.xrpc import bad_request, optional
from relay.store.errors import StoreError
from relay.store.policy import CATCHING_UP, CLOCK, DISCOVERY, CatchingUp, ClockDoubt, DiscoveryRun, decoded
from relay.store.store import Store
from relay.store.window import Window

SOURCES_MAX = 100  # relays whose lists are read
PAGE_SECONDS_MAX = 60.0  # between two pages of a list; whoever read it has gone when nothing came for longer

FRONT_PAGE = """\
This is an AT Protocol relay: the events of many PDS hosts, verified, as one stream.

  subscribe      {scheme}://{host}/xrpc/com.atproto.sync.subscribeRepos
  resume         ...subscribeRepos?cursor=<the last seq you processed>
  add your PDS   POST /xrpc/com.atproto.sync.requestCrawl {{"hostname": "pds.example.com"}}
  hosts, repos   /xrpc/com.atproto.sync.listHosts, /xrpc/com.atproto.sync.listRepos
  why not me?    /explain/host?hostname=pds.example.com, /explain/account?did=did:plc:...
  what we hold   /window, and /window?at=2026-01-31T00:00:00Z for the seq to start from
  condition      /_health, /_ready

  events held    {held} (seq {floor} to {tip})
  newest event   {newest}
  consumers      {consumers} on this worker

{server} {contact}
"""


class Pages:
    """Answers about the relay itself. `disk_free` gives bytes, `now_ms` unix milliseconds."""

    def __init__(
        self,
        store: Store,
        settings: ServeRoleSettings,
        *,
        now_ms: Callable[[], int],
        disk_free: Callable[[], int],
        consumers: Callable[[], int],
        crew: Crew,
    ) -> None:
        self._store = store
        self._settings = settings
        self._now_ms = now_ms
        self._disk_free = disk_free
        self._consumers = consumers
        self._crew = crew

    def routes(self) -> Iterator[tuple[str, Route]]:
        """The paths served here."""
        yield "/", Route(QUERY, self.front)
        yield "/_health", Route(QUERY, self.health, limited=False)
        yield "/xrpc/_health", Route(QUERY, self.health, limited=False)
        yield "/_ready", Route(QUERY, self.ready, limited=False)
        yield "/window", Route(QUERY, self.window)

    async def health(self, _request: Request) -> Response:
        """Alive and able to read its store (checklist 249)."""
        try:
            self._store.window()
        except StoreError:
            return json_response(500, {"status": "error", "version": __version__, "message": "cannot read the store"})
        return json_response(200, {"status": "ok", "version": __version__})

    async def ready(self, _request: Request) -> Response:
        """Fit to take consumers; every reason against it at once. `warnings` do not count against it."""
        reasons, warnings = await self.findings()
        status = 503 if reasons else 200
        return json_response(status, {"ready": not reasons, "reasons": reasons, "warnings": warnings})

    async def findings(self) -> Findings:
        """What `/_ready` says, for who shows it elsewhere."""
        try:
            found = judge(self._store.window(), self._now_ms(), self._disk_free(), self._settings)
        except StoreError:
            found = Findings(["the store cannot be read"], [])
        crew = await self._crew.findings()
        reasons, warnings = [*found.reasons, *crew.reasons], [*found.warnings, *crew.warnings]
        if not self._settings.log.sync:
            warnings.append("log.sync is off: a power cut can lose events that were sent")
        warnings += clock_doubts(self._store)
        return Findings(reasons, [*warnings, *catching_up(self._store, self._settings.hosts, self._now_ms())])

    async def window(self, request: Request) -> Response:
        """The backfill window, and with `?at=` the first seq at or after a moment (subscribe with that minus one)."""
        at = optional(request.query, "at")
        at = at.replace(" ", "+") if at else at  # the sign of an offset, when it was sent without being encoded
        window = self._store.window()
        answer = describe_window(window)
        if at is not None:
            if not is_datetime(at):
                raise bad_request("at must be an RFC 3339 date and time, such as 2026-01-31T00:00:00Z")
            answer |= {"at": at, "seq": self._store.seq_at(datetime_ms(at))}
        return json_response(200, answer)

    async def front(self, request: Request) -> Response:
        """A page for people, plain text."""
        window = self._store.window()
        text = FRONT_PAGE.format(
            scheme="wss" if request.is_secure else "ws",
            host=_printable(request.headers.get("host", "this-host")),
            held=window.events,
            floor=window.floor_seq,
            tip=window.tip_seq,
            newest="none yet" if window.is_empty else format_datetime(window.tip_time_ms),
            consumers=self._consumers(),
            server=f"atproto-relay/{__version__}",
            contact=self._settings.contact,
        )
        return Response(200, (("Content-Type", "text/plain; charset=utf-8"),), text.encode())


def judge(window: Window, now_ms: int, disk_free_bytes: int, settings: ServeRoleSettings) -> Findings:
    """Why this relay should not be given work, and what an operator should know, in words.

    A log without events has no age, and an old event is no fault of a relay whose hosts are quiet: it can serve what it
    has. A clock behind the newest event is one, because every event of now may look as if it came from the future.
    """
    reasons, warnings = [], []
    age_seconds = (now_ms - window.tip_time_ms) / 1000 if window.tip_time_ms else 0.0
    if age_seconds > settings.tip_age_seconds_max:
        warnings.append(f"the newest event is {age_seconds:.0f} s old; retention by time is paused")
    if age_seconds < -settings.tip_age_seconds_max:
        reasons.append(
            f"the newest event lies {-age_seconds:.0f} s ahead of our clock: the clock is wrong, or was when it was"
            " appended; retention by time is paused"
        )
    if disk_free_bytes < settings.disk_free_bytes_min:
        reasons.append(f"{_gib(disk_free_bytes)} are free on the disk, less than {_gib(settings.disk_free_bytes_min)}")
    return Findings(reasons, warnings)


def clock_doubts(store: Store) -> list[str]:
    """What there is to say about our own clock: that hosts contradict it, or that it was set."""
    try:
        with store.view() as view:
            doubt = view.policy(CLOCK, ClockDoubt, ClockDoubt())
    except StoreError:
        return []
    said = []
    if doubt.hosts:
        said.append(
            f"commits of {doubt.hosts} of the {doubt.heard} hosts heard of late are dropped because they lie in our"
            " future (rev_in_future): our clock is probably behind; set up NTP"
        )
    if doubt.stepped_ms:
        side = "forward" if doubt.stepped_ms > 0 else "back"
        said.append(f"our clock was set {side} by {abs(doubt.stepped_ms) // 1_000} s a few minutes ago")
    return said


def catching_up(store: Store, hosts: HostSettings, now_ms: int) -> list[str]:
    """What there is to say while hosts are being discovered, or could not be, and while their backlogs are read."""
    try:
        with store.view() as view:
            found = view.policy_page(DISCOVERY, "", SOURCES_MAX)
            behind = view.policy(CATCHING_UP, CatchingUp, CatchingUp())
    except StoreError:
        return []
    said = [line for name, value in found if (line := _discovery(name, decoded(value, DiscoveryRun), hosts, now_ms))]
    if behind.hosts:
        left = "" if behind.seconds_left is None else f", about {behind.seconds_left} s left at the pace so far"
        said.append(f"catching up with {behind.hosts} hosts, the furthest {behind.lag_ms // 1000} s behind{left}")
    return said


def _discovery(name: str, run: DiscoveryRun, hosts: HostSettings, now_ms: int) -> str:
    """What there is to say about one source: "" for one that is read by nobody now, and for one that nobody retries."""
    since_seconds = (now_ms - run.at_ms) / 1_000
    if run.error:
        if name not in (source.rstrip("/") for source in hosts.discover_from):
            return ""
        minutes = max(1, math.ceil((retry_seconds(hosts) - since_seconds) / 60))
        return f"the hosts of {name} could not be read: {run.error}, tried again in {minutes} min"
    if run.cursor is None or since_seconds > PAGE_SECONDS_MAX:
        return ""
    return f"reading the hosts that {name} lists: {run.listed} so far, {run.added} of them new"


def describe_window(window: Window) -> dict[str, object]:
    """The window as `/window` shows it. Times of an empty window are null."""
    return {
        "floorSeq": window.floor_seq,
        "floorTime": None if window.is_empty else format_datetime(window.floor_time_ms),
        "tipSeq": window.tip_seq,
        "tipTime": format_datetime(window.tip_time_ms) if window.tip_time_ms else None,
        "raises": [{"beforeSeq": jump.before_seq, "afterSeq": jump.after_seq} for jump in window.raises],
    }


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


def _printable(text: str) -> str:
    return "".join(character for character in text[:260] if character.isprintable())
