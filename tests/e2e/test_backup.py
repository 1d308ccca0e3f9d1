"""`relay backup` beside a relay at work, and relays that are started on the copies, as real processes."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import pytest
import trio

from relay.protocol.frame import ErrorFrame, MessageFrame, parse_frame
from relay.store.settings import LogSettings
from relay.store.store import Store
from tests.support.fake_consumer import connect, seq_of
from tests.support.log_writer import LogWriter
from tests.support.processes import DEVELOPMENT, RELAY, RelayProcess, environ
from tests.support.town import town

pytestmark = pytest.mark.slow

MAP_BYTES = 256 << 20
CONSUMER_SECONDS = 30


def relay_in(folder: Path, data_dir: Path | None = None) -> RelayProcess:
    """One with a worker of each role; not started."""
    folder.mkdir(exist_ok=True)
    return RelayProcess(folder, data_dir=data_dir, RELAY_WORKERS_INGEST="1", RELAY_WORKERS_SERVE="1")


async def command(relay: RelayProcess, *words: str) -> "subprocess.CompletedProcess[bytes]":
    """Another `relay` command on the same data."""
    with trio.fail_after(60):
        return await trio.run_process(
            [*RELAY, *words],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=relay.folder,
            env=environ({**DEVELOPMENT, "RELAY_DATA_DIR": str(relay.data_dir)}),
        )


@contextmanager
def started_on(data_dir: Path, folder: Path) -> Iterator[RelayProcess]:
    """A relay of its own on a copy."""
    made = relay_in(folder, data_dir)
    try:
        made.start()
        yield made
    finally:
        made.close()


async def first_message(relay: RelayProcess, cursor: int) -> MessageFrame | ErrorFrame:
    """What a consumer with that cursor gets first."""
    with trio.fail_after(CONSUMER_SECONDS):
        async with connect(relay.api, f"?cursor={cursor}") as consumer:
            parsed = parse_frame((await consumer.frames(1))[0])
    assert isinstance(parsed, MessageFrame | ErrorFrame)
    return parsed


async def test_a_copy_that_is_made_while_events_come_in_starts_as_a_relay_of_its_own(tmp_path: Path) -> None:
    """It has the same bytes under the same seqs up to the copy, and issues none that the original may have issued."""
    original = relay_in(tmp_path / "original")
    try:
        original.start()
        async with town(original, hosts=2, accounts=8, seed=31) as made:
            async with made.playing(300):
                await made.received(150)
                whole = await command(original, "backup", str(tmp_path / "copy"))
                bare = await command(original, "backup", str(tmp_path / "bare"), "--no-log")
                refused = await command(original, "compact")
                await made.received(150)
            await made.judge()
            sent, tip = made.messages, (await original.window())[1]
        assert await original.terminate() == 0
    finally:
        original.close()
    assert (whole.returncode, bare.returncode, refused.returncode) == (0, 0, 2), whole.stderr + bare.stderr
    assert b"data_dir: " in refused.stderr
    assert b" is in use by pid " in refused.stderr

    with started_on(tmp_path / "copy", tmp_path / "first") as copy:
        await goes_on_above(copy, sent, tip)
    with started_on(tmp_path / "bare", tmp_path / "second") as copy:
        told = await first_message(copy, seq_of(sent[0]))
        assert isinstance(told, MessageFrame)
        assert told.payload["name"] == "OutdatedCursor"
        assert (await window(copy))["floorSeq"] > tip


async def window(relay: RelayProcess) -> dict[str, Any]:
    answer: dict[str, Any] = (await relay.get("/window")).json
    return answer


async def goes_on_above(copy: RelayProcess, sent: list[bytes], tip: int) -> None:
    """`sent` is all that the original gave out, up to `tip`."""
    stands = await window(copy)
    assert stands["floorSeq"] == seq_of(sent[0])
    (jump,) = stands["raises"]
    assert seq_of(sent[0]) < jump["beforeSeq"] < tip < jump["afterSeq"] == stands["tipSeq"] + 1
    held = jump["beforeSeq"] - stands["floorSeq"] + 1
    store = Store.open(copy.data_dir, LogSettings(state_map_bytes=MAP_BYTES))
    try:
        (new,) = LogWriter(store).append(1)
    finally:
        store.close()
    assert new == jump["afterSeq"]
    with trio.fail_after(CONSUMER_SECONDS):
        async with connect(copy.api, f"?cursor={seq_of(sent[0]) - 1}") as consumer:
            assert await consumer.frames(held) == sent[:held]
            assert await consumer.seqs(1) == [new]
    for cursor in (jump["beforeSeq"], tip):  # whoever has what only the original had is neither late nor early
        following = await first_message(copy, cursor)
        assert isinstance(following, MessageFrame)
        assert following.payload["seq"] == new
    ahead = await first_message(copy, new + 1)
    assert isinstance(ahead, ErrorFrame)
    assert ahead.error == "FutureCursor"


async def test_an_audit_finds_nothing_in_what_a_crash_left_and_a_changed_byte_when_deep(tmp_path: Path) -> None:
    relay = relay_in(tmp_path)
    try:
        relay.start()
        async with town(relay, hosts=1, accounts=4, seed=32) as made:
            async with made.playing(200):
                await made.received(100)
                busy = await command(relay, "inspect", "data")
            await made.caught_up()
        relay.end()
        sound = await command(relay, "inspect", "data", "--deep")
        (segment,) = (tmp_path / "data" / "log").iterdir()
        change_a_record(segment)
        shallow = await command(relay, "inspect", "data")
        deep = await command(relay, "inspect", "data", "--deep")
        forget_keys(tmp_path / "data" / "state")
        keyless = await command(relay, "inspect", "data", "--deep")
    finally:
        relay.close()

    assert busy.returncode == 2
    assert busy.stderr.startswith(b"relay: DATA_DIR: a relay is at work in data: ")
    assert (sound.returncode, sound.stderr) == (0, b"")
    assert [line.partition(b": ")[0] for line in sound.stdout.splitlines()] == [b"log", b"state"]
    assert (shallow.returncode, shallow.stderr) == (0, b"")
    assert deep.returncode == 1
    assert b"block_hash_mismatch" in deep.stderr
    assert deep.stderr.count(b"\n") == 1
    assert b" events are not signed by the key that the state has " in keyless.stdout


def change_a_record(segment: Path) -> None:
    """One letter of what an account wrote, in the slice of its commit."""
    with lmdb.open(str(segment), max_dbs=2, map_size=1 << 31, lib_version=0) as env:
        chunks = env.open_db(b"chunks", create=False)
        with env.begin(write=True) as txn:
            for key, chunk in txn.cursor(db=chunks):
                at = chunk.rfind(b"app.bsky.feed.post")
                if b"$type" in chunk[:at][-8:]:
                    txn.put(key, chunk[:at] + b"z" + chunk[at + 1 :], db=chunks)
                    return
    raise AssertionError("no record found")


def forget_keys(state: Path) -> None:
    with lmdb.open(str(state), max_dbs=8, map_size=MAP_BYTES, lib_version=0) as env:
        identities = env.open_db(b"identities", create=False)
        with env.begin(write=True) as txn:
            txn.drop(identities, delete=False)
