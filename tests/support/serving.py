"""A whole serve worker on loopback for tests: real sockets, a real store, and a client for plain requests."""

import json
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h11
import trio

from relay.observe.metrics import Metrics
from relay.serve.settings import ConsumerSettings, ServeRoleSettings
from relay.serve.worker import Worker
from relay.store.settings import LogSettings
from relay.store.store import Store
from tests.net.loopback import MemoryListener
from tests.support.fake_consumer import PATH, FakeConsumer, upgrade
from tests.support.log_writer import LogWriter

LOG = LogSettings(sync=False, initial_seq=1000, segment_bytes=64 << 20, state_map_bytes=64 << 20)


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Serving:
    """A worker that runs. Set `drain` to end it; `done` is set once it has."""

    def __init__(self, worker: Worker, writer: LogWriter, metrics: Metrics, port: int, control: int) -> None:
        self.worker = worker
        self.log = writer
        self.store = writer.store
        self.metrics = metrics
        self.port = port
        self.control = control
        self.memory = MemoryListener(lockstep=True)
        self.drain = trio.Event()
        self.done = trio.Event()
        self.free_bytes = 1 << 40
        self.now_ms: int | None = None  # None: the real clock

    async def get(self, target: str, **headers: str) -> Reply:
        return await request(self.port, "GET", target, headers=headers)

    async def post(self, target: str, body: bytes, **headers: str) -> Reply:
        return await request(self.port, "POST", target, body, headers)

    def disconnects(self) -> Counter[str]:
        """How many consumers went away, by reason."""
        found: Counter[str] = Counter()
        for line in self.metrics.render().decode().splitlines():
            if line.startswith("relay_serve_disconnects_total{"):
                found[line.split('"')[1]] = int(float(line.split()[-1]))
        return +found

    def figure(self, name: str) -> float:
        """The value of a metric without labels."""
        self.worker.audience.count_all()
        for line in self.metrics.render().decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[-1])
        raise KeyError(name)

    @asynccontextmanager
    async def connect(self, query: str = "") -> AsyncGenerator[FakeConsumer, None]:
        """Subscribe without a kernel between: nothing is buffered, so a reader that stops is felt at once."""
        stream = self.memory.connect()
        try:
            yield await upgrade(stream, PATH + query)
        finally:
            await trio.aclose_forcefully(stream)

    async def gone(self) -> None:
        """Until no consumer is left."""
        while len(self.worker.audience):  # noqa: ASYNC110 -- the worker has no event for this, and needs none
            await trio.sleep(0.005)


async def request(
    port: int, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> Reply:
    """One HTTP request on a connection of its own, through h11."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        client = h11.Connection(h11.CLIENT)
        fields = {"Host": "relay.test", "Content-Length": str(len(body)), **(headers or {})}
        head = h11.Request(method=method, target=target, headers=list(fields.items()))
        data = (client.send(head) or b"") + (client.send(h11.Data(data=body)) or b"")
        await stream.send_all(data + (client.send(h11.EndOfMessage()) or b""))
        response: h11.Response | None = None
        received = b""
        while True:
            event = client.next_event()
            if event is h11.NEED_DATA:
                client.receive_data(await stream.receive_some(65_536))
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                received += bytes(event.data)
            else:
                assert isinstance(event, h11.EndOfMessage), event
                assert response is not None
                names = {name.decode().lower(): value.decode() for name, value in response.headers}
                return Reply(response.status_code, names, received)


@asynccontextmanager
async def serve(
    tmp_path: Path,
    settings: ServeRoleSettings | None = None,
    *,
    log: LogSettings = LOG,
    workers: int = 1,
    **consumers: Any,
) -> AsyncGenerator[Serving, None]:
    """One of `workers` over a new, empty store. `consumers` are fields of `ConsumerSettings`."""
    chosen = settings or ServeRoleSettings(log=log, consumers=ConsumerSettings(**consumers))
    store = Store.open(tmp_path / "data", log, create=True, now_ms=time.time_ns() // 1_000_000)
    try:
        metrics = Metrics()
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        (control,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

        async def inline(write: Any) -> Any:
            await trio.lowlevel.checkpoint()
            return write()

        def now_ms() -> int:
            return time.time_ns() // 1_000_000 if serving.now_ms is None else serving.now_ms

        worker = Worker(
            chosen,
            store,
            metrics,
            index=0,
            count=workers,
            offload=inline,
            now_ms=now_ms,
            disk_free=lambda: serving.free_bytes,
        )
        ports = [each.socket.getsockname()[1] for each in (listener, control)]
        serving = Serving(worker, LogWriter(store), metrics, *ports)

        async def run(task_status: trio.TaskStatus[None]) -> None:
            await worker.run([listener, serving.memory], control, serving.drain, task_status=task_status)
            serving.done.set()

        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            yield serving
            nursery.cancel_scope.cancel()
    finally:
        store.close()
