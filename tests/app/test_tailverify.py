"""The judging consumer of `relay tail --verify`: sound streams pass, and each kind of fault is found and named."""

import pytest
import trio
import trio.testing

from relay.app import tailverify
from relay.app.tailverify import Misjudged, Verifier
from relay.identity.fetch import DidGone, DirectoryFault, LookupFault
from relay.protocol.diddoc import DidDocument
from relay.protocol.events import AccountScoped
from relay.world.keys import make_key
from relay.world.messages import Message, account_message, identity_message
from tests.support.altering import altered, resigned, without
from tests.support.scene import NOW_MS, Scene, public_key


class Source:
    """A directory that knows the key of one scene, or answers with a fault."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.fault: LookupFault | None = None
        self.asked = 0

    async def fetch(self, did: str) -> DidDocument:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return DidDocument(did, public_key(self.scene.account), None)


class Reader:
    """A scene, and the verifier that reads its events."""

    def __init__(self) -> None:
        self.scene = Scene()
        self.source = Source(self.scene)
        self.verifier = Verifier(self.source)  # type: ignore[arg-type]  # the same `fetch`, without a network

    async def read(self, *messages: Message) -> None:
        events: list[AccountScoped] = [self.scene.event(message) for message in messages]
        await self.verifier.prepare(events)
        for event in events:
            await self.verifier.check(event, NOW_MS)


async def test_a_sound_stream_is_verified() -> None:
    """Rotation with its `#identity` and without, a pause, a break that is counted."""
    reader = Reader()
    scene = reader.scene
    await reader.read(scene.write(), scene.write(3), scene.account.repo.sync())
    scene.account.key = make_key(scene.rng)
    await reader.read(identity_message(scene.did, None), scene.write())
    scene.account.key = make_key(scene.rng, "p256")
    await reader.read(scene.write())
    await reader.read(account_message(scene.did, "deactivated"), account_message(scene.did))
    scene.write()  # lost
    await reader.read(scene.write())

    assert (reader.verifier.verified, reader.verifier.breaks, reader.verifier.unproven) == (8, 1, 0)
    assert reader.source.asked == 3


async def test_a_key_that_was_announced_as_replaced_counts_no_more() -> None:
    """The document is read anew at each `#identity`, not only when a signature fails."""
    reader = Reader()
    scene = reader.scene
    await reader.read(scene.write())
    late = scene.write()
    scene.account.key = make_key(scene.rng)
    with pytest.raises(Misjudged, match="signature_invalid"):
        await reader.read(identity_message(scene.did, None), late)


async def test_what_cannot_be_undone_is_counted_as_unproven() -> None:
    reader = Reader()
    reader.scene.write()
    await reader.read(without(reader.scene.write(), "prevData"))

    assert (reader.verifier.verified, reader.verifier.unproven) == (1, 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("another key", "signature_invalid"),
        ("an op left out", "inversion_mismatch"),
        ("an old rev", "rev_not_newer"),
        ("content while inactive", "account_inactive"),
    ],
)
async def test_a_fault_is_found_and_named(name: str, expected: str) -> None:
    """A relay must not pass any of these."""
    reader = Reader()
    scene = reader.scene
    first = scene.write()
    await reader.read(first)
    match name:
        case "another key":
            wrong = Scene(seed=9)
            wrong.account.did = wrong.account.repo.did = scene.did
            messages = [wrong.write(now_ms=NOW_MS + 1)]
        case "an op left out":
            commit = scene.write(2)
            messages = [altered(commit, ops=commit.payload["ops"][:1])]  # type: ignore[index]  # a list
        case "an old rev":
            messages = [scene.write(), first]
        case _:
            messages = [account_message(scene.did, "suspended"), scene.write()]

    with pytest.raises(Misjudged, match=expected) as raised:
        await reader.read(*messages)
    assert scene.did in str(raised.value)


async def test_a_broken_commit_object_is_found() -> None:
    reader = Reader()
    message = reader.scene.write()
    with pytest.raises(Misjudged, match="commit_did_mismatch"):
        await reader.read(resigned(reader.scene, message, lambda fields: fields.update(did="did:plc:" + "a" * 24)))


@pytest.mark.parametrize("fault", [DidGone("status 404"), DirectoryFault("timeout")])
async def test_a_did_that_does_not_resolve_is_a_fault_after_a_while(
    fault: LookupFault, autojump_clock: trio.testing.MockClock
) -> None:
    reader = Reader()
    reader.source.fault = fault
    started = trio.current_time()
    with pytest.raises(Misjudged, match="does not resolve"):
        await reader.read(reader.scene.write())

    assert trio.current_time() - started == tailverify.LOOKUP_PATIENCE_SECONDS
    assert reader.source.asked > 10


async def test_a_directory_that_comes_back_is_waited_for(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    reader = Reader()
    reader.source.fault = DirectoryFault("timeout")

    async def mend() -> None:
        await trio.sleep(5)
        reader.source.fault = None

    nursery.start_soon(mend)
    await reader.read(reader.scene.write())
    assert reader.verifier.verified == 1
