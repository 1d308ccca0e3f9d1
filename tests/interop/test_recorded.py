"""Recorded traffic of a real PDS through a whole ingest worker: real sockets, a real store, a PLC history."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.protocol.frame import MessageFrame
from relay.verify.verdict import Reason
from relay.world.directory import Directory
from relay.world.host import SimulatedHost
from relay.world.messages import account_message, identity_message
from relay.world.plc import PlcServer
from tests.support.inprocess import Ingest, ingesting
from tests.support.recording import PlcHistory, read_recording
from tests.support.shared import REPOSITORY, shared_dir
from tests.support.until import until

HOME, NEW_HOME = "http://localhost:2583", "http://localhost:2584"
MIGRANT = "did:plc:sc6hkmqxrhm6svpjpzbjrqzv"
MIGRATED_AT = "2026-11-22T08:57:11.625Z"

# What becomes of each recorded frame of the scenario, by its seq at the host; every other one passes.
EXPECTED_DROPS = {
    184: Reason.HOST_MISMATCH,  # a write that the old host still took after the migration
    185: Reason.HOST_MISMATCH,  # its farewell
}


def scenario_files(where: str) -> Path:
    """The folder and stem of a recording of the scenario: the part kept with the project, or the whole beside it."""
    if where == "kept":
        return REPOSITORY / "tests" / "data" / "recorded" / "scenario"
    return shared_dir() / "corpus" / "scenario-k256"


@pytest.mark.parametrize("where", ["kept", "whole"])
async def test_scenario(where: str, tmp_path: Path, nursery: trio.Nursery) -> None:
    """Checklist 94, 103, 161, 162, 182, 191: every frame gets the verdict of the table.

    What passes is the same bytes but for seq, in order per account; a `#sync` of the stored commit among it, as ruled.
    """
    stem = scenario_files(where)
    recording = read_recording(stem.with_suffix(".frames"))
    hosts = [SimulatedHost(), SimulatedHost()]
    urls = [await nursery.start(host.serve) for host in hosts]
    history = PlcHistory(stem.with_name(stem.name + ".plc.json"), dict(zip((HOME, NEW_HOME), urls, strict=True)))
    directory = Directory()
    plc = PlcServer(directory)
    await nursery.start(plc.serve)
    names = tuple(url.removeprefix("http://") for url in urls)
    async with ingesting(tmp_path, hosts=names, plc_url=plc.url) as ingest:
        await until(lambda: all(host.connections for host in hosts))
        sent = 0
        for recorded in recording:
            history.publish(directory, recorded.time)
            if recorded.time > MIGRATED_AT and not hosts[1].window.tip:
                sent += _announce_migrant(hosts[1])
                await _settled(ingest, sent)
            hosts[0].append(recorded.message, recorded.event.seq)
            sent += 1
            await _settled(ingest, sent)
        frames = ingest.logged()
        expected = [recorded.frame for recorded in recording if recorded.event.seq not in EXPECTED_DROPS]
        recorded_times = {recorded.time for recorded in recording}

        assert _by_account([frame for frame in frames if frame.payload["time"] in recorded_times]) == _by_account(
            expected
        )
        assert len(frames) == len(expected) + hosts[1].window.tip
        dropped = [EXPECTED_DROPS[item.event.seq] for item in recording if item.event.seq in EXPECTED_DROPS]
        assert ingest.dropped() == {reason: dropped.count(reason) for reason in set(dropped)}
        assert ingest.received() == len(frames) + ingest.dropped().total()
        _check_status(ingest, json.loads(stem.with_name(stem.name + ".status.json").read_text()))
    nursery.cancel_scope.cancel()


async def test_bulk(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Checklist 94, 103, 182, 191, 198 to 201: all 2,082 frames of ordinary traffic come out, the same but for seq."""
    stem = shared_dir() / "corpus" / "bulk-k256"
    recording = read_recording(stem.with_suffix(".frames"))
    host, directory = SimulatedHost(), Directory()
    url = await nursery.start(host.serve)
    text = stem.with_name("bulk-k256.dids.json").read_text().replace(HOME, url)
    for did, document in json.loads(text).items():
        directory.put(did, document)
    plc = PlcServer(directory)
    await nursery.start(plc.serve)
    for recorded in recording:
        host.append(recorded.message, recorded.event.seq)
    async with ingesting(tmp_path, hosts=(url.removeprefix("http://"),), plc_url=plc.url) as ingest:
        await until(lambda: ingest.received() == len(recording), seconds=60)
        await _settled(ingest, len(recording))
        frames = ingest.logged()

        assert _by_account(frames) == _by_account([recorded.frame for recorded in recording])
        assert ingest.dropped().total() == 0
    nursery.cancel_scope.cancel()


def _announce_migrant(host: SimulatedHost) -> int:
    """The new host's first words, as a real PDS says them; its signed events are not part of the recording."""
    now_ms = 1_763_801_831_700
    host.emit(identity_message(MIGRANT, None), now_ms)
    return host.emit(account_message(MIGRANT), now_ms)


async def _settled(ingest: Ingest, sent: int) -> None:
    """Until all of that many events are appended or dropped."""
    await until(lambda: len(ingest.logged()) + ingest.dropped().total() >= sent, seconds=60)


def _by_account(frames: list[MessageFrame]) -> dict[str, list[Any]]:
    """Payloads without seq, in order for each account."""
    found: dict[str, list[Any]] = defaultdict(list)
    for frame in frames:
        did = frame.payload.get("repo") or frame.payload["did"]
        found[did].append((frame.type, {key: value for key, value in frame.payload.items() if key != "seq"}))
    return found


def _check_status(ingest: Ingest, told: dict[str, dict[str, Any]]) -> None:
    """Our state of each account is what its host's getRepoStatus said at the end of the recording."""
    with ingest.store.view() as view:
        for did, status in told.items():
            account = view.account(did)
            assert account is not None
            if "error" in status:
                assert (account.upstream_active, account.upstream_status) == (False, "deleted")
            elif did != MIGRANT:
                assert (account.upstream_active, account.rev) == (status["active"], status["rev"])
