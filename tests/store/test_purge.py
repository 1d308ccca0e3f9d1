"""A purge: what an account has in the log becomes its `#account`, everything else stays byte for byte."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from relay.app.purging import purge as purge_job
from relay.app.purging import wanted
from relay.protocol.frame import FrameTemplate, MessageFrame, iter_messages, parse_frame, template
from relay.protocol.syntax import format_datetime
from relay.store.batch import Batch, Item
from relay.store.errors import EnvFailed
from relay.store.policy import TAKEDOWN, Takedown, decoded, encoded
from relay.store.read import Reader
from relay.store.settings import LogSettings
from relay.store.store import Store
from relay.verify.facts import AccountState

SETTINGS = LogSettings(sync=False, initial_seq=100, segment_bytes=16 << 20, state_map_bytes=1 << 26, batch_bytes=4_096)
START_MS = 1_790_000_000_000
ALICE, BOB = "did:plc:" + "a" * 24, "did:plc:" + "b" * 24


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.open(tmp_path / "data", SETTINGS, create=True, now_ms=START_MS)
    made.add_host("pds.example.com", insecure=False, now_ms=START_MS)
    return made


def frame(did: str, number: int) -> FrameTemplate:
    """An `#identity`, with a handle that says which one."""
    payload = {"did": did, "time": format_datetime(START_MS), "handle": f"n{number}.{'x' * 400}.example.com"}
    return template("#identity", payload)


class Log:
    """Appends for two accounts in turn, and reads all of it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.versions = {ALICE: 0, BOB: 0}

    def append(self, count: int, *, hours: float = 0.0) -> None:
        items = []
        for number in range(count):
            did = ALICE if number % 3 == 0 else BOB
            items.append(Item(did, self.versions[did], AccountState(host_id=1), frame(did, number), 1, number))
            self.versions[did] += 1
        assert not self.store.append(Batch(START_MS + int(hours * 3_600_000), tuple(items))).refused

    def frames(self, reader: Reader | None = None, after: int = 99, bytes_max: int = 1 << 20) -> dict[int, bytes]:
        reader = reader or self.store.reader()
        found: dict[int, bytes] = {}
        while (part := reader.read(after, bytes_max)) is not None:
            found |= dict(enumerate(iter_messages(part.data), part.first_seq))
            after = part.last_seq
        return found


def did_in(message: bytes) -> str:
    parsed = parse_frame(message)
    assert isinstance(parsed, MessageFrame)
    return str(parsed.payload["did"])


def purge(store: Store, *dids: str) -> int:
    return sum(store.purge_segment(name, dids) for name in store.seal())


def test_only_that_account_is_replaced_under_the_same_seqs(store: Store) -> None:
    log = Log(store)
    for hour in range(3):
        log.append(20, hours=hour * 1.5)  # a segment each
    before = log.frames()

    replaced = purge(store, ALICE)

    after = log.frames()
    assert replaced == sum(did_in(message) == ALICE for message in before.values()) == 21
    assert list(after) == list(before)
    for seq, message in after.items():
        parsed = parse_frame(message)
        assert isinstance(parsed, MessageFrame)
        assert parsed.payload["seq"] == seq
        if did_in(before[seq]) == BOB:
            assert message == before[seq]
        else:
            assert (parsed.type, parsed.payload["did"], parsed.payload["active"]) == ("#account", ALICE, False)
            assert parsed.payload["status"] == "takendown"
    assert store.audit().findings == ()


def test_it_is_on_the_disk_and_the_log_goes_on(store: Store, tmp_path: Path) -> None:
    log = Log(store)
    log.append(20)
    purge(store, ALICE)
    log.append(5)
    expected = log.frames()
    store.close()

    reopened = Store.open(tmp_path / "data", SETTINGS)

    assert Log(reopened).frames() == expected
    assert len(expected) == 25
    assert not any(path.suffix == ".new" for path in (tmp_path / "data" / "log").iterdir())


def test_a_second_run_changes_nothing(store: Store) -> None:
    log = Log(store)
    log.append(20)
    purge(store, ALICE)
    before = log.frames()

    assert purge(store, ALICE) == 0
    assert log.frames() == before


@pytest.mark.parametrize("bytes_max", [1, 1_000, 10_000])
def test_a_reader_in_the_middle_of_a_chunk_goes_on_at_its_seq(store: Store, bytes_max: int) -> None:
    log = Log(store)
    log.append(20)
    reader = store.reader()
    first = reader.read(99, 2_000)
    assert first is not None

    purge(store, ALICE)

    expected = {seq: message for seq, message in log.frames().items() if seq > first.last_seq}
    assert log.frames(reader, first.last_seq, bytes_max) == expected


READING = """
import sys
from pathlib import Path
from relay.store.store import Store
from tests.store.test_purge import SETTINGS, Log
store = Store.open(Path(sys.argv[1]), SETTINGS)
reader = store.reader()
first = reader.read(99, 2_000)
print(first.last_seq, flush=True)
sys.stdin.readline()
print(b"".join(Log(store).frames(reader, first.last_seq, 3_000).values()).hex())
"""


def test_a_reader_of_another_process_goes_on_too(store: Store, tmp_path: Path) -> None:
    """It has the old file open, and its row still says that the segment is the active one."""
    log = Log(store)
    log.append(20)
    command = [sys.executable, "-c", READING, str(tmp_path / "data")]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        last_seq = int(child.stdout.readline())
        purge(store, ALICE)
        child.stdin.write("\n")
        child.stdin.close()
        found = bytes.fromhex(child.stdout.read())

    assert found == b"".join(message for seq, message in log.frames().items() if seq > last_seq)
    assert b"n3." not in found


def test_a_run_that_is_cut_off_leaves_the_old_segment(tmp_path: Path) -> None:
    passed: list[str] = []

    def fail_at_the_second_chunk(name: str) -> None:
        passed.append(name)
        if name == "chunk_purged" and passed.count(name) == 2:
            raise OSError("cut off")

    store = Store.open(tmp_path, SETTINGS, create=True, now_ms=START_MS, on_step=fail_at_the_second_chunk)
    store.add_host("pds.example.com", insecure=False, now_ms=START_MS)
    log = Log(store)
    log.append(10)
    log.append(10)
    before = log.frames()
    with pytest.raises(EnvFailed, match="cut off"):
        purge(store, ALICE)

    assert log.frames() == before
    assert purge(store, ALICE) == 8
    store.close()


async def test_the_job_does_what_takedowns_ask_for_and_says_so(store: Store) -> None:
    log = Log(store)
    log.append(20)
    store.set_policy(TAKEDOWN + ALICE, encoded(Takedown(since_ms=5, purge=True)))
    store.set_policy(TAKEDOWN + BOB, encoded(Takedown(since_ms=5)))

    async def inline(act: Callable[[], object]) -> object:
        await trio.lowlevel.checkpoint()
        return act()

    assert list(wanted(store)) == [ALICE]
    await purge_job(store, wanted(store), inline, lambda: 77)

    with store.view() as view:
        entry = decoded(view.policy_value(TAKEDOWN + ALICE) or b"", Takedown)
    assert (entry.purged_frames, entry.purged_segments, entry.segments, entry.purged_ms) == (7, 1, 1, 77)
    assert wanted(store) == {}


async def test_a_takedown_that_ended_meanwhile_does_not_come_back(store: Store) -> None:
    Log(store).append(3)
    pending = {ALICE: Takedown(since_ms=5, purge=True)}

    async def inline(act: Callable[[], object]) -> object:
        await trio.lowlevel.checkpoint()
        return act()

    await purge_job(store, pending, inline, lambda: 77)

    with store.view() as view:
        assert view.policy_value(TAKEDOWN + ALICE) is None
