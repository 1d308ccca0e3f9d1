"""Appending: 512 commits of 5.5 kB in one batch, fresh and through two abuses that once stopped an append for a minute.

The yardstick is a bare LMDB txn that puts the same chunks into an env of its own, in turn with the appends. The abuses
are those of design section 3: the window is cut to a third while appending goes on, and a reader is left open in both
envs. In either the p99 of an append may be 20 ms, its maximum a second, and the rate has to be half of the fresh one;
`--check` makes the exit code say so. Figures are medians over rounds, so that one busy moment of a shared machine does
not decide. All of it is done twice: without flushing to the disk, for the work of an append alone, and in fewer appends
with `log.sync` as it is by default, where the disk is measured too.
"""

import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import NamedTuple

from benchmarks.yardstick import Bar, Case, arguments, percentile, report
from relay.protocol.frame import FrameTemplate
from relay.store.batch import Batch, HostMark, Item
from relay.store.env import Env, create_env, put_last
from relay.store.settings import LogSettings
from relay.store.store import Store
from relay.verify.facts import AccountState

ITEMS = 512
FRAME_BYTES = 5_500
ACCOUNTS = 50_000
HOSTS = 20
ROUND = 50
CHUNKS_A_BATCH = 3
WARM_UP_BYTES_AN_APPEND = 8 << 20
SEGMENT_BYTES_MAX, SEGMENT_BYTES_AN_APPEND = 64 << 20, 512 << 10
NOW_MS = 1_700_000_000_000
P99_BAR, LONGEST_BAR, RATE_BAR = Bar("value", "<=", 20), Bar("value", "<=", 1_000), Bar("ratio", ">=", 0.5)

_TEMPLATE = FrameTemplate(b"h" * 20, b"t" * (FRAME_BYTES - 29))


class Mode(NamedTuple):
    """Whether commits are flushed to the disk, how many appends a run times, and what the names of its cases end in."""

    sync: bool
    appends: int
    suffix: str

    @property
    def settings(self) -> LogSettings:
        """With segments small enough to be many, and for one to have room in a third of the window."""
        segment_bytes = min(SEGMENT_BYTES_MAX, self.appends * SEGMENT_BYTES_AN_APPEND)
        return LogSettings(sync=self.sync, segment_bytes=segment_bytes, state_map_bytes=4 << 30)


MODES = (Mode(sync=False, appends=5 * ROUND, suffix=""), Mode(sync=True, appends=3 * ROUND, suffix="_synced"))


class Run(NamedTuple):
    """Milliseconds of each append, in order."""

    times_ms: list[float]

    def rounds(self) -> list[list[float]]:
        """The times in rounds of `ROUND`."""
        return [self.times_ms[start : start + ROUND] for start in range(0, len(self.times_ms), ROUND)]

    def at(self, share: float) -> float:
        """A percentile: the median of those of the rounds."""
        return statistics.median(percentile(times, share) for times in self.rounds())

    def rate(self) -> float:
        """Events per second while appending, in the median round."""
        return statistics.median(ITEMS / statistics.fmean(times) * 1e3 for times in self.rounds())


def make_batches(seed: int) -> Iterator[Batch]:
    """Batches without end over random accounts, each item with the version its row will have."""
    rng = random.Random(seed)
    versions = [0] * ACCOUNTS
    number = 0
    while True:
        items = []
        for _ in range(ITEMS):
            account = rng.randrange(ACCOUNTS)
            number += 1
            host_id = account % HOSTS + 1
            state = AccountState(host_id=host_id, rev="3jzfcijpj2z2a", data=b"d" * 32, commit=b"c" * 32)
            state = state._replace(upstream_seq=number)
            items.append(Item(f"did:plc:{account:024d}", versions[account], state, _TEMPLATE, host_id, number))
            versions[account] += 1
        marks = tuple(HostMark(host_id, 0, number, NOW_MS, ITEMS // HOSTS) for host_id in range(1, HOSTS + 1))
        yield Batch(NOW_MS + number // ITEMS, tuple(items), marks)


def open_store(folder: Path, settings: LogSettings) -> Store:
    store = Store.open(folder, settings, create=True, now_ms=NOW_MS)
    for number in range(HOSTS):
        store.add_host(f"pds{number}.example:443", insecure=False, now_ms=NOW_MS)
    return store


def timed_appends(store: Store, batches: Iterator[Batch], count: int) -> Run:
    """Time `count` appends; making the batches is not part of it."""
    times = []
    for _ in range(count):
        batch = next(batches)
        began = time.perf_counter()
        store.append(batch)
        times.append((time.perf_counter() - began) * 1e3)
    return Run(times)


class RawPuts:
    """The yardstick: the bytes of one batch as bare values of an env."""

    def __init__(self, folder: Path, *, sync: bool) -> None:
        self._env: Env = create_env(folder, (b"chunks",), map_bytes=16 << 30, sync=sync)
        self._value = b"x" * (ITEMS * FRAME_BYTES // CHUNKS_A_BATCH)
        self._key = 0

    def put(self) -> float:
        """Milliseconds of one txn."""
        began = time.perf_counter()
        with self._env.begin(write=True) as txn:
            for _ in range(CHUNKS_A_BATCH):
                self._key += 1
                put_last(txn, self._env.db[b"chunks"], self._key.to_bytes(8, "big"), self._value)
        return (time.perf_counter() - began) * 1e3

    def close(self) -> None:
        """Give the env back."""
        self._env.close()


def warm_up(folder: Path, appends: int) -> None:
    """Touch as much page cache as a run of so many needs and give it back.

    The memory of a virtual machine costs some ten times more at its first touch ever, and that would be measured.
    """
    block = bytes(1 << 20)
    path = folder / "warm-up"
    with path.open("wb", buffering=0) as file:
        for _ in range(appends * WARM_UP_BYTES_AN_APPEND // len(block)):
            file.write(block)
    path.unlink()


def fresh(folder: Path, mode: Mode) -> tuple[Run, Run]:
    """Appends to a new store, and the yardstick in turn with them."""
    folder.mkdir()
    raw = RawPuts(folder / "raw", sync=mode.sync)
    store = open_store(folder / "store", mode.settings)
    batches = make_batches(1)
    times, raw_times = [], []
    for _ in range(mode.appends):
        raw_times.append(raw.put())
        times += timed_appends(store, batches, 1).times_ms
    raw.close()
    store.close()
    rmtree(folder)
    return Run(times), Run(raw_times)


def shrunk(folder: Path, mode: Mode) -> Run:
    """A full window is cut to a third; segments go in another thread while the appends are timed."""
    batches = make_batches(2)
    store = open_store(folder, mode.settings)
    timed_appends(store, batches, mode.appends)
    window_bytes = store.stats().log_bytes // 3
    store.close()
    store = open_store(folder, replace(mode.settings, window_bytes=window_bytes))
    done = threading.Event()

    def housekeeping() -> None:
        while not done.wait(0.05):
            store.retain()

    thread = threading.Thread(target=housekeeping)
    thread.start()
    run = timed_appends(store, batches, mode.appends)
    done.set()
    thread.join()
    store.retain()
    assert store.stats().log_bytes <= window_bytes
    store.close()
    rmtree(folder)
    return run


def reader_left_open(folder: Path, mode: Mode) -> Run:
    """A read txn of the state and one of the active segment stay open through all appends."""
    batches = make_batches(3)
    store = open_store(folder, mode.settings)
    timed_appends(store, batches, min(ROUND, mode.appends))
    with ExitStack() as left_open:
        left_open.enter_context(store.view())
        segments = store._segments  # noqa: SLF001 -- a reader that forgot its txn
        name = segments.names()[-1]
        env = left_open.enter_context(segments.borrowed(name, active=True))
        left_open.enter_context(env.begin())
        run = timed_appends(store, batches, mode.appends)
    store.close()
    rmtree(folder)
    return run


def cases_of(name: str, run: Run, base: Run, base_name: str, *, is_abuse: bool = False) -> list[Case]:
    """What a run comes to beside another; an abuse has bars to reach."""
    p50, p99, longest, rate = run.at(0.5), run.at(0.99), max(run.times_ms), run.rate()
    p99_bars, longest_bars, rate_bars = ((P99_BAR,), (LONGEST_BAR,), (RATE_BAR,)) if is_abuse else ((), (), ())
    return [
        Case(f"{name}_p50", p50, "ms", p50 / base.at(0.5), f"{base_name}_p50"),
        Case(f"{name}_p99", p99, "ms", p99 / base.at(0.99), f"{base_name}_p99", p99_bars),
        Case(f"{name}_max", longest, "ms", longest / max(base.times_ms), f"{base_name}_max", longest_bars),
        Case(f"{name}_rate", rate, "events/s", rate / base.rate(), f"{base_name}_rate", rate_bars),
    ]


def measured(folder: Path, mode: Mode) -> list[Case]:
    """Everything in one mode: the yardstick, appends to a new store, the two abuses."""
    folder.mkdir()
    first, raw = fresh(folder / "fresh", mode)
    raw_name, first_name = f"raw_put{mode.suffix}", f"append{mode.suffix}"
    cases = [
        Case(f"{raw_name}_p50", raw.at(0.5), "ms"),
        Case(f"{raw_name}_p99", raw.at(0.99), "ms"),
        Case(f"{raw_name}_max", max(raw.times_ms), "ms"),
        Case(f"{raw_name}_rate", raw.rate(), "events/s"),
        *cases_of(first_name, first, raw, raw_name),
    ]
    for name, abuse in (("shrunk_window", shrunk), ("reader_left_open", reader_left_open)):
        run = abuse(folder / name, mode)
        cases += cases_of(name + mode.suffix, run, first, first_name, is_abuse=True)
    return cases


def main() -> None:
    parser = arguments("appends of 512 events of 5.5 kB")
    parser.add_argument("--appends", type=int, help="how many a run times (250, and 150 with flushing to the disk)")
    parser.add_argument("--dir", type=Path, help="where to write, the system's temporary folder by default")
    given = parser.parse_args()
    modes = [mode._replace(appends=given.appends or mode.appends) for mode in MODES]
    sys.setswitchinterval(0.0005)  # as every writing process does (design section 3)
    with tempfile.TemporaryDirectory(prefix="relay-append-", dir=given.dir) as name:
        folder = Path(name)
        warm_up(folder, max(mode.appends for mode in modes))
        cases = [case for mode in modes for case in measured(folder / f"run{mode.suffix}", mode)]
    report("append", cases, given)


if __name__ == "__main__":
    main()
