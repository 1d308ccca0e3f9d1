"""Real processes that append are killed with SIGKILL at random moments; the log must not show it.

Each writer reports an append on its standard output after it returned. Afterwards everything reported is in the log,
everything in the log is there once, seqs are contiguous, and the state is what the log says.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from relay.protocol.frame import MessageFrame, parse_frame
from relay.store.inspect import seq_fault
from relay.store.store import Store
from tests.store.batches import FIRST_SEQ, add_hosts, batch, frames, item, open_store, settings

ROOT = Path(__file__).parents[2]
SEGMENT_BYTES = 400_000
WRITERS = 3
SECONDS = 6.0
SECONDS_MAX = 60.0  # on a machine too busy for every writer to have died twice by then

# A writer appends to an account of its own and, racing the others, to a shared one. The status text of a frame says who
# sent it and which of its events it is; a writer that starts anew goes on behind what the log has of it.
WRITER = f"""
import os, sys
from pathlib import Path
from relay.protocol.frame import account_frame
from relay.store.batch import Batch, HostMark, Item
from relay.store.store import Store
from tests.store.batches import NOW_MS, did, row, settings

folder, host_id, die_at, die_after = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])

def on_step(name):
    global die_after
    if name == die_at:
        die_after -= 1
        if die_after == 0:
            os.kill(os.getpid(), 9)

store = Store.open(folder, settings(segment_bytes={SEGMENT_BYTES}, sync=False), on_step=on_step)
with store.view() as view:
    number = (view.host(host_id).cursor or 0) + 1
while True:
    own, shared = did(host_id), did(0)
    with store.view() as view:
        rows = {{name: view.account(name) for name in (own, shared)}}
    items, version = [], {{name: state.version if state else 0 for name, state in rows.items()}}
    for name in (own, own, shared):
        template = account_frame(name, NOW_MS, active=True, status=f"{{host_id}}-{{number + len(items)}}" + "x" * 40)
        items.append(Item(name, version[name], row(host_id), template, host_id, number + len(items)))
        version[name] += 1
    done = store.append(Batch(NOW_MS + number, tuple(items), (HostMark(host_id, 0, number + 2, NOW_MS),)))
    settled = [item.upstream_seq for at, item in enumerate(items) if at not in done.refused]
    os.write(1, "".join(f"{{host_id}}-{{seq}}\\n" for seq in settled).encode())
    with store.view() as view:
        number = view.host(host_id).cursor + 1
"""


def output(folder: Path, host_id: int) -> Path:
    """Where a writer reports."""
    return folder / f"writer-{host_id}.txt"


def start(folder: Path, host_id: int, die_at: str, die_after: int) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", WRITER, str(folder), str(host_id), die_at, str(die_after)]
    with output(folder.parent, host_id).open("ab") as reports:
        return subprocess.Popen(arguments, cwd=ROOT, stdout=reports, stderr=subprocess.PIPE)


def check(store: Store, reported: set[str]) -> None:
    """Every frame names its sender and number: nothing is missing, nothing twice, and each sender's are in order."""
    seen: Counter[str] = Counter()
    numbers: dict[str, int] = {}
    expected = store.tip().floor
    for seq, frame in frames(store):
        assert seq == expected
        expected += 1
        parsed = parse_frame(frame)
        assert isinstance(parsed, MessageFrame)
        name = parsed.payload["status"].rstrip("x")
        seen[name] += 1
        host_id, number = name.split("-")
        assert int(number) == numbers.get(host_id, 0) + 1
        numbers[host_id] = int(number)
    assert max(seen.values()) == 1
    assert reported <= set(seen)
    assert expected == store.tip().seq + 1
    with store.view() as view:
        for host in view.hosts(0, 10):
            assert host.cursor == numbers.get(str(host.host_id))
    found = store.audit(judge_frame=seq_fault)
    assert found.findings == ()
    assert found.segments > 3


@pytest.mark.slow
def test_writers_killed_at_random_moments_lose_and_repeat_nothing(tmp_path: Path) -> None:
    """Invariants 1 and 2: contiguous whoever died, and frames, rows and cursors agree."""
    rng = random.Random(os.environ.get("RELAY_SEED", "17"))
    folder = tmp_path / "data"
    store = open_store(folder, segment_bytes=SEGMENT_BYTES)
    add_hosts(store, WRITERS)
    store.close()
    steps = ["locked", "segment_created", "segment_committed", "state_commit", "state_committed", "never"]
    hosts = range(1, WRITERS + 1)
    running: dict[int, subprocess.Popen[bytes]] = {}
    begun: dict[int, int] = {}
    kills = Counter[int]()
    ends, latest = time.monotonic() + SECONDS, time.monotonic() + SECONDS_MAX
    try:
        while time.monotonic() < ends or (min(kills[host_id] for host_id in hosts) < 2 and time.monotonic() < latest):
            for host_id in hosts:
                if host_id not in running:
                    running[host_id] = start(folder, host_id, rng.choice(steps), rng.randint(1, 60))
                    begun[host_id] = output(tmp_path, host_id).stat().st_size
            host_id = rng.choice(list(running))
            try:
                running[host_id].wait(timeout=rng.uniform(0.0, 0.3))
            except subprocess.TimeoutExpired:
                # Only a writer that reported something since its start: a slow machine must not starve one.
                if output(tmp_path, host_id).stat().st_size > begun[host_id] and rng.random() < 0.5:
                    running[host_id].kill()
            for number, process in list(running.items()):
                if process.poll() is not None:
                    end(process, number)
                    del running[number]
                    kills[number] += 1
    finally:
        for process in running.values():
            process.kill()
        last = [(number, process, process.communicate()[1]) for number, process in running.items()]
    for number, process, stderr in last:
        was_killed(process, number, stderr)
    reported = {line for path in tmp_path.glob("writer-*.txt") for line in path.read_text().splitlines()}
    store = Store.open(folder, settings(segment_bytes=SEGMENT_BYTES))
    check(store, reported)
    assert min(kills[host_id] for host_id in hosts) >= 2  # the faults that were planned did happen
    assert len(reported) > 1_000
    store.close()


def end(process: subprocess.Popen[bytes], host_id: int) -> None:
    """Take leave of a writer that ended."""
    was_killed(process, host_id, process.communicate(timeout=10)[1])


def was_killed(process: subprocess.Popen[bytes], host_id: int, stderr: bytes) -> None:
    """By us or by itself; any other end is a fault of the store."""
    assert process.returncode == -signal.SIGKILL, f"writer {host_id}: {stderr.decode()}"


# LMDB writes the meta page of a commit, then tells readers of it in the lock file. This writer takes that word back and
# dies with the lock held, which is what a process leaves behind that was killed between the two.
UNTOLD = f"""
import os, struct, sys
from pathlib import Path
from relay.store.store import Store
from tests.store.batches import NOW_MS, batch, item, settings

TOLD_AT = 48  # in the lock file, behind its head and the readers' mutex: the newest txn as readers see it

def on_step(name):
    if name != "segment_committed":
        return
    (segment,) = folder.glob("log/*/lock.mdb")
    with store._segments.borrowed(store._segments.names()[-1], active=True) as env, env.begin(write=True) as txn:
        with segment.open("r+b") as lock:
            lock.seek(TOLD_AT)
            (told,) = struct.unpack("=Q", lock.read(8))
            assert told == txn.id() - 1, "LMDB keeps it elsewhere"
            lock.seek(TOLD_AT)
            lock.write(struct.pack("=Q", told - 1))
        os.kill(os.getpid(), 9)

folder = Path(sys.argv[1])
store = Store.open(folder, settings(segment_bytes={SEGMENT_BYTES}), on_step=on_step)
store.append(batch(item(2, 0, 2)))
"""


def test_what_a_killed_writer_committed_and_did_not_tell_is_taken_over(tmp_path: Path) -> None:
    """By a writer that has the segment open already, with its very next append."""
    with closing(open_store(tmp_path, segment_bytes=SEGMENT_BYTES)) as store:
        add_hosts(store, 1)
        store.append(batch(item(1, 0, 1)))

        died = subprocess.run([sys.executable, "-c", UNTOLD, str(tmp_path)], cwd=ROOT, check=False, capture_output=True)
        assert died.returncode == -signal.SIGKILL, died.stderr
        store.append(batch(item(3, 0, 3)))

        assert [seq for seq, _ in frames(store)] == [FIRST_SEQ, FIRST_SEQ + 1, FIRST_SEQ + 2]
