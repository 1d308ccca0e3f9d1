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
from pathlib import Path

import pytest

from relay.protocol.frame import MessageFrame, parse_frame
from relay.store.inspect import seq_fault
from relay.store.store import Store
from tests.store.batches import add_hosts, frames, open_store, settings

ROOT = Path(__file__).parents[2]
SEGMENT_BYTES = 400_000
WRITERS = 3
SECONDS = 6.0

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


def start(folder: Path, host_id: int, die_at: str, die_after: int) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", WRITER, str(folder), str(host_id), die_at, str(die_after)]
    output = (folder.parent / f"writer-{host_id}.txt").open("ab")
    try:
        return subprocess.Popen(arguments, cwd=ROOT, stdout=output, stderr=subprocess.PIPE)
    finally:
        output.close()


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
            assert host.cursor == numbers[str(host.host_id)]
    found = store.audit(judge_frame=seq_fault)
    assert found.findings == ()
    assert found.segments > 3


@pytest.mark.slow
def test_writers_killed_at_random_moments_lose_and_repeat_nothing(tmp_path: Path) -> None:
    rng = random.Random(os.environ.get("RELAY_SEED", "17"))
    folder = tmp_path / "data"
    store = open_store(folder, segment_bytes=SEGMENT_BYTES)
    add_hosts(store, WRITERS)
    store.close()
    steps = ["locked", "segment_created", "segment_committed", "state_commit", "state_committed", "never"]
    running: dict[int, subprocess.Popen[bytes]] = {}
    kills = Counter[str]()
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        for host_id in range(1, WRITERS + 1):
            if host_id not in running:
                running[host_id] = start(folder, host_id, rng.choice(steps), rng.randint(1, 60))
        host_id = rng.choice(list(running))
        try:
            running[host_id].wait(timeout=rng.uniform(0.0, 0.3))
        except subprocess.TimeoutExpired:
            if rng.random() < 0.5:
                running[host_id].kill()
        for number, process in list(running.items()):
            if process.poll() is not None:
                end(process)
                kills["all"] += 1
                del running[number]
    for process in running.values():
        process.kill()
        end(process)
    reported = {line for path in tmp_path.glob("writer-*.txt") for line in path.read_text().splitlines()}
    store = Store.open(folder, settings(segment_bytes=SEGMENT_BYTES))
    check(store, reported)
    assert kills["all"] >= 10
    assert len(reported) > 1_000
    store.close()


def end(process: subprocess.Popen[bytes]) -> None:
    """It was killed, by us or by itself; anything else is a fault of the store."""
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == -signal.SIGKILL, stderr.decode()
