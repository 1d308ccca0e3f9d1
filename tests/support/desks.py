"""Ingest workers without sockets, on virtual time: streams, lanes, resolver and batcher as a worker wires them.

Several `Desk`s over one store are several workers: each has its own memory of identities and its own batcher, and they
meet in the append only. What happens in the network is said through `Country`, whose directory and hosts are asked in
memory.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from relay.crawl.repostatus import RepoStatus, StatusChecks
from relay.identity.fetch import DidFault, DidGone, DirectoryFault
from relay.identity.resolver import Resolver
from relay.identity.settings import IdentitySettings
from relay.ingest.batcher import Batcher
from relay.ingest.judge import Desk, Judge
from relay.ingest.ownwords import OwnWords
from relay.ingest.settings import IngestSettings
from relay.ingest.stream import HostStream
from relay.ingest.waiting import work_off
from relay.observe.metrics import Metrics
from relay.protocol.diddoc import DidDocument, parse_did_document
from relay.protocol.frame import MessageFrame
from relay.store.batch import Appended, Batch
from relay.store.settings import LogSettings
from relay.store.store import Store
from relay.verify.facts import AccountState, HostView, Identity
from relay.world.messages import Message
from relay.world.network import Emission, Network, Shape
from relay.world.window import EventWindow, HostedAccount
from tests.support.log_reader import LogReader

START_MS = 1_760_000_000_000
LOG = LogSettings(sync=False, state_map_bytes=1 << 26, segment_bytes=1 << 26, batch_ms=10)
SMALL = Shape(records=20, layer_min=1, templates=1, lifecycle=0, quiet_ms=0)
SETTLED_SECONDS_MAX = 300.0


class Country:
    """A store, the network that is read into it, and what its directory and its hosts answer."""

    def __init__(self, store: Store, *, hosts: int, accounts: int, seed: int) -> None:
        self.store = store
        urls = [f"https://pds{number}.example.com" for number in range(hosts)]
        self.network = Network(seed, urls, accounts, START_MS, SMALL)
        self.windows = [EventWindow() for _ in urls]
        self.rows = [store.add_host(url.removeprefix("https://"), insecure=False, now_ms=START_MS) for url in urls]
        self.is_down = False
        self.fails_after_seconds = 0.0
        self.unanswered: set[str] = set()  # the DIDs that the directory fails for while it answers for others
        self.looked_up: Counter[str] = Counter()
        self.asked: Counter[tuple[str, str]] = Counter()
        self._epoch = trio.current_time()
        self._log = LogReader(store)
        self._frames: list[MessageFrame] = []

    def now_ms(self) -> int:
        return START_MS + int((trio.current_time() - self._epoch) * 1000)

    async def fetch(self, did: str) -> DidDocument:
        """The directory, and the hosts of did:web: there are none."""
        await trio.sleep(0.02)
        self.looked_up[did] += 1
        if did.startswith("did:web:"):
            raise DidFault("no such host")
        if self.is_down or did in self.unanswered:
            await trio.sleep(self.fails_after_seconds)
            raise DirectoryFault("connection refused")
        try:
            document = self.network.directory.document(did)
        except KeyError:
            raise DidGone("status 404") from None
        if document is None:
            raise DidGone("status 404")
        return parse_did_document(did, document)

    async def ask(self, hostname: str, did: str) -> RepoStatus | None:
        """What a host says of an account."""
        await trio.sleep(0.02)
        self.asked[hostname, did] += 1
        number = next(number for number, row in enumerate(self.rows) if row.hostname == hostname)
        hosted: HostedAccount | None = self.windows[number].accounts.get(did)
        return None if hosted is None else RepoStatus(hosted.active, hosted.status or "")

    def send(self, worker: "OneWorker", *emissions: Emission) -> None:
        """The events leave their hosts and reach the worker at once."""
        for emission in emissions:
            worker.receive(emission.host, self.number(emission))

    def number(self, emission: Emission) -> bytes:
        """The event as its host numbers it."""
        return self.frame_of(emission.host, emission.message)

    def frame_of(self, host: int, message: Message) -> bytes:
        window = self.windows[host]
        frame = message.frame(window.tip + 1, self.now_ms())
        window.emit(message, self.now_ms())
        return frame

    # What came of it.

    def logged(self) -> list[MessageFrame]:
        """Every frame of the log, in order."""
        self._frames += self._log.frames()
        return self._frames

    def story(self, did: str) -> list[str]:
        """What consumers were told of one DID, a word an event: its type, or the status of an `#account`."""
        return [_word(frame) for frame in self.logged() if did in (frame.payload.get("repo"), frame.payload.get("did"))]

    def account(self, did: str) -> AccountState:
        with self.store.view() as view:
            account = view.account(did)
        assert account is not None
        return account

    def counts(self) -> list[int]:
        """How many accounts each host has."""
        with self.store.view() as view:
            return [row.account_count for row in view.hosts(0, 100)]


class OneWorker:
    """The parts of one worker that judge and append, with a judge for each host it was given."""

    def __init__(self, country: Country, nursery: trio.Nursery, identity: IdentitySettings) -> None:
        self.country = country
        self.metrics = Metrics()
        self.resolver = Resolver(identity, country.fetch, self._load, country.now_ms)
        self.batcher = Batcher(self._append, country.store.settings, country.now_ms, self.resolver.take_saves)
        self.words = OwnWords(country.store, self.batcher, self.metrics, country.now_ms)
        self.held: trio.Event | None = None
        self._nursery = nursery
        self._judges: dict[int, Judge] = {}
        self.desk = Desk(
            store=country.store,
            resolver=self.resolver,
            batcher=self.batcher,
            words=self.words,
            statuses=StatusChecks(country.ask),
            metrics=self.metrics,
            settings=IngestSettings(),
            hold_seconds=identity.hold_seconds,
            now_ms=country.now_ms,
            start_lane=self._start_lane,
        )

    def judge(self, host: int) -> Judge:
        """Where the events of host number `host` are judged, from its stored cursor on."""
        if host not in self._judges:
            row = self.country.rows[host]
            with self.country.store.view() as view:
                stored = view.host(row.host_id)
            assert stored is not None
            view_of_host = HostView(row.host_id, row.hostname, stored.epoch, "ratchet")
            self._judges[host] = Judge(view_of_host, stored.cursor, self.desk)
        return self._judges[host]

    def receive(self, host: int, *messages: bytes) -> None:
        HostStream(self.judge(host)).take(messages)

    async def settled(self) -> None:
        """Until nothing is in flight, whatever has to be waited for."""
        with trio.fail_after(SETTLED_SECONDS_MAX):
            while any(judge.place.in_flight or judge.lanes for judge in self._judges.values()):  # noqa: ASYNC110 -- no event for this, and virtual time
                await trio.sleep(0.05)
        await trio.sleep(0.5)  # what is queued is appended

    def dropped(self) -> Counter[str]:
        """Drops by reason."""
        counts: Counter[str] = Counter()
        for line in self.metrics.render().decode().splitlines():
            if line.startswith("relay_ingest_events_dropped_total{"):
                counts[line.split('"')[1]] = int(float(line.rpartition(" ")[2]))
        return +counts

    def _load(self, did: str) -> Identity | None:
        with self.country.store.view() as view:
            return view.identity(did)

    async def _append(self, batch: Batch) -> Appended:
        if self.held is not None:
            await self.held.wait()
        return self.country.store.append(batch)

    def _start_lane(self, judge: Judge, did: str) -> None:
        self._nursery.start_soon(work_off, judge, did)


@asynccontextmanager
async def country(
    folder: Path,
    *,
    hosts: int = 2,
    accounts: int = 4,
    workers: int = 1,
    seed: int = 1,
    identity: IdentitySettings | None = None,
) -> AsyncIterator[tuple[Country, Sequence[OneWorker]]]:
    """A country and its workers, running until the block ends."""
    store = Store.open(folder, LOG, create=True, now_ms=START_MS)
    try:
        made = Country(store, hosts=hosts, accounts=accounts, seed=seed)
        async with trio.open_nursery() as nursery:
            them = [OneWorker(made, nursery, identity or IdentitySettings()) for _ in range(workers)]
            for worker in them:
                await nursery.start(worker.resolver.run)
                nursery.start_soon(worker.batcher.run)
            yield made, them
            nursery.cancel_scope.cancel()
    finally:
        store.close()


def _word(frame: MessageFrame) -> str:
    if frame.type != "#account":
        return frame.type.removeprefix("#")
    payload = frame.payload
    return str(payload.get("status") or ("active" if payload["active"] else "inactive"))
