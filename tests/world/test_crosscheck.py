"""What the world makes, read by the relay's own floors: two independent writers of one protocol must agree."""

import msgspec

from relay.protocol.car import parse_car
from relay.protocol.commit import parse_commit
from relay.protocol.diddoc import parse_did_document
from relay.protocol.events import CommitEvent, SyncEvent, parse_event
from relay.protocol.frame import ErrorFrame, MessageFrame, parse_frame, template
from relay.protocol.inversion import check_slice
from relay.protocol.mst import EMPTY_TREE_CID
from relay.verify.signature import verify_signature
from relay.world.corpus import frames_of_network_shape
from relay.world.messages import error_frame, info_frame
from relay.world.network import Network, Shape
from tests.world.test_network import HOSTS, LIVELY, NOW_MS, run


def read(message: bytes) -> MessageFrame:
    frame = parse_frame(message)
    assert isinstance(frame, MessageFrame)
    return frame


def test_commits_of_network_shape_verify_in_every_step() -> None:
    """Schema, slice, commit object, signature by the DID document, inversion to `prevData`."""
    frames, documents = frames_of_network_shape(7, 400, accounts=60)
    curves = set()
    for frame in frames:
        event = parse_event(read(frame))
        assert isinstance(event, CommitEvent)
        root, blocks = parse_car(event.blocks)
        commit = parse_commit(blocks[root])
        key = parse_did_document(event.did, msgspec.json.encode(documents[event.did]), allow_http=True).key
        assert key is not None
        curves.add(key.curve)

        assert (commit.did, commit.rev, root) == (event.did, event.rev, event.commit)
        assert verify_signature(key, commit.digest, commit.sig)
        assert check_slice(blocks, event.ops, commit.data) == event.prev_data
    assert curves == {"k256", "p256"}


def test_frames_of_every_kind_are_canonical_and_complete() -> None:
    """The relay's re-emission of each frame under the same seq is the same bytes; both sides agree on every event."""
    kinds = set()
    for seq, (now_ms, emission) in enumerate(run(Network(9, HOSTS, 12, NOW_MS, LIVELY), 800), 1):
        frame = emission.message.frame(seq, now_ms)
        parsed = read(frame)
        event = parse_event(parsed)
        kinds.add(parsed.type)

        assert template(parsed.type, parsed.payload).with_seq(seq) == frame
        if isinstance(event, CommitEvent | SyncEvent):
            assert parse_car(event.blocks).root in parse_car(event.blocks).blocks
    assert kinds == {"#commit", "#sync", "#identity", "#account"}


def test_first_commits_invert_to_the_empty_tree() -> None:
    network = Network(9, HOSTS, 1, NOW_MS, Shape(records=0))
    (account,) = network.writers
    event = parse_event(read(network.write(account, NOW_MS).message.frame(1, NOW_MS)))
    assert isinstance(event, CommitEvent)
    root, blocks = parse_car(event.blocks)

    assert (event.since, event.prev_data) == (None, None)
    assert check_slice(blocks, event.ops, parse_commit(blocks[root]).data) == EMPTY_TREE_CID


def test_info_and_error_frames_are_understood() -> None:
    assert read(info_frame("OutdatedCursor", "late")).payload == {"name": "OutdatedCursor", "message": "late"}
    assert parse_frame(error_frame("FutureCursor", "early")) == ErrorFrame("FutureCursor", "early")
