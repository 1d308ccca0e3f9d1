"""`listRepos` and `getRepoStatus` over HTTP on a store with many accounts, warm.

The account rows are loaded straight into the state, in order of their DIDs; how they get there otherwise is not
measured here. One client on loopback asks for pages of 500 from places all over the table, and for single accounts. The
yardstick is the same HTTP exchange with nothing in it (`/_health`). Loading ten million accounts takes a minute.
"""

import hashlib
import random
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import trio

from benchmarks.serving import LOG, serving
from benchmarks.yardstick import Bar, Case, arguments, percentile, report
from relay.serve.xrpc import page_cursor
from relay.store.accounts import pack_account
from relay.store.layout import ACCOUNTS
from relay.store.settings import LogSettings
from relay.store.store import Store
from relay.verify.facts import AccountState

WARM_UP = 50
LOADED_AT_ONCE = 50_000
STATE_BYTES_AN_ACCOUNT = 400
_BASE32 = "234567abcdefghijklmnopqrstuvwxyz"


def did_of(number: int, accounts: int) -> str:
    """DIDs in order, spread evenly over their alphabet."""
    digits = []
    value = number * (32**10 // accounts)
    for _ in range(10):
        value, digit = divmod(value, 32)
        digits.append(_BASE32[digit])
    return "did:plc:" + "".join(reversed(digits)) + "a" * 14


def rows(accounts: int) -> Iterator[tuple[bytes, bytes]]:
    """Account rows in order of key, every one with a head of its own."""
    for number in range(accounts):
        digest = hashlib.sha256(struct.pack(">Q", number)).digest()
        state = AccountState(host_id=1, rev="3jzfcijpj2z2a", data=digest, commit=digest, upstream_seq=number)
        yield did_of(number, accounts).encode(), pack_account(state, 1)


def load(store: Store, accounts: int) -> None:
    """Put the rows in."""
    state = store._state  # noqa: SLF001 -- beside the way that events take
    source = rows(accounts)
    loaded = 0
    while loaded < accounts:
        with state.writing() as txn:
            cursor = txn.cursor(db=state.env.db[ACCOUNTS])
            part = [next(source) for _ in range(min(LOADED_AT_ONCE, accounts - loaded))]
            _, added = cursor.putmulti(part, append=True)
            assert added == len(part)
        loaded += len(part)


class Client:
    """One kept-alive HTTP connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get(self, target: str) -> float:
        """Milliseconds of a GET that is answered 200."""
        request = f"GET {target} HTTP/1.1\r\nHost: relay.test\r\n\r\n".encode()
        began = time.perf_counter()
        self._socket.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._socket.recv(1 << 16)
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        left = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) - len(body)
        while left:
            left -= len(self._socket.recv(1 << 20))
        return (time.perf_counter() - began) * 1e3


def ask(pipe: Connection, port: int, accounts: int, calls: int) -> None:
    """The program of the client process: milliseconds of every call, by kind."""
    client = Client(port)
    rng = random.Random(1)
    pages = "/xrpc/com.atproto.sync.listRepos?limit=500&cursor="
    status = "/xrpc/com.atproto.sync.getRepoStatus?did="
    numbers = [rng.randrange(max(1, accounts - 500)) for _ in range(WARM_UP + calls)]
    times: dict[str, list[float]] = {"health": [], "listRepos": [], "getRepoStatus": []}
    for call, number in enumerate(numbers):
        did = did_of(number, accounts)
        for name, target in (
            ("health", "/_health"),
            ("listRepos", pages + page_cursor(did)),
            ("getRepoStatus", status + did),
        ):
            spent = client.get(target)
            if call >= WARM_UP:
                times[name].append(spent)
    pipe.send(times)


async def measured(folder: Path, accounts: int, calls: int) -> dict[str, list[float]]:
    """The milliseconds of every call."""
    state_map_bytes = max(LOG.state_map_bytes, accounts * STATE_BYTES_AN_ACCOUNT)
    log = LogSettings(sync=False, segment_bytes=LOG.segment_bytes, state_map_bytes=state_map_bytes)
    store = Store.open(folder, log, create=True, now_ms=time.time_ns() // 1_000_000)
    store.add_host("pds.example:443", insecure=False, now_ms=1)
    load(store, accounts)
    async with serving(store) as made:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=ask, args=(theirs, made.port, accounts, calls), daemon=True)
        process.start()
        times: dict[str, list[float]] = await trio.to_thread.run_sync(ours.recv)
        process.join()
    store.close()
    return times


def main() -> None:
    parser = arguments("queries on a store with many accounts")
    parser.add_argument("--accounts", type=int, default=10_000_000, help="rows in the store (10,000,000)")
    parser.add_argument("--calls", type=int, default=400, help="requests of each kind (400)")
    parser.add_argument("--dir", type=Path, help="where to write, the system's temporary folder by default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-queries-", dir=given.dir) as name:
        times = trio.run(measured, Path(name) / "data", given.accounts, given.calls)
    cases = []
    for kind, values in times.items():
        for label, share in (("p50", 0.5), ("p99", 0.99)):
            value = percentile(values, share)
            base = percentile(times["health"], share)
            if kind == "health":
                cases.append(Case(f"{kind}_{label}", value, "ms"))
                continue
            bars = (Bar("value", "<=", 20),) if label == "p99" else ()
            cases.append(Case(f"{kind}_{label}", value, "ms", value / base, f"health_{label}", bars))
    report("queries", cases, given)


if __name__ == "__main__":
    main()
