"""The audit finds what is wrong, each planted fault by a line that names it, and nothing in a sound store."""

import mmap
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.store.accounts import pack_account
from relay.store.effects import Head, pack_entry, unpack_entry
from relay.store.env import Env, Txn
from relay.store.inspect import seq_fault
from relay.store.layout import u64
from relay.store.store import Store
from tests.store.batches import (
    FIRST_SEQ,
    NOW_MS,
    add_hosts,
    batch,
    did,
    fill,
    item,
    mark,
    open_store,
    row,
    settings,
    three_segments,
)

HOUR_MS = 3_600_000


@pytest.fixture
def filled(store: Store) -> Store:
    """Six frames in two segments, three accounts, a cursor."""
    fill(store, 3)
    store.append(batch(item(1, 0, 5, local_status="throttled"), marks=(mark(5),)))
    store.append(batch(item(2, 0, 6), item(1, 1, 7, local_status="throttled"), time_ms=NOW_MS + HOUR_MS))
    return store


def test_a_sound_store_has_no_findings(filled: Store) -> None:
    steps: list[tuple[int, int]] = []
    found = filled.audit(judge_frame=seq_fault, progress=lambda done, of: steps.append((done, of)))
    assert found == (2, 5, 6, 3, 2, ())
    assert steps == [(0, 2), (1, 2), (2, 2)]


def damage(store: Store, change: Callable[[Env, "Txn[bytes]"], object], *, segment: int | None = FIRST_SEQ) -> str:
    """The first finding after a change to a segment, or to the state when there is none."""
    if segment is None:
        with store._state.writing() as txn:
            change(store._state.env, txn)
    else:
        with store._segments.borrowed(segment, active=segment == store._log.row.active) as env:
            path = env.path
        store._segments.close()
        store._segments._closed = False
        writable = store._segments._open_env(segment, active=True)
        with writable.begin(write=True) as txn:
            change(writable, txn)
        writable.close()
        assert path.exists()
    return store.audit(judge_frame=seq_fault).findings[0]


def put_chunk(env: Env, txn: "Txn[bytes]", seq: int, change: Callable[[bytes], bytes]) -> None:
    chunk = txn.get(u64(seq), db=env.db[b"chunks"])
    assert chunk is not None
    txn.put(u64(seq), change(chunk), db=env.db[b"chunks"])


def put_head(env: Env, txn: "Txn[bytes]", seq: int, change: Callable[[Head], Head]) -> None:
    entry = txn.get(u64(seq), db=env.db[b"effects"])
    assert entry is not None
    head, effects = unpack_entry(entry)
    txn.put(u64(seq), pack_entry(change(head), effects), db=env.db[b"effects"])


LOG_FAULTS: dict[str, Callable[[Env, "Txn[bytes]"], object]] = {
    "effects without a chunk": lambda env, txn: txn.delete(u64(FIRST_SEQ + 1), db=env.db[b"chunks"]),
    "expected 1001": lambda env, txn: txn.delete(u64(FIRST_SEQ + 1), db=env.db[b"effects"]),
    "no whole binary message": lambda env, txn: put_chunk(env, txn, FIRST_SEQ + 1, lambda chunk: chunk[:-1]),
    "holds 0 messages, not 1": lambda env, txn: put_chunk(env, txn, FIRST_SEQ + 3, lambda _: b""),
    "carries seq 1001": lambda env, txn: put_chunk(
        env, txn, FIRST_SEQ + 2, lambda _: txn.get(u64(FIRST_SEQ + 1), db=env.db[b"chunks"]) or b""
    ),
    "its time is below": lambda env, txn: put_head(
        env, txn, FIRST_SEQ + 2, lambda head: head._replace(time_ms=NOW_MS - 1)
    ),
    "effects of 3 bytes": lambda env, txn: txn.put(u64(FIRST_SEQ + 2), b"abc", db=env.db[b"effects"]),
}


@pytest.mark.parametrize("text", LOG_FAULTS)
def test_a_fault_in_the_log_is_named(filled: Store, text: str) -> None:
    found = damage(filled, LOG_FAULTS[text])
    assert text in found
    assert found.startswith("seq ")


def cut_off(env: Env, txn: "Txn[bytes]") -> None:
    txn.delete(u64(FIRST_SEQ + 4), db=env.db[b"effects"])
    txn.delete(u64(FIRST_SEQ + 4), db=env.db[b"chunks"])


def test_a_log_that_ends_before_its_state_is_named(filled: Store) -> None:
    assert "the log ends here" in damage(filled, cut_off, segment=FIRST_SEQ + 4)


def host_row(env: Env, txn: "Txn[bytes]", old: bytes, new: bytes) -> None:
    key = u64(1)
    value = txn.get(key, db=env.db[b"hosts"])
    assert value is not None
    assert old in value
    txn.put(key, value.replace(old, new), db=env.db[b"hosts"])


STATE_FAULTS: dict[str, Callable[[Env, "Txn[bytes]"], object]] = {
    "the state of did:plc:000000000000000000000002": lambda env, txn: (
        txn.delete(did(2).encode(), db=env.db[b"accounts"]) and None
    ),
    "the state of did:plc:000000000000000000000000": lambda env, txn: (
        txn.put(did(0).encode(), pack_account(row(rev="3jzfcijpj2z2b"), 3), db=env.db[b"accounts"]) and None
    ),
    "account did:plc:x: account row: ": lambda env, txn: txn.put(b"did:plc:x", b"abc", db=env.db[b"accounts"]) and None,
    "the cursor of pds1.example:443 is behind": lambda env, txn: host_row(
        env, txn, b"\xa6cursor\x05", b"\xa6cursor\x04"
    ),
    "1 accounts are throttled, 0 wait": lambda env, txn: txn.drop(env.db[b"throttled"], delete=False),
    "host pds1.example:443 says 2 accounts, there are 3": lambda env, txn: host_row(
        env, txn, b"account_count\x03", b"account_count\x02"
    ),
    "host pds2.example:443 is not found": lambda env, txn: (
        txn.delete(b"pds2.example:443", db=env.db[b"hostnames"]) and None
    ),
    "1 accounts belong to host 77": lambda env, txn: (
        txn.put(b"did:plc:y", pack_account(row(77), 1), db=env.db[b"accounts"]) and None
    ),
    "identity did:plc:z: identity row: ": lambda env, txn: (
        txn.put(b"did:plc:z", b"ab", db=env.db[b"identities"]) and None
    ),
    "account b'did:plc:\\xff': the key of a DID: ": lambda env, txn: (
        txn.put(b"did:plc:\xff", pack_account(row(), 1), db=env.db[b"accounts"]) and None
    ),
    "account did:plc:w: account row: ": lambda env, txn: (
        txn.put(b"did:plc:w", pack_account(row(), 1)[:12] + b"\x07" * 95, db=env.db[b"accounts"]) and None
    ),
    "host 0000000000000001: host row: ": lambda env, txn: host_row(
        env, txn, b"pds1.example", b"pds1.\xff\xff\xff\xff\xff\xff\xff"
    ),
}


@pytest.mark.parametrize("text", STATE_FAULTS)
def test_a_fault_in_the_state_is_named(filled: Store, text: str) -> None:
    assert text in damage(filled, STATE_FAULTS[text], segment=None)


def test_what_an_append_left_half_done_is_no_finding(tmp_path: Path) -> None:
    """The next start takes it over."""
    store = open_store(tmp_path / "data")
    add_hosts(store)
    fill(store, 2)
    store.close()
    shutil.copytree(tmp_path / "data" / "state", tmp_path / "state")
    store = open_store(tmp_path / "data")
    store.append(batch(item(0, 2, 7), marks=(mark(7),)))
    store.close()
    shutil.rmtree(tmp_path / "data" / "state")
    shutil.move(tmp_path / "state", tmp_path / "data" / "state")

    store = Store.open(tmp_path / "data", settings(), readonly=True, alone=True)

    assert store.audit() == (1, 3, 3, 1, 2, ())
    store.close()


def test_a_segment_that_cannot_be_read_does_not_hide_what_is_wrong_with_the_rest(tmp_path: Path) -> None:
    _, first, second, third = three_segments(tmp_path)
    for file in (first, third):
        with file.open("r+b") as data:
            data.truncate(3 * mmap.PAGESIZE)

    store = Store.open(tmp_path, settings(), readonly=True, alone=True)
    found = store.audit()
    store.close()

    assert [text.partition(": ")[0] for text in found.findings] == [
        f"segment {FIRST_SEQ}",
        f"seq {int(second.parent.name)}",
        f"segment {int(third.parent.name)}",
        f"seq {int(third.parent.name)}",
    ]


def test_an_audit_at_rest_leaves_every_file_as_it_was(tmp_path: Path) -> None:
    """Lock files included: made by another user they would keep the relay out."""
    three_segments(tmp_path)
    for lock in tmp_path.rglob("lock.mdb"):
        lock.unlink()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    store = Store.open(tmp_path, settings(), readonly=True, alone=True)
    assert store.audit().findings == ()
    store.close()

    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_state_may_be_ahead_of_the_log(filled: Store) -> None:
    filled.append(batch(item(0, 3, 9, emits=False, local_status="takendown"), marks=(mark(99),)))
    assert filled.audit().findings == ()
