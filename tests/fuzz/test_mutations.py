"""Single-byte edits of good frames: whatever is still accepted is shown to be valid by the independent model.

The frames are those recorded from a real PDS that are kept with the project, and frames of the simulated network. What
the model knows it has from cbor2, a loop over the CAR and the naive tree (`tests.world.slices`). It cannot verify a
signature, and need not: one edited byte does not make another one, so the signed block has to be the old one.
"""

import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from relay.ingest.pipeline import Unfit, judge_event, read_message
from relay.protocol.diddoc import normalise_host, parse_did_document
from relay.protocol.errors import FramingError
from relay.verify.facts import NO_ACCOUNT, Facts, HostView, Identity
from relay.verify.modes import STRICT
from relay.verify.verdict import Accept, Drop
from relay.world.accounts import Document
from relay.world.dagcbor import Link
from relay.world.directory import Directory
from relay.world.network import Network, Shape
from relay.world.tree import empty_tree, seal
from relay.world.treewalk import get
from tests.support.recording import PlcHistory, read_recording
from tests.support.shared import REPOSITORY
from tests.world.slices import StubTouchedError, invert, partial_tree, read_block, read_car, read_frame

HOME = "http://localhost:2583"
HOSTS = {HOME: HOME, "http://localhost:2584": "http://localhost:2584"}
RECORDED = REPOSITORY / "tests" / "data" / "recorded" / "scenario"
EDITS_ANYWHERE = 150  # of each frame
FRAMES_EDITED_THROUGH = 12  # every byte outside their slices, once


class Good(NamedTuple):
    """A frame that passes, with what its DID resolved to when it came."""

    message: bytes
    identity: Identity


def identity_of(did: str, document: Document) -> Identity:
    found = parse_did_document(did, document, allow_http=True)
    assert found.pds is not None
    return Identity(did, found.key, normalise_host(found.pds), 0)


def recorded_frames() -> Iterator[Good]:
    history, directory = PlcHistory(RECORDED.with_suffix(".plc.json"), HOSTS), Directory()
    for recorded in read_recording(RECORDED.with_suffix(".frames")):
        history.publish(directory, recorded.time)
        document = directory.document(recorded.event.did)
        assert document is not None
        yield Good(recorded.message, identity_of(recorded.event.did, document))


def simulated_frames() -> Iterator[Good]:
    shape = Shape(records=150, layer_min=2, templates=2, create_share=0.5, update_share=0.25, single_share=0.5)
    network = Network(5, [HOME], 6, 1_750_000_000_000, shape)
    for seq in range(1, 61):
        now_ms = 1_750_000_000_000 + seq * 4_000
        for emission in network.step(now_ms):
            document = network.directory.document(emission.message.did)
            assert document is not None
            yield Good(emission.message.frame(seq, now_ms), identity_of(emission.message.did, document))


SOURCES = {"recorded": recorded_frames, "simulated": simulated_frames}


def passes(message: bytes, identity: Identity) -> bool:
    """What the relay says. Anything but a verdict or a framing fault fails the test."""
    try:
        read = read_message(message)
    except FramingError:
        return False
    if isinstance(read, Unfit):
        return False
    if read[0].did != identity.did:
        return False  # another account: the host check has no document of it here, and would refuse
    host = HostView(1, identity.host or "", 0, STRICT)
    verdict = judge_event(read[0], Facts(identity, NO_ACCOUNT, host, 2_000_000_000_000, refreshed=True))
    assert isinstance(verdict, Accept | Drop)
    return isinstance(verdict, Accept)


def is_signed(message: bytes) -> bool:
    return read_frame(message).header["t"] in {"#commit", "#sync"}


def check_still_valid(mutant: bytes, original: bytes) -> None:
    """The model's own verdict: the same signed commit, and ops that lead back from its tree to the one it names."""
    header, payload = read_frame(mutant)
    before = read_frame(original).payload
    root, pairs = read_car(payload["blocks"])
    blocks = dict(pairs)
    signed = blocks[root]
    assert signed == dict(read_car(before["blocks"])[1])[read_car(before["blocks"])[0]]
    commit = read_block(signed)
    assert commit["rev"] == payload["rev"]
    if header["t"] == "#commit":
        assert (commit["did"], root) == (payload["repo"], payload["commit"])
        check_ops(commit["data"], blocks, payload)


def check_ops(data: Link, blocks: Mapping[Link, bytes], payload: Mapping[str, Any]) -> None:
    ops = payload["ops"]
    assert len({op["path"] for op in ops}) == len(ops)
    nothing = empty_tree()
    seal(nothing)
    assert invert(data, blocks, ops) == payload.get("prevData", nothing.cid) if ops else True
    if not ops:
        assert payload.get("prevData", nothing.cid) == data
        return
    tree = partial_tree(data, blocks)
    for op in ops:
        assert (op["action"] == "create") == ("prev" not in op)
        assert (op["action"] == "delete") == (op["cid"] is None)
        if op["cid"] is None:
            assert is_absent(tree, op["path"])
        else:
            assert get(tree, op["path"].encode()) == op["cid"]
            assert op["cid"] in blocks


def is_absent(tree: Any, path: str) -> bool:
    try:
        return get(tree, path.encode()) is None
    except StubTouchedError:
        return True


def edited(message: bytes, at: int, rng: random.Random) -> bytes:
    return message[:at] + bytes([message[at] ^ rng.randrange(1, 256)]) + message[at + 1 :]


def edits(message: bytes, rng: random.Random, *, through: bool) -> Iterator[bytes]:
    """Edits anywhere; and through, one of every byte that is not in the slice, where no hash protects it."""
    for _ in range(EDITS_ANYWHERE):
        yield edited(message, rng.randrange(len(message)), rng)
    if through:
        blocks = read_frame(message).payload["blocks"]
        start = message.index(blocks)
        for at in (*range(start), *range(start + len(blocks), len(message))):
            yield edited(message, at, rng)


@pytest.mark.parametrize("source", SOURCES)
def test_every_mutant_that_passes_is_still_valid(source: str) -> None:
    """Deterministic: one seed, the same edits."""
    rng = random.Random(source)
    good = [one for one in SOURCES[source]() if is_signed(one.message) and passes(*one)]
    through = {
        one.message for one in sorted(good, key=lambda one: len(one.message))[:: len(good) // FRAMES_EDITED_THROUGH]
    }
    tried = survived = 0
    for message, identity in good:
        check_still_valid(message, message)
        for mutant in edits(message, rng, through=message in through):
            tried += 1
            if passes(mutant, identity):
                survived += 1
                check_still_valid(mutant, message)
    assert len(good) >= 40
    assert tried > 9_000
    # Bytes of `time`, `since`, `seq` and of values that nobody reads may change; the test would show nothing otherwise.
    assert 0 < survived < tried / 5
