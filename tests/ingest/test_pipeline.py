"""What goes out for what came in, read by means that share no code with the relay."""

import pytest

from relay.ingest.pipeline import judge_event, outgoing
from relay.verify.verdict import Accept
from relay.world.dagcbor import cid_of
from relay.world.repo import Write
from tests.support.scene import NOW_MS, Scene
from tests.world.slices import read_car, read_frame

RECORDS = {
    "a float": "a16178fb3ff8000000000000",
    "keys out of order": "a2616200616100",
    "a long form": "a161781800",
    "a BLAKE3 link": "a16178d82a5825000155" + "1e20" + "00" * 32,
    "not CBOR": "ffff",
}


@pytest.mark.parametrize("record", [bytes.fromhex(text) for text in RECORDS.values()], ids=RECORDS.keys())
def test_records_go_out_byte_for_byte(record: bytes) -> None:
    """Checklist 94, 103: what a record holds is no matter of a relay, its bytes are."""
    scene = Scene()
    message = scene.account.repo.commit([Write("com.example.note/a", record)], scene.account.key, NOW_MS)
    event, frame = scene.received(message)
    verdict = judge_event(event, scene.facts())
    assert isinstance(verdict, Accept), verdict
    _, payload = read_frame(outgoing(event, frame, verdict.state).with_seq(7))

    assert payload["blocks"] == message.payload["blocks"]
    assert dict(read_car(payload["blocks"])[1])[cid_of(record)] == record
