"""Whatever bytes come: a value or the one error that the module promises, and no other reading than the naive one."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol import cbor
from relay.protocol.car import parse_car
from relay.protocol.cbor import Link
from relay.protocol.errors import CarError, CborError, FramingError, SchemaError
from relay.protocol.events import parse_event
from relay.protocol.frame import MessageFrame, parse_frame, template
from tests.fuzz.naive_cbor import RefusedError, make, mutate, read, read_all
from tests.support.handmade import PAYLOADS, SLICE, message

NOTHING = object()


def outcome(reader: Any, data: Any, refusal: type[Exception]) -> Any:
    """What `reader` makes of `data`, or `NOTHING` if it refuses it in the way it should."""
    try:
        return reader(data)
    except refusal:
        return NOTHING


def shape(value: Any) -> Any:
    """A value together with its types, in which a link is not bytes and True is not 1."""
    if isinstance(value, dict):
        return [(key, shape(inner)) for key, inner in value.items()]
    return [shape(inner) for inner in value] if isinstance(value, list) else (type(value), value)


def check_reading(data: bytes) -> bool:
    """Both readers agree; what is accepted is written as the same bytes. Whether it was accepted."""
    found, expected = outcome(cbor.decode, data, CborError), outcome(read_all, data, RefusedError)
    assert shape(found) == shape(expected), data.hex()
    if found is not NOTHING:
        assert cbor.encode(found) == data
        assert cbor.item_end(data) == len(data)
    outcome(cbor.decode_fast, data, CborError)
    outcome(cbor.item_end, data, CborError)
    return found is not NOTHING


@pytest.mark.parametrize("flaws", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_made_items_read_as_the_naive_reader_reads_them(seed: int, flaws: float) -> None:
    """Neither a false accept nor a false reject, on input made to be nearly valid."""
    rng = random.Random(f"items {seed} {flaws}")
    accepted = sum(check_reading(make(rng, flaws)) for _ in range(600))
    assert accepted == 600 if flaws == 0 else 60 < accepted < 599


@pytest.mark.parametrize("seed", range(4))
def test_mutated_items_read_as_the_naive_reader_reads_them(seed: int) -> None:
    rng = random.Random(f"mutations {seed}")
    accepted = sum(check_reading(mutate(rng, make(rng, 0))) for _ in range(1500))
    assert 0 < accepted < 1500


@given(st.binary(max_size=80))
def test_any_bytes_read_as_the_naive_reader_reads_them(data: bytes) -> None:
    check_reading(data)
    check_reading(b"\x82\x42\x01\x71" + data)


def naive_frame_is_sound(data: bytes) -> bool:
    """Two maps of strict DAG-CBOR and nothing else, of which the first has an integer `op`, and text `t` if it is 1."""
    try:
        header, end = read(data, 0, 0)
        payload = read_all(data[end:])
    except RefusedError:
        return False
    if type(header) is not dict or type(payload) is not dict or type(header.get("op")) is not int:
        return False
    return header["op"] != 1 or type(header.get("t")) is str


def check_frame(data: bytes) -> str:
    """A frame is refused exactly if it is unsound; a message is an event or a schema fault, its template a frame."""
    found = outcome(parse_frame, data, FramingError)
    seq = found.payload.get("seq") if isinstance(found, MessageFrame) else None
    has_wide_seq = type(seq) is int and 2**63 <= seq < 2**64
    assert (found is not NOTHING) == naive_frame_is_sound(data) or has_wide_seq, data.hex()
    if not isinstance(found, MessageFrame):
        return "refused" if found is NOTHING else "other"
    before = shape(found.payload)
    if found.type == "#info":
        return "event" if outcome(parse_event, found, SchemaError) is not NOTHING else "schema"
    made = template(found.type, found.payload).with_seq(7)
    again = parse_frame(made)
    assert isinstance(again, MessageFrame)
    assert template(again.type, again.payload).with_seq(7) == made
    kept = {key: value for key, value in found.payload.items() if again.payload.get(key, NOTHING) is not NOTHING}
    changed = {"seq", "rebase", "tooBig", "blobs"}
    assert all(shape(again.payload[key]) == shape(value) for key, value in kept.items() if key not in changed)
    assert set(found.payload) - set(kept) <= {"$type", "handle"}
    event = outcome(parse_event, found, SchemaError)
    assert shape(found.payload) == before, "reading an event changes nothing"
    return "schema" if event is NOTHING else "event"


@pytest.mark.parametrize("kind", PAYLOADS)
def test_mutated_frames(kind: str) -> None:
    """Every kind of outcome occurs, and none but the promised ones."""
    rng = random.Random(kind)
    whole = message(kind, PAYLOADS[kind](x=[b"\x01\x71\x12\x20", Link.__name__]))
    outcomes = [check_frame(mutate(rng, whole)) for _ in range(1200)]
    assert {"refused", "event", "schema"} <= set(outcomes)


@pytest.mark.parametrize("kind", PAYLOADS)
def test_fields_of_any_value(kind: str) -> None:
    """Each field in turn replaced by random items, sound ones mostly: a schema fault or an event, and never a crash."""
    rng = random.Random(f"fields of {kind}")
    sound = PAYLOADS[kind]()
    for key in [*sound, "$type", "prev", "other"]:
        for _ in range(40):
            marker = b"\xfe" * 30
            data = message(kind, sound | {key: marker}).replace(b"\x58\x1e" + marker, make(rng, 0.01))
            check_frame(data)


@pytest.mark.parametrize("seed", range(3))
def test_mutated_slices(seed: int) -> None:
    """A slice or a `CarError`; a slice that is accepted holds only blocks that are in it."""
    rng = random.Random(f"slices {seed}")
    accepted = 0
    for _ in range(2000):
        data = mutate(rng, SLICE)
        found = outcome(parse_car, data, CarError)
        if found is not NOTHING:
            accepted += 1
            assert all(name in data and block in data for name, block in found.blocks.items())
    assert 0 < accepted < 1000


@given(st.binary(max_size=120))
def test_any_bytes_as_frame_and_slice(data: bytes) -> None:
    """Invariant 9: bytes from outside end in a value or in the promised error."""
    check_frame(data)
    check_frame(bytes.fromhex("a261746723636f6d6d6974626f7001") + data)
    outcome(parse_car, data, CarError)
    outcome(parse_car, SLICE + data, CarError)
