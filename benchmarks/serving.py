"""What the benchmarks of the serve role share: a store full of frames, a worker on loopback, consumers and a feeder.

Consumers live in a process of their own, so that on two cores they do not take the server's time; so does the feeder,
which only appends. All frames have one length and carry the moment of their append, so a consumer finds borders and
ages without decoding. A consumer is a plain socket: what a real client does with a frame is not measured here.
"""

import multiprocessing
import selectors
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import trio

from relay.app.lifecycle import keep_heap_flat
from relay.observe.metrics import Metrics
from relay.protocol.frame import STREAM_PATH, FrameTemplate, message_header
from relay.serve.settings import ConsumerSettings, ServeRoleSettings
from relay.serve.worker import Worker
from relay.store.batch import Batch, Item
from relay.store.settings import LogSettings
from relay.store.store import Store
from relay.verify.facts import AccountState

FRAME_BYTES = 5_500
MESSAGE_BYTES = FRAME_BYTES + len(message_header(FRAME_BYTES))
HEAD = b"h" * 20
SEQ_AT = MESSAGE_BYTES - FRAME_BYTES + len(HEAD) + 1  # after the first byte of the number, which is 9 bytes long
STAMP_AT = SEQ_AT + 8
TAIL = b"t" * (FRAME_BYTES - len(HEAD) - 9 - 8)
ACCOUNTS = 1_000
BULK_ITEMS = 512
LOG = LogSettings(sync=False, segment_bytes=256 << 20, state_map_bytes=1 << 30)
UPGRADE = (
    f"GET {STREAM_PATH}{{query}} HTTP/1.1\r\nHost: relay.test\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PONG = b"\x8a\x80\0\0\0\0"
PONG_SECONDS = 15.0
READ_BYTES = 1 << 20


class Writer:
    """Appends stamped frames; each one has accounts of its own, so that several can write to one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._mark = time.time_ns()
        self._number = 0
        self._host = store.add_host("pds.example:443", insecure=False, now_ms=1)

    def append(self, events: int) -> int:
        """One batch. Returns the new tip."""
        stamp = time.time_ns()
        frame = FrameTemplate(HEAD, stamp.to_bytes(8, "big") + TAIL)
        items = []
        for _ in range(events):
            version, account = divmod(self._number, ACCOUNTS)
            self._number += 1
            state = AccountState(host_id=self._host.host_id, rev="3jzfcijpj2z2a", data=b"d" * 32, commit=b"c" * 32)
            did = f"did:plc:{self._mark}{account:05d}"
            items.append(Item(did, version, state, frame, self._host.host_id, self._number))
        appended = self._store.append(Batch(stamp // 1_000_000, tuple(items)))
        assert not appended.refused
        return appended.tip_seq


def make_store(folder: Path, events: int) -> Store:
    """A new store with so many events."""
    store = Store.open(folder, LOG, create=True, now_ms=time.time_ns() // 1_000_000)
    writer = Writer(store)
    for start in range(0, events, BULK_ITEMS):
        writer.append(min(BULK_ITEMS, events - start))
    return store


class Serving(NamedTuple):
    """A worker that runs in this process."""

    worker: Worker
    metrics: Metrics
    port: int

    def rss_anon_bytes(self) -> int:
        """Memory of this process without mapped files."""
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) << 10
        raise AssertionError("this system does not tell RssAnon")


@asynccontextmanager
async def serving(store: Store, **consumers: Any) -> AsyncGenerator[Serving, None]:
    """A serve worker over `store`, as its process sets itself up. `consumers` are fields of `ConsumerSettings`."""
    keep_heap_flat()
    settings = ServeRoleSettings(log=LOG, consumers=ConsumerSettings(per_address=100_000, **consumers))
    metrics = Metrics()
    worker = Worker(
        settings,
        store,
        metrics,
        index=0,
        count=1,
        offload=trio.to_thread.run_sync,
        now_ms=lambda: time.time_ns() // 1_000_000,
        disk_free=lambda: 1 << 40,
    )
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
    (control,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def run(task_status: trio.TaskStatus[None]) -> None:
        await worker.run([listener], control, trio.Event(), task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        yield Serving(worker, metrics, listener.socket.getsockname()[1])
        nursery.cancel_scope.cancel()


def in_fresh_process(phase: Callable[..., Any], *arguments: Any) -> Any:
    """The result of `phase(*arguments)`; each phase has its own process, so none measures another's memory."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(phase, *arguments).result()


class Crowd:
    """Consumers in another process. Groups are `discard` (bytes are counted), `stamp` (ages are kept) and `stall`."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_crowd, args=(theirs,), daemon=True)
        self._process.start()

    async def open(self, kind: str, port: int, count: int, query: str = "") -> None:
        """So many more, past their handshake."""
        await self._ask("open", kind, port, count, query)

    async def received(self, kind: str) -> list[int]:
        """Bytes of each consumer of a group."""
        found: list[int] = await self._ask("received", kind)
        return found

    async def ages_ms(self) -> list[float]:
        """Milliseconds from append to first byte, of every frame that the `stamp` group got since the last call."""
        found: list[float] = await self._ask("ages")
        return found

    def close(self) -> None:
        """End the process, and so every connection."""
        self._process.kill()
        self._process.join()

    async def _ask(self, *order: Any) -> Any:
        self._pipe.send(order)
        answer = await trio.to_thread.run_sync(self._pipe.recv)
        assert not isinstance(answer, str), answer
        return answer


class _Client:
    """One consumer's socket."""

    def __init__(self, connection: socket.socket, *, stamps: bool) -> None:
        self.socket = connection
        self.received = 0
        self.stamps = stamps
        self.last_seq = 0
        self._rest = b""
        self._began_ns = 0  # when the first byte of `_rest` came

    def take(self, ages: list[float]) -> None:
        """Read once, and note the age of every message that is complete. Asserts that no seq is missing."""
        data = self.socket.recv(READ_BYTES)
        now_ns = time.time_ns()
        self.received += len(data)
        began_ns = self._began_ns if self._rest else now_ns
        data = self._rest + data
        at = 0
        while at < len(data):
            if data[at] == 0x89:  # a ping of ours, which has no payload
                at += 2
                self.received -= 2
                continue
            if len(data) - at < MESSAGE_BYTES:
                break
            seq = int.from_bytes(data[at + SEQ_AT : at + SEQ_AT + 8], "big")
            if self.last_seq and seq != self.last_seq + 1:
                raise AssertionError(f"seq {seq} after {self.last_seq}")
            self.last_seq = seq
            stamp = int.from_bytes(data[at + STAMP_AT : at + STAMP_AT + 8], "big")
            ages.append(((began_ns if not at else now_ns) - stamp) / 1e6)
            at += MESSAGE_BYTES
        self._rest = data[at:]
        self._began_ns = now_ns if at else began_ns


class _Readers:
    """The program of a crowd: one selector over the pipe and every socket that is read."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._chosen = selectors.DefaultSelector()
        self._groups: dict[str, list[_Client]] = {}
        self._ages: list[float] = []
        self._buffer = bytearray(READ_BYTES)
        self._fault = ""

    def run(self) -> None:
        """Until the other end of the pipe is gone."""
        self._chosen.register(self._pipe, selectors.EVENT_READ)
        pong_at = time.monotonic() + PONG_SECONDS
        with suppress(EOFError):
            while True:
                for key, _ in self._chosen.select(1.0):
                    if key.data is None:
                        self._answer()
                    else:
                        self._read(key.data)
                if time.monotonic() >= pong_at:
                    pong_at += PONG_SECONDS
                    self._show_life()

    def _answer(self) -> None:
        order = self._pipe.recv()
        answer: Any = True
        if self._fault:
            answer = self._fault
        elif order[0] == "open":
            self._open(*order[1:])
        elif order[0] == "received":
            answer = [client.received for client in self._groups.get(order[1], [])]
        else:
            answer, self._ages = self._ages, []
        self._pipe.send(answer)

    def _open(self, kind: str, port: int, count: int, query: str) -> None:
        for _ in range(count):
            client = _connected(port, query, stamps=kind == "stamp")
            self._groups.setdefault(kind, []).append(client)
            if kind != "stall":
                self._chosen.register(client.socket, selectors.EVENT_READ, client)

    def _read(self, client: _Client) -> None:
        try:
            if client.stamps:
                client.take(self._ages)
            else:  # nobody looks at these bytes: they are dropped inside the kernel
                client.received += client.socket.recv_into(self._buffer, READ_BYTES, socket.MSG_TRUNC)
        except (AssertionError, OSError) as error:
            self._fault = f"{type(error).__name__}: {error}"
            self._chosen.unregister(client.socket)

    def _show_life(self) -> None:
        """Pings among dropped bytes are not seen, so everybody who reads says something by himself."""
        for kind, group in self._groups.items():
            for client in group if kind != "stall" else ():
                with suppress(OSError):
                    client.socket.send(PONG)


def _crowd(pipe: Connection) -> None:
    _Readers(pipe).run()


def _connected(port: int, query: str, *, stamps: bool) -> _Client:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(UPGRADE.format(query=query).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)  # one at a time: what follows is the stream
        assert byte, head
        head += byte
    assert head.startswith(b"HTTP/1.1 101"), head
    connection.setblocking(False)
    return _Client(connection, stamps=stamps)


class Feeder:
    """A process that only appends: `rate` events a second in batches every `every_ms`."""

    def __init__(self, folder: Path, rate: int, every_ms: int = 10) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_feed, args=(theirs, folder, rate, every_ms), daemon=True)
        self._process.start()
        self._pipe.recv()

    def stop(self) -> tuple[int, float]:
        """End it. Returns how many events it appended and in how many seconds."""
        self._pipe.send("stop")
        events, seconds = self._pipe.recv()
        self._process.join()
        return events, seconds


def _feed(pipe: Connection, folder: Path, rate: int, every_ms: int) -> None:
    sys.setswitchinterval(0.0005)  # as every writing process does (design section 3)
    store = Store.open(folder, LOG)
    writer = Writer(store)
    pipe.send("ready")
    began = time.monotonic()
    events = 0
    while not pipe.poll(max(0.0, began + events / rate + every_ms / 1e3 - time.monotonic())):
        due = int((time.monotonic() - began) * rate) - events
        if due > 0:
            writer.append(min(due, BULK_ITEMS))
            events += min(due, BULK_ITEMS)
    pipe.send((events, time.monotonic() - began))
    store.close()
