"""`relay.protocol.frame`: the two items, what becomes of each kind of frame, and what we write."""

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol import frame
from relay.protocol.cbor import Link
from relay.protocol.errors import FramingError
from relay.protocol.frame import ErrorFrame, MessageFrame, UnknownFrame, parse_frame, template
from relay.world.corpus import read_frames
from tests.support.handmade import DID, PAYLOADS, TIME, canonical, cid, commit_payload, identity_payload, link, message
from tests.support.shared import shared_dir

HEADERS = {
    "#commit": "a261746723636f6d6d6974626f7001",
    "#sync": "a26174652373796e63626f7001",
    "#identity": "a261746923" + b"identity".hex() + "626f7001",
    "#account": "a2617468236163636f756e74626f7001",
    "#info": "a261746523696e666f626f7001",
}
SCOPED = ["#commit", "#sync", "#identity", "#account"]
EXTRA: dict[str, Any] = {
    "a": 1,  # sorts before everything
    "pop": "before seq",
    "sez": "after seq",
    "é": True,  # two bytes, so before "ops"
    "nested": {"list": [1, {"deep": None}], "link": link(cid(b"x"))},
    "bytes": b"\x01\x71",
    "like a CID": cid(b"not a link"),
    "like a CIDv0": b"\x12\x20" + bytes(32),
    "x" * 300: -(2**63),
}


def parsed(kind: str, payload: Any, **header: Any) -> MessageFrame:
    found = parse_frame(message(kind, payload, **header))
    assert isinstance(found, MessageFrame)
    return found


def emitted(data: bytes, seq: int, **changes: Any) -> bytes:
    found = parse_frame(data)
    assert isinstance(found, MessageFrame)
    return template(found.type, found.payload, **changes).with_seq(seq)


@pytest.mark.parametrize(("kind", "header"), HEADERS.items())
def test_header_bytes(kind: str, header: str) -> None:
    """Checklist 8: every header is written, and read, as these exact bytes."""
    if kind == "#info":
        written = frame.info_frame("OutdatedCursor")
    else:
        written = template(kind, parsed(kind, PAYLOADS[kind]()).payload).with_seq(1)
    assert written.startswith(bytes.fromhex(header))
    found = parse_frame(bytes.fromhex(header) + canonical(PAYLOADS[kind]()))
    assert isinstance(found, MessageFrame)
    assert found.type == kind


@pytest.mark.parametrize("kind", HEADERS)
def test_payload_values(kind: str) -> None:
    """Links come as `Link`, everything else as it is."""
    payload = PAYLOADS[kind]()
    found = parsed(kind, payload).payload
    assert list(found) == sorted(payload, key=lambda key: (len(key), key))
    for key, value in payload.items():
        if isinstance(value, cbor2.CBORTag):
            assert type(found[key]) is Link
            assert found[key] == value.value[1:]
        elif key != "ops":
            assert found[key] == value
    if kind == "#commit":
        assert found["ops"] == [{**payload["ops"][0], "cid": cid(b"record")}]
        assert type(found["ops"][0]["cid"]) is Link


COMMIT = message("#commit", commit_payload())
PAYLOAD = canonical(commit_payload())
HEADER = canonical({"t": "#commit", "op": 1})
FAULTS = {
    "empty": b"",
    "one byte": b"\xa2",
    "header only": HEADER,
    "payload only": PAYLOAD,
    "unknown header only": canonical({"t": "#new", "op": 1}),
    "three items": COMMIT + b"\xa0",
    "trailing byte": COMMIT + b"\0",
    "three items, unknown type": message("#new", {}) + b"\xa0",
    "payload null": HEADER + b"\xf6",
    "payload an array": HEADER + b"\x80",
    "payload an integer": HEADER + b"\x01",
    "payload text": HEADER + b"\x61a",
    "payload a link": HEADER + canonical(link(cid(b""))),
    "payload of an unknown type an array": canonical({"t": "#new", "op": 1}) + b"\x80",
    "payload of an unknown op null": canonical({"op": 7}) + b"\xf6",
    "payload of an error an array": canonical({"op": -1}) + b"\x80",
    "header an array": b"\x80" + PAYLOAD,
    "header null": b"\xf6" + PAYLOAD,
    "header an integer": b"\x01" + PAYLOAD,
    "no op": canonical({"t": "#commit"}) + PAYLOAD,
    "empty header": b"\xa0" + PAYLOAD,
    "op text": canonical({"t": "#commit", "op": "1"}) + PAYLOAD,
    "op true": canonical({"t": "#commit", "op": True}) + PAYLOAD,
    "op null": canonical({"t": "#commit", "op": None}) + PAYLOAD,
    "op a float": b"\xa2\x61t\x67#commit\x62op\xfb\x3f\xf0\0\0\0\0\0\0" + PAYLOAD,
    "op not shortest": b"\xa2\x61t\x67#commit\x62op\x18\x01" + PAYLOAD,
    "no t": canonical({"op": 1}) + PAYLOAD,
    "t null": canonical({"t": None, "op": 1}) + PAYLOAD,
    "t bytes": canonical({"t": b"#commit", "op": 1}) + PAYLOAD,
    "header in the wrong order": b"\xa2\x62op\x01\x61t\x67#commit" + PAYLOAD,
    "header with a key twice": b"\xa3\x61t\x67#commit\x61t\x67#commit\x62op\x01" + PAYLOAD,
    "indefinite header": b"\xbf\x61t\x67#commit\x62op\x01\xff" + PAYLOAD,
    "not CBOR": b"hello, this is text",
    "all ones": b"\xff" * 100,
    "nested arrays as header": b"\x81" * 10_000 + b"\x80",
    "nested arrays as payload": HEADER + b"\x81" * 10_000 + b"\x80",
    "array of 2**32 as payload": HEADER + b"\x9a\xff\xff\xff\xff",
    "map of 2**64-1 as payload": HEADER + b"\xbb" + b"\xff" * 8,
    "too large": HEADER + canonical({"a": bytes(5_000_000)}),
}


@pytest.mark.parametrize("data", FAULTS.values(), ids=FAULTS.keys())
def test_framing_faults(data: bytes) -> None:
    """Checklist 23 and 27: these end the connection."""
    with pytest.raises(FramingError):
        parse_frame(data)


def test_every_truncation_is_a_framing_fault() -> None:
    for data in (COMMIT, message("#new", {"a": 1}), frame.error_frame("FutureCursor", "x")):
        for end in range(len(data)):
            with pytest.raises(FramingError):
                parse_frame(data[:end])


# One value each that strict DAG-CBOR of atproto does not have, as raw bytes.
BAD_VALUES = ["fb3ff0000000000000", "1bffffffffffffffff", "3bffffffffffffffff", "1801", "9fff", "f7", "c101", "a10000"]
BAD_VALUES += ["d82a58250001711e20" + "00" * 32, "d82a582600" + cid(b"").hex() + "00", "81" * 32 + "80", "62c328"]


@pytest.mark.parametrize("value", BAD_VALUES)
@pytest.mark.parametrize(
    "header", [*HEADERS.values(), canonical({"t": "#new", "op": 1}).hex(), "a1626f7009", "a1626f7020"]
)
def test_bad_cbor_in_an_unknown_key_is_a_framing_fault(header: str, value: str) -> None:
    """Strictness does not depend on whether we know the key or the type."""
    for payload in ("a16178" + value, "a16178a16179" + value, "a1617882" + "5824" + cid(b"").hex() + value):
        with pytest.raises(FramingError):
            parse_frame(bytes.fromhex(header + payload))


@pytest.mark.parametrize("value", BAD_VALUES)
def test_bad_cbor_in_an_unknown_header_key_is_a_framing_fault(value: str) -> None:
    header = b"\xa3\x61t\x67#commit\x62op\x01\x63key" + bytes.fromhex(value)
    with pytest.raises(FramingError):
        parse_frame(header + PAYLOAD)


def test_the_largest_message_is_read() -> None:
    room = 5_000_000 - len(message("#new", {"a": b""})) - 4
    data = message("#new", {"a": bytes(room)})
    assert len(data) == 5_000_000
    assert parse_frame(data) == UnknownFrame(1, "#new")
    with pytest.raises(FramingError, match="larger"):
        parse_frame(message("#new", {"a": bytes(room + 1)}))


@pytest.mark.parametrize("kind", ["#future", "#handle", "#migrate", "#tombstone", "commit", "", "#Commit", "#commit2"])
def test_unknown_types_are_unknown_frames(kind: str) -> None:
    """Checklist 21 and 28: also the removed types, which are never emitted again."""
    assert parse_frame(message(kind, {"seq": 2**64 - 1, "x": cid(b"")})) == UnknownFrame(1, kind)


def test_unknown_ops_are_unknown_frames() -> None:
    """Checklist 20."""
    for op in (2, 0, -2, 24, -25, 2**63 - 1, -(2**63)):
        assert parse_frame(canonical({"op": op}) + b"\xa0") == UnknownFrame(op, None)
        assert parse_frame(canonical({"t": "#commit", "op": op}) + PAYLOAD) == UnknownFrame(op, "#commit")
        assert parse_frame(canonical({"t": 5, "op": op}) + PAYLOAD) == UnknownFrame(op, None)


def test_error_frames() -> None:
    assert parse_frame(frame.error_frame("FutureCursor")) == ErrorFrame("FutureCursor", None)
    assert parse_frame(frame.error_frame("ConsumerTooSlow", "bye")) == ErrorFrame("ConsumerTooSlow", "bye")
    assert parse_frame(canonical({"t": "#x", "op": -1}) + canonical({"error": "E", "more": 1})) == ErrorFrame("E", None)


@pytest.mark.parametrize("payload", [{}, {"error": 5}, {"error": None, "message": 1}])
def test_an_error_frame_without_a_name_still_ends_the_stream(payload: dict[str, Any]) -> None:
    assert parse_frame(canonical({"op": -1}) + canonical(payload)) == ErrorFrame("", None)


def test_unknown_header_keys_are_ignored() -> None:
    """Checklist 22."""
    for extra in ({"x": 1}, {"a": [cid(b"")]}, {"zzz": {"y": "y" * 500}}):
        assert parse_frame(message("#commit", commit_payload(), **extra)) == parse_frame(COMMIT)


def test_error_frame_bytes() -> None:
    """Checklist 10, and the same frame as a real PDS sends it."""
    assert frame.error_frame("FutureCursor").hex() == "a1626f7020a1656572726f726c467574757265437572736f72"
    assert frame.error_frame("FutureCursor", "Cursor in the future.").hex() == (
        "a1626f7020a2656572726f726c467574757265437572736f72676d65737361676575437572736f7220696e20746865206675747572652e"
    )


def test_outdated_cursor_frame_bytes() -> None:
    """Checklist 40: two keys, no seq."""
    assert frame.info_frame("OutdatedCursor").hex() == (
        "a261746523696e666f626f7001a1646e616d656e4f75746461746564437572736f72"
    )
    told = frame.info_frame("OutdatedCursor", "the window starts later")
    assert told == message("#info", {"name": "OutdatedCursor", "message": "the window starts later"})


@pytest.mark.parametrize("name", ["error-future-cursor", "info-outdated-cursor"])
def test_recorded_single_frames(name: str) -> None:
    [data] = read_frames(shared_dir() / "corpus" / f"{name}.frames")
    found = parse_frame(data)
    if isinstance(found, ErrorFrame):
        assert frame.error_frame(found.error, found.message) == data
    else:
        assert isinstance(found, MessageFrame)
        assert frame.info_frame(found.payload["name"], found.payload["message"]) == data


@pytest.mark.parametrize("name", ["bulk-k256", "scenario-k256"])
def test_recorded_frames_come_out_as_they_came_in(name: str) -> None:
    """A real PDS writes canonical frames and normal deprecated fields, so nothing but the seq may change."""
    for data in read_frames(shared_dir() / "corpus" / f"{name}.frames"):
        found = parse_frame(data)
        assert isinstance(found, MessageFrame)
        assert emitted(data, found.payload["seq"]) == data
        other = found.payload | {"seq": 17_324_234_234_233}
        assert parse_frame(emitted(data, 17_324_234_234_233)) == MessageFrame(found.type, other)


@pytest.mark.parametrize("kind", SCOPED)
def test_handmade_frames_come_out_as_they_came_in(kind: str) -> None:
    data = message(kind, PAYLOADS[kind]())
    assert emitted(data, 1234) == data


@pytest.mark.parametrize("kind", SCOPED)
def test_unknown_keys_survive(kind: str) -> None:
    """Checklist 79: byte for byte and in canonical order, alone and all together, bytes that look like CIDs too."""
    for extra in ({}, EXTRA, *({key: value} for key, value in EXTRA.items())):
        data = message(kind, PAYLOADS[kind](**extra))
        assert emitted(data, 1234) == data


def test_unknown_keys_of_ops_survive() -> None:
    op = {
        "action": "create",
        "path": "a.b.c/d",
        "cid": link(cid(b"x")),
        "note": cid(b"not a link"),
        "é": [link(cid(b""))],
    }
    data = message("#commit", commit_payload(ops=[op]))
    assert emitted(data, 1234) == data


@pytest.mark.parametrize(
    "changes",
    [
        {"rebase": True},
        {"tooBig": True},
        {"blobs": [link(cid(b"blob"))]},
        {"blobs": None},
        {"rebase": None, "tooBig": "yes", "blobs": {"a": b"\x01"}},
        {"rebase": 5, "blobs": [cid(b"ambiguous")]},
    ],
)
def test_deprecated_fields_are_normalised(changes: dict[str, Any]) -> None:
    """Checklist 62."""
    assert emitted(message("#commit", commit_payload(**changes)), 1234) == COMMIT


@pytest.mark.parametrize("missing", [["rebase"], ["tooBig"], ["blobs"], ["rebase", "tooBig", "blobs"]])
def test_missing_deprecated_fields_are_added(missing: list[str]) -> None:
    """Checklist 61."""
    payload = {key: value for key, value in commit_payload().items() if key not in missing}
    assert emitted(message("#commit", payload), 1234) == COMMIT


def test_deprecated_fields_are_not_added_elsewhere() -> None:
    payload = identity_payload(rebase=True, blobs=None)
    assert emitted(message("#identity", payload), 1234) == message("#identity", payload)


@pytest.mark.parametrize("kind", SCOPED)
def test_type_is_dropped(kind: str) -> None:
    """Checklist 9."""
    data = message(kind, PAYLOADS[kind](**{"$type": "com.atproto.sync.subscribeRepos" + kind}))
    assert emitted(data, 1234) == message(kind, PAYLOADS[kind]())


@pytest.mark.parametrize("handle", ["", "not a handle", "-a.example.com", "a" * 254, "1.2.3.4", None, 5])
def test_an_invalid_handle_is_left_out(handle: Any) -> None:
    """Design section 5."""
    payload = identity_payload(handle=handle)
    without = {key: value for key, value in payload.items() if key != "handle"}
    assert emitted(message("#identity", payload), 1234) == message("#identity", without)


@pytest.mark.parametrize("handle", ["handle.invalid", "ALICE.Example.com", "xn--ls8h.test"])
def test_a_valid_handle_is_passed_as_it_is(handle: str) -> None:
    """Checklist 74."""
    data = message("#identity", identity_payload(handle=handle))
    assert emitted(data, 1234) == data


def test_overrides_and_without() -> None:
    """How an `#account` gets the effective status, with whatever else the host said left in place."""
    source = message("#account", PAYLOADS["#account"](extra=[1]))
    taken_down = {"active": False, "status": "takendown"}
    assert emitted(source, 7, overrides=taken_down) == message(
        "#account", PAYLOADS["#account"](extra=[1], seq=7, **taken_down)
    )
    active = {"did": DID, "seq": 7, "time": TIME, "active": True, "extra": [1]}
    assert emitted(source, 7, overrides={"active": True}, without=("status",)) == message("#account", active)


def test_template_does_not_change_its_payload() -> None:
    payload = parsed("#commit", commit_payload(rebase=True)).payload
    before = dict(payload)
    template("#commit", payload, overrides={"time": "now"}, without=("since",))
    assert payload == before


def test_account_frame() -> None:
    deleted = frame.account_frame(DID, 1_000, False, "deleted").with_seq(9)
    expected = {"did": DID, "time": "1970-01-01T00:00:01.000Z", "seq": 9, "active": False, "status": "deleted"}
    assert deleted == message("#account", expected)
    del expected["status"]
    assert frame.account_frame(DID, 1_000, True, None).with_seq(9) == message("#account", expected | {"active": True})


SEQS = st.one_of(
    st.integers(1, 2**53 - 1),
    st.integers(1, 70_000),
    st.sampled_from([23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**53 - 1]),
)


@given(kind=st.sampled_from(SCOPED), seq=SEQS, extra=st.booleans())
def test_with_seq_is_the_canonical_encoding(kind: str, seq: int, extra: bool) -> None:
    """The splice equals encoding everything at once, at each width of the number."""
    payload = PAYLOADS[kind](**(EXTRA if extra else {}))
    made = template(kind, parsed(kind, payload).payload)
    assert made.with_seq(seq) == message(kind, payload | {"seq": seq})
    assert len(made.with_seq(seq)) <= made.frame_bytes_max


def test_frame_bytes_max_is_reached() -> None:
    made = template("#identity", identity_payload())
    assert len(made.with_seq(2**53 - 1)) == made.frame_bytes_max


@pytest.mark.parametrize("seq", [-1, 2**53, 2**64])
def test_a_seq_of_ours_stays_below_2_to_the_53(seq: int) -> None:
    with pytest.raises(AssertionError):
        template("#identity", identity_payload()).with_seq(seq)


def test_an_upstream_seq_may_have_64_bits() -> None:
    data = message("#commit", commit_payload(seq=2**64 - 1, x=cid(b"ambiguous")))
    assert emitted(data, 1234) == message("#commit", commit_payload(x=cid(b"ambiguous")))


@pytest.mark.parametrize(
    ("length", "header"),
    [
        (0, "8200"),
        (125, "827d"),
        (126, "827e007e"),
        (65_535, "827effff"),
        (65_536, "827f0000000000010000"),
        (5_000_000, "827f00000000004c4b40"),
    ],
)
def test_message_header(length: int, header: str) -> None:
    """2, 4 or 10 bytes: FIN and binary, no mask, shortest length (RFC 6455 section 5.2)."""
    assert frame.message_header(length).hex() == header


MESSAGES = [bytes(length) for length in (0, 1, 125, 126, 127, 65_535, 65_536, 3)]
STORED = b"".join(frame.message_header(len(one)) + one for one in MESSAGES)


def test_iter_messages() -> None:
    assert list(frame.iter_messages(STORED)) == MESSAGES
    assert list(frame.iter_messages(b"")) == []


def test_skip_messages() -> None:
    """Every number of messages from every border leads to a border, the end included."""
    borders = [0]
    for one in MESSAGES:
        borders.append(borders[-1] + len(frame.message_header(len(one))) + len(one))
    assert borders[-1] == len(STORED)
    for first, offset in enumerate(borders):
        for count in range(len(borders) - first):
            assert frame.skip_messages(STORED, offset, count) == borders[first + count]


@pytest.mark.parametrize(
    "data", [b"\x82", b"\x82\x01", b"\x82\x7e\x00", b"\x82\x7f" + bytes(7), b"\x81\x00", b"\x82\x81\0"]
)
def test_damaged_stored_messages_are_our_own_bug(data: bytes) -> None:
    with pytest.raises(AssertionError):
        list(frame.iter_messages(STORED + data))
    with pytest.raises(AssertionError):
        frame.skip_messages(data, 0, 1)
    with pytest.raises(AssertionError):
        frame.skip_messages(data, len(data), 1)


@given(st.lists(st.sampled_from([0, 1, 125, 126, 300, 65_535, 65_536]), max_size=8), st.integers(0, 200_000))
def test_fitting_messages_are_those_that_a_walk_finds(lengths: list[int], bytes_max: int) -> None:
    """The same border as one message after the other, from the start and from any border on."""
    data = b"".join(frame.message_header(length) + b"x" * length for length in lengths)
    start = frame.skip_messages(data, 0, len(lengths) // 2)
    end, count = start, 0
    while end < len(data) and frame.message_bounds(data, end)[1] - start <= bytes_max:
        end, count = frame.message_bounds(data, end)[1], count + 1
    assert frame.fit_messages(data, start, bytes_max) == (end, count)


@pytest.mark.parametrize("data", [b"\x81\x00", b"\x82\x05abc", b"\x82\x7e\x00", b"\x82\x7f" + b"\xff" * 8])
def test_fitting_what_is_no_message_is_our_own_fault(data: bytes) -> None:
    with pytest.raises(AssertionError):
        frame.fit_messages(data, 0, 100)
