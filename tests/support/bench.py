"""One host in a worker that does not run: what is judged stays in the batcher, what waits stays in its lane."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relay.ingest.judge import Judge
from relay.ingest.settings import IngestRoleSettings, IngestSettings
from relay.ingest.stream import HostStream
from relay.ingest.worker import Worker, in_one_thread
from relay.observe.metrics import Metrics
from relay.store.batch import Batch
from relay.store.settings import LogSettings
from relay.store.store import Store
from relay.verify.facts import Identity
from tests.support.scene import HOME, NOW_MS


class Bench:
    """The judge and the stream of `HOME`; `waiting` are the DIDs whose lanes were opened, in order."""

    def __init__(self, store: Store, cursor: int | None = None, settings: IngestSettings | None = None) -> None:
        role = IngestRoleSettings(ingest=settings or IngestSettings())
        worker = Worker(role, store, Metrics(), in_one_thread())
        self.waiting: list[str] = []
        self.batcher = worker.batcher
        desk = worker._desk()._replace(now_ms=lambda: NOW_MS, start_lane=lambda _, did: self.waiting.append(did))
        self.judge = Judge(HOME, cursor, desk)
        self.stream = HostStream(self.judge)

    def drops(self) -> dict[str, int]:
        """The drops since this, or a mark, was asked for."""
        return dict(self.judge.take_mark().dropped)


@contextmanager
def store_of_home(folder: Path, *identities: Identity) -> Iterator[Store]:
    """A store that knows `HOME`, and what these DIDs resolved to."""
    log = LogSettings(sync=False, state_map_bytes=1 << 26)
    store = Store.open(folder, log, create=True, now_ms=NOW_MS)
    try:
        assert store.add_host(HOME.hostname, insecure=False, now_ms=NOW_MS).host_id == HOME.host_id
        store.append(Batch(NOW_MS, identities=identities))
        yield store
    finally:
        store.close()
