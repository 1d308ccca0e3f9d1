"""From a verdict to its end: an item, a drop, and back to a lane where it is refused. No sockets; the store is real."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from relay.ingest.lanes import Pending
from relay.store.batch import Batch
from relay.store.store import Store
from relay.verify.facts import NO_ACCOUNT, AccountState
from relay.verify.modes import LENIENT, RATCHET, STRICT
from relay.verify.verdict import Accept, Drop, Reason
from relay.world.messages import Message, account_message, identity_message
from tests.support.bench import Bench, store_of_home
from tests.support.scene import ELSEWHERE, HOME, NOW_MS, Scene

STRANGER = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
FRESH_MS = 1 << 45  # later than any clock, so that nothing is looked up again


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def store(tmp_path: Path, scene: Scene) -> Iterator[Store]:
    with store_of_home(tmp_path / "data", scene.identity(fetched_ms=FRESH_MS)) as opened:
        yield opened


def received(made: Bench, scene: Scene, message: Message) -> Pending:
    """The message as it stands before the judge: in flight."""
    event, frame = scene.received(message)
    made.judge.place.receive(event.seq)
    return Pending(event, frame, 100, 0)


def account(made: Bench, store: Store, did: str) -> AccountState:
    with store.view() as view:
        return made.judge.account(did, view)


def decide(made: Bench, store: Store, pending: Pending) -> Accept | Drop:
    """Judge and carry out."""
    before = account(made, store, pending.event.did)
    verdict = made.judge.verdict(pending, before, NOW_MS, refreshed=False)
    assert isinstance(verdict, Accept | Drop)
    made.judge.carry_out(pending, verdict, before, NOW_MS)
    return verdict


async def append(made: Bench) -> None:
    """Everything on its way ends."""
    made.batcher.close()
    await made.batcher.run()


async def test_nothing_is_said_of_a_did_that_nobody_asked_about(store: Store, scene: Scene) -> None:
    made = Bench(store, 0)
    pending = received(made, scene, identity_message(STRANGER, None))

    assert made.judge.verdict(pending, NO_ACCOUNT, NOW_MS, refreshed=False) is None


async def test_an_accepted_event_is_in_flight_until_it_is_part_of_a_batch(store: Store, scene: Scene) -> None:
    """Checklist 49, invariant 3, and the next event of the DID finds the row that this one leaves behind."""
    made = Bench(store, 0)
    assert isinstance(decide(made, store, received(made, scene, account_message(scene.did))), Accept)
    assert (made.judge.take_mark().low_water, made.judge.place.in_flight) == (0, 1)
    assert account(made, store, scene.did).version == 1
    await append(made)

    assert (made.judge.take_mark().low_water, made.judge.place.in_flight) == (1, 0)
    assert made.judge.books.progress == 1
    assert made.batcher.overlaid(scene.did) is None


async def test_a_dropped_event_is_settled_counted_and_remembered(store: Store, scene: Scene) -> None:
    """For the host, and for the account only where there is one: strangers' DIDs would fill the notes."""
    made = Bench(store, 0)
    decide(made, store, received(made, scene, account_message(scene.did)))
    for did, reason in ((STRANGER, Reason.IDENTITY_UNRESOLVED), (scene.did, Reason.SIGNATURE_INVALID)):
        pending = received(made, scene, account_message(did))
        made.judge.carry_out(pending, Drop(reason), account(made, store, did), NOW_MS)
    assert made.judge.place.in_flight == 1
    assert [note.subject for note in made.batcher._notes] == [None, scene.did]
    await append(made)
    with store.view() as view:
        notes = [{note.reason for note in view.notes(subject)} for subject in (HOME.host_id, scene.did, STRANGER)]
        host = view.host(HOME.host_id)

    assert notes == [{"identity_unresolved", "signature_invalid"}, {"signature_invalid"}, set()]
    assert host is not None
    assert (host.cursor, host.accepted) == (3, 1)
    assert host.dropped == {"identity_unresolved": 1, "signature_invalid": 1}


async def test_what_is_normal_life_is_counted_and_not_remembered(store: Store, scene: Scene) -> None:
    made = Bench(store, 0)
    made.judge.carry_out(
        received(made, scene, account_message(scene.did)), Drop(Reason.REPLAYED), scene.known(), NOW_MS
    )
    await append(made)
    with store.view() as view:
        assert view.notes(HOME.host_id) == []
        host = view.host(HOME.host_id)

    assert host is not None
    assert host.dropped == {"replayed": 1}


async def test_a_frame_that_our_seq_makes_too_long_is_dropped(store: Store, scene: Scene) -> None:
    """Ours is longer than the host's, and what is unknown in a payload is passed on as it came."""
    made = Bench(store, 0)
    message = account_message(scene.did)
    bare = len(message._replace(payload={**message.payload, "more": b""}).frame(1, NOW_MS))
    filling = bytes(5_000_000 - bare - 4)  # a length of five bytes instead of one
    longest = message._replace(payload={**message.payload, "more": filling})
    assert len(longest.frame(1, NOW_MS)) == 5_000_000
    decide(made, store, received(made, scene, longest))

    assert made.drops() == {"frame_too_big": 1}
    assert made.judge.place.in_flight == 0
    assert made.batcher.overlaid(scene.did) is None


async def test_a_refused_event_goes_back_to_the_head_of_its_lane(store: Store, scene: Scene) -> None:
    """Invariants 3 and 4: another worker wrote the account meanwhile; the cursor stays below it."""
    made, other = Bench(store, 0), Bench(store, 0)
    first, second = (received(made, scene, account_message(scene.did)) for _ in range(2))
    decide(made, store, first)
    made.judge.lanes.open(scene.did).push(second)
    decide(other, store, received(other, scene, account_message(scene.did, "deactivated")))
    await append(other)
    await append(made)

    assert made.waiting == [scene.did]
    lane = made.judge.lanes[scene.did]
    assert [lane.pop(), lane.pop()] == [first, second]
    assert made.judge.take_mark().low_water == 0
    assert made.judge.books.progress == 0


async def test_whoever_waits_for_room_hears_of_every_end(
    store: Store, scene: Scene, autojump_clock: trio.testing.MockClock
) -> None:
    """Of an append and of a drop."""
    made = Bench(store, 0)
    pending = [received(made, scene, account_message(scene.did)) for _ in range(2)]
    decide(made, store, pending[0])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.judge.wait_settled)
        await trio.testing.wait_all_tasks_blocked()
        await append(made)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.judge.wait_settled)
        await trio.testing.wait_all_tasks_blocked()
        made.judge.carry_out(pending[1], Drop(Reason.HOST_BANNED), NO_ACCOUNT, NOW_MS)


async def test_the_first_proven_commit_closes_the_ratchet_and_no_row_opens_it(store: Store, scene: Scene) -> None:
    """Design section 4, "Modes per host"; an operator's other word still holds."""
    made = Bench(store, 0)
    assert made.judge.host.mode == RATCHET
    decide(made, store, received(made, scene, scene.write()))
    decide(made, store, received(made, scene, scene.write()))
    modes = []
    for mode in (RATCHET, LENIENT):
        modes.append(made.judge.host.mode)
        made.judge.judge_under(mode)

    assert [*modes, made.judge.host.mode] == [STRICT, STRICT, LENIENT]
    assert made.judge.take_mark().proven


async def test_a_restart_is_a_new_epoch_in_which_the_host_begins_at_its_beginning(store: Store, scene: Scene) -> None:
    made = Bench(store, 50)
    made.judge.restart()
    await append(made)
    with store.view() as view:
        host = view.host(HOME.host_id)

    assert host is not None
    assert (host.epoch, host.cursor) == (1, 0)
    assert made.stream.cursor == 0


async def test_an_account_of_another_host_is_judged_by_what_that_host_s_worker_learnt(
    store: Store, scene: Scene
) -> None:
    """It moved, and this worker never asked about that."""
    made = Bench(store, 0)
    pending = received(made, scene, account_message(scene.did))
    assert isinstance(made.judge.verdict(pending, NO_ACCOUNT, NOW_MS, refreshed=False), Accept)
    store.append(Batch(NOW_MS, identities=(scene.identity(host=ELSEWHERE.hostname, fetched_ms=FRESH_MS + 1),)))
    assert isinstance(made.judge.verdict(pending, scene.known(), NOW_MS, refreshed=False), Accept)
    moved = scene.known()._replace(host_id=ELSEWHERE.host_id)
    verdict = made.judge.verdict(pending, moved, NOW_MS, refreshed=True)

    assert isinstance(verdict, Drop)
    assert verdict.reason is Reason.HOST_MISMATCH
