"""Hosts from before Sync 1.1, through a whole ingest worker (design section 4, "Modes per host")."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import trio

from relay.ingest.settings import IngestSettings
from relay.store.hosts import HostRow
from relay.verify.verdict import Reason
from relay.world.accounts import did_document
from relay.world.directory import Directory
from relay.world.host import SimulatedHost
from relay.world.messages import Message
from relay.world.plc import PlcServer
from relay.world.repo import Write
from tests.support.altering import without
from tests.support.inprocess import Ingest, ingesting
from tests.support.scene import NOW_MS, Scene
from tests.support.until import until

RECORD = b"\xa0"


class Place(NamedTuple):
    """A host with one account on it, and the folder of a relay's data."""

    host: SimulatedHost
    plc: PlcServer
    scene: Scene
    data_dir: Path

    def commit(self, path: str, *, old: bool) -> Message:
        """The next commit, as an old host says it or as a present one."""
        scene = self.scene
        message = scene.account.repo.commit([Write(f"com.example.note/{path}", RECORD)], scene.account.key, NOW_MS)
        return without(message, "prevData") if old else message

    @asynccontextmanager
    async def relay(self, mode: str = "ratchet", **row: Any) -> AsyncIterator[Ingest]:
        """A worker that follows the host; `row` goes into its row when that is new."""
        name = self.host.url.removeprefix("http://")
        settings = IngestSettings(mode=mode)
        async with ingesting(self.data_dir, hosts=(name,), plc_url=self.plc.url, ingest=settings, row=row) as ingest:
            yield ingest

    async def send(self, ingest: Ingest, message: Message) -> Reason | None:
        """What became of it."""
        logged, dropped = len(ingest.logged()), ingest.dropped()
        self.host.emit(message, NOW_MS)
        await until(lambda: len(ingest.logged()) > logged or ingest.dropped() != dropped)
        if len(ingest.logged()) > logged:
            assert ingest.logged()[-1].payload["rev"] == message.rev
            return None
        (reason,) = ingest.dropped() - dropped
        return Reason(reason)

    def row(self, ingest: Ingest) -> HostRow:
        with ingest.store.view() as view:
            row = view.host_named(self.host.url.removeprefix("http://"))
        assert row is not None
        return row


async def settle(nursery: trio.Nursery, tmp_path: Path) -> Place:
    host, directory, scene = SimulatedHost(), Directory(), Scene()
    plc = PlcServer(directory)
    await nursery.start(host.serve)
    await nursery.start(plc.serve)
    directory.put(scene.did, did_document(scene.account, host.url))
    return Place(host, plc, scene, tmp_path)


def counted(ingest: Ingest, name: str) -> int:
    """A counter without labels."""
    (value,) = (line for line in ingest.metrics.render().decode().splitlines() if line.startswith(f"{name} "))
    return int(float(value.split()[1]))


async def test_the_first_proven_commit_ends_the_ratchet_for_good(tmp_path: Path, nursery: trio.Nursery) -> None:
    """At once in this process, in the host's row with the same append, and so after a restart.

    Checklist 213, 216: what an old host may leave out is dropped from then on, and a break is counted.
    """
    place = await settle(nursery, tmp_path)
    async with place.relay(known_at_install=True) as ingest:
        assert await place.send(ingest, place.commit("a", old=True)) is None
        assert await place.send(ingest, place.commit("b", old=True)) is None
        assert (place.row(ingest).proven, place.row(ingest).remarks) == (False, {"unproven": 1})
        await until(lambda: counted(ingest, "relay_ingest_events_unproven_total") == 1)

        assert await place.send(ingest, place.commit("c", old=False)) is None
        assert place.row(ingest).proven
        assert await place.send(ingest, place.commit("d", old=True)) is Reason.PREV_DATA_MISSING

        assert await place.send(ingest, place.commit("e", old=False)) is None
        assert place.row(ingest).remarks == {"unproven": 1, "chain_break": 1, "since_differs": 1}
        await until(lambda: counted(ingest, "relay_ingest_chain_breaks_total") == 1)
        await until(lambda: counted(ingest, "relay_ingest_events_unproven_total") == 1)
    async with place.relay() as ingest:
        assert await place.send(ingest, place.commit("f", old=True)) is Reason.PREV_DATA_MISSING
        assert place.row(ingest).proven
    nursery.cancel_scope.cancel()


async def test_two_in_one_read_are_judged_one_after_the_other(tmp_path: Path, nursery: trio.Nursery) -> None:
    """The second of a proven and an unproven commit is refused though nothing was appended between them."""
    place = await settle(nursery, tmp_path)
    for path, old in (("a", False), ("b", False), ("c", True)):
        place.host.emit(place.commit(path, old=old), NOW_MS)
    async with place.relay(known_at_install=True) as ingest:
        await until(lambda: ingest.received() == 3 and len(ingest.logged()) == 2)
        assert ingest.dropped() == {Reason.PREV_DATA_MISSING: 1}
    nursery.cancel_scope.cancel()


async def test_a_host_first_seen_later_starts_strict_until_an_operator_marks_it(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """A mode that is set while the host is followed holds from then on."""
    place = await settle(nursery, tmp_path)
    async with place.relay() as ingest:
        assert await place.send(ingest, place.commit("a", old=True)) is None
        assert await place.send(ingest, place.commit("b", old=True)) is Reason.PREV_DATA_MISSING
        host_id = place.row(ingest).host_id
        for mode, expected in (("ratchet", None), ("strict", Reason.PREV_DATA_MISSING), ("lenient", None)):
            ingest.store.update_host(host_id, mode=mode)
            outcomes = [await place.send(ingest, place.commit(f"{mode}-0", old=True))]
            while outcomes[-1] is not expected and len(outcomes) < 200:  # until the worker has seen it
                outcomes.append(await place.send(ingest, place.commit(f"{mode}-{len(outcomes)}", old=True)))
            assert outcomes[-1] is expected
    nursery.cancel_scope.cancel()


async def test_lenient_stays_lenient(tmp_path: Path, nursery: trio.Nursery) -> None:
    place = await settle(nursery, tmp_path)
    async with place.relay("lenient") as ingest:
        for path, old in (("a", False), ("b", False), ("c", True), ("d", False), ("e", True)):
            assert await place.send(ingest, place.commit(path, old=old)) is None
        assert place.row(ingest).remarks["unproven"] == 2
    nursery.cancel_scope.cancel()
