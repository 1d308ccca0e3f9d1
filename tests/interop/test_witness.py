"""What comes out of the relay, verified by a consumer that shares no code with it."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from relay.world.accounts import did_document
from relay.world.messages import Message, account_message, identity_message
from relay.world.network import Shape
from relay.world.stage import open_stage
from relay.world.tree import Node
from relay.world.treewalk import items
from tests.support.altering import Fields, altered, ops_of, resigned
from tests.support.inprocess import Ingest, hostnames, ingesting, keys_by_did, keys_of_frames
from tests.support.log_reader import LogReader
from tests.support.mixedlife import MixedLife
from tests.support.scene import NOW_MS, Scene
from tests.support.until import until
from tests.support.witness import Untrue, Witness

SHAPE = Shape(records=60, layer_min=1, templates=3, lifecycle=0.06, quiet_ms=2_500, create_share=0.6, update_share=0.2)
STEPS, STEP_MS, BLOCK = 2_000, 20, 50


@pytest.mark.slow
async def test_an_independent_consumer_finds_no_fault(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Checklist 222, 103, 94, 55: thousands of events of mixed life, read by two workers, verified by other means.

    Beside it each account's events are all there, in order; but for those of accounts that were taken down meanwhile.
    """
    start_ms = time.time_ns() // 1_000_000 - STEPS * STEP_MS
    stage = await open_stage(nursery, seed=11, hosts=3, accounts=24, now_ms=start_ms, shape=SHAPE)
    async with ingesting(tmp_path, hosts=hostnames(stage), plc_url=stage.plc.url, workers=2) as ingest:
        await until(lambda: all(host.connections for host in stage.hosts))

        async def set_local_status(did: str, status: str) -> int:
            write = partial(ingest.store.set_local_status, did, status, now_ms=time.time_ns() // 1_000_000)
            return (await trio.to_thread.run_sync(write)).seq is not None

        life = MixedLife(stage, set_local_status, seed=5)
        log = LogReader(ingest.store)
        for number in range(STEPS):
            life.step(start_ms + number * STEP_MS)
            if number % BLOCK == BLOCK - 1:
                await until(partial(_is_settled, ingest, life))
                if number > STEPS // 10 and number % (2 * BLOCK) == BLOCK - 1:
                    await life.act()
                for message in log.messages():
                    life.witness.take(message)

        counts = life.witness.counts
        assert counts["#commit"] > STEPS * 0.6
        assert min(counts[status] for status in ("takendown", "suspended", "deactivated", "deleted")) >= 2
        assert counts["#sync"] > 10
        assert life.witness.last_seq == ingest.store.tip().seq
        told, expected = keys_of_frames(ingest.logged()), keys_by_did(life.emissions)
        seen = {did: events for did, events in expected.items() if did not in life.hidden}
        assert {did: events for did, events in told.items() if did not in life.hidden} == seen
        assert len(seen) > 10
    nursery.cancel_scope.cancel()


def _is_settled(ingest: Ingest, life: MixedLife) -> bool:
    appended = len(ingest.logged()) - life.told_by_us
    return ingest.received() == len(life.emissions) == appended + ingest.dropped().total()


class Stand:
    """One account, its commits as a relay would number them, and a witness."""

    def __init__(self) -> None:
        self.scene = Scene()
        self.trees: dict[bytes, Node] = {}
        self.witness = Witness(
            lambda _: did_document(self.scene.account, "https://pds.example.com"),
            lambda data: dict(items(self.trees[data])),
        )

    def write(self, count: int = 1) -> Message:
        message = self.scene.write(count)
        self.trees[self.scene.account.repo.tree.cid] = self.scene.account.repo.tree
        return message

    def take(self, *messages: Message) -> None:
        for message in messages:
            self.witness.take(message.frame(self.witness.last_seq + 1, NOW_MS))


def test_the_witness_follows_an_account_through_a_break() -> None:
    """Checklist 222, 216: what a relay passes on is no fault to the consumer that the proof above rests on."""
    stand = Stand()
    stand.take(stand.write(), stand.write(3))
    stand.write()  # lost
    stand.take(stand.write(), account_message(stand.scene.did, "deactivated"), identity_message(stand.scene.did, None))

    assert stand.witness.counts["fetched"] == 2
    assert stand.witness.counts["#commit"] == 3


def _drop_an_op(message: Message) -> Message:
    return altered(message, ops=ops_of(message)[1:])


def _swap_a_cid(message: Message) -> Message:
    first, *others = ops_of(message)
    return altered(message, ops=[{**first, "cid": others[0]["cid"]}, *others])


FAULTS: dict[str, Callable[[Stand, Message], Message]] = {
    "an op is left out": lambda _, message: _drop_an_op(message),
    "an op names another record": lambda _, message: _swap_a_cid(message),
    "prevData is another": lambda _, message: altered(message, prevData=message.payload["commit"]),
    "another rev": lambda _, message: altered(message, rev="3jzfcijpj2z2a"),
    "another did signed": lambda stand, message: resigned(stand.scene, message, _other_did),
    "a bad signature": lambda stand, message: resigned(
        stand.scene, message, lambda fields: fields.update(sig=b"1" * 64)
    ),
}


def _other_did(fields: Fields) -> None:
    fields["did"] = "did:plc:" + "a" * 24


@pytest.mark.parametrize("fault", FAULTS)
def test_the_witness_finds_a_planted_fault(fault: str) -> None:
    """Checklist 222: each would be a relay's failure; a witness that misses one proves nothing."""
    stand = Stand()
    stand.take(stand.write())
    with pytest.raises((Untrue, KeyError)):
        stand.take(FAULTS[fault](stand, stand.write(3)))


def test_the_witness_minds_status_order_and_seq() -> None:
    """Checklist 222, 170: so does a consumer of content of an inactive account, or of a seq that was left out."""
    stand = Stand()
    stand.take(stand.write(), account_message(stand.scene.did, "takendown"))
    with pytest.raises(Untrue, match="inactive"):
        stand.take(stand.write())
    with pytest.raises(Untrue, match="seq"):
        stand.witness.take(account_message(stand.scene.did).frame(99, NOW_MS))
