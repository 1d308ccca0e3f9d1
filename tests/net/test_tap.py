"""The tap: same messages, same order, same end as the protocol library alone, whatever the frames and the reads."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Self

import pytest
import trio
import trio_websocket
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.net.errors import ConnectionClosed, MessageTooBig, NetError, TextMessage
from relay.net.subscription_socket import open_subscription
from relay.net.tap import PARTS_MAX, FrameTap
from relay.net.tap_stream import TapStream
from relay.net.watch import WatchedStream
from tests.net.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Opener,
    close_frame,
    frame,
    read_frames,
    upgrade_answer,
    upgrade_request,
)

LIMIT = 70_000  # of the messages below; large enough for all three length forms

_SIZES = st.sampled_from([0, 1, 2, 125, 126, 127, 300, 5_500, 65_535, 65_536, LIMIT])


def _payload(size: int, seed: int = 7) -> bytes:
    return (bytes(range(seed, seed + 97)) * (size // 97 + 1))[:size]


_PAYLOADS = st.builds(_payload, _SIZES, st.integers(0, 100))
_CONTROLS = st.builds(frame, st.sampled_from([PING, PONG]), st.binary(max_size=125))
_WHOLE = st.builds(frame, st.just(BINARY), _PAYLOADS)


@st.composite
def _fragmented(draw: st.DrawFn) -> bytes:
    """One binary message in fragments, control frames in between; its size may exceed the bound."""
    parts = draw(st.lists(_PAYLOADS, min_size=2, max_size=4))
    wire = b""
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        wire += frame(CONTINUATION if number else BINARY, part, fin=is_last)
        if not is_last:
            wire += b"".join(draw(st.lists(_CONTROLS, max_size=2)))
    return wire


# Each ends a connection, or leaves it unfinished.
_ENDS = [
    close_frame(1000, "bye"),
    close_frame(4321),
    frame(CLOSE),
    frame(CLOSE, b"\x03"),
    close_frame(1006),
    frame(TEXT, "tëxt".encode()),
    frame(TEXT, b"\xff\xfe"),
    frame(TEXT, "tëxt".encode()[:2], fin=False) + frame(CONTINUATION, "tëxt".encode()[2:]),
    frame(TEXT, b"\xff", fin=False) + frame(PING, b"x") * 3 + frame(BINARY, b"never seen"),
    frame(BINARY, _payload(LIMIT + 1)),
]
# Frames that the library must see at once and refuse (RFC 6455 section 5.2).
_BROKEN = [
    frame(BINARY, b"masked", mask=b"abcd"),
    frame(BINARY, b"reserved", rsv=1),
    frame(PING, b"reserved", rsv=4),
    frame(PING, b"not final", fin=False),
    frame(PING, _payload(126)),
    frame(BINARY, b"a length in 2 bytes", wide=126),
    frame(BINARY, b"a length in 8 bytes", wide=127),
    b"\x82\x7f" + b"\xff" * 8,
    frame(BINARY, b"whole inside", fin=False) + frame(BINARY, b"a fragmented one"),
    frame(BINARY, b"begun inside", fin=False) + frame(TEXT, b"a fragmented one", fin=False),
    frame(CONTINUATION, b"of nothing"),
    frame(CONTINUATION, b"of nothing", fin=False),
    frame(0x3, b"reserved opcode"),
    frame(0xB, b"reserved opcode"),
]
_UNFINISHED = [frame(BINARY, b"cut off")[:-3], b"\x82", frame(BINARY, _payload(300))[:3], frame(PING, b"cut off")[:-3]]


class _Wire(bytes):
    """Joined units that a failing test can print."""

    units: tuple[bytes, ...]

    def __new__(cls, *units: bytes) -> Self:
        wire = super().__new__(cls, b"".join(units))
        wire.units = units
        return wire

    def __repr__(self) -> str:
        return f"_Wire({', '.join(f'{unit[:30]!r}[{len(unit)}]' for unit in self.units)})"


_UNITS = st.one_of(_WHOLE, _WHOLE, _CONTROLS, _fragmented())
_LAST = st.one_of(st.sampled_from([*_ENDS, *_BROKEN, *_UNFINISHED]), st.binary(max_size=40))
_WIRES = st.builds(
    lambda units, ends: _Wire(*units, *ends),
    st.lists(_UNITS, max_size=8),
    st.one_of(st.just(()), st.tuples(_LAST), st.tuples(_LAST, _UNITS)),
)


class _ScriptedHost(trio.abc.Stream):
    """Answers the upgrade and goes on with `wire`; a read gives one piece, cut at `cuts` from the answer's start."""

    def __init__(self, wire: bytes, cuts: Sequence[int]) -> None:
        self._wire = wire
        self._cuts = cuts
        self._pieces: list[bytes] = []
        self._requested = trio.Event()
        self.sent = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        if not self._requested.is_set():
            everything = upgrade_answer(bytes(data)) + self._wire
            borders = [0, *sorted({cut % (len(everything) + 1) for cut in self._cuts}), len(everything)]
            self._pieces = [everything[a:b] for a, b in pairwise(borders) if a < b]
            self._requested.set()
        else:
            self.sent += data

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await self._requested.wait()
        await trio.lowlevel.checkpoint()
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if max_bytes is not None and len(piece) > max_bytes:
            self._pieces.insert(0, piece[max_bytes:])
            piece = piece[:max_bytes]
        return piece

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def _pongs(sent: bytes) -> list[bytes]:
    return [payload for opcode, payload in read_frames(sent) if opcode == PONG]


async def _run_tapped(wire: bytes, cuts: Sequence[int]) -> tuple[list[bytes], NetError, list[bytes]]:
    host = _ScriptedHost(wire, cuts)
    messages: list[bytes] = []
    async with open_subscription(
        Opener(host), "ws://host.example/", user_agent="test", handshake_seconds=10, message_bytes_max=LIMIT
    ) as subscription:
        while True:
            try:
                batch = await subscription.receive()
            except NetError as error:
                end = error
                break
            assert batch
            messages += batch
        pongs = _pongs(host.sent)
    return messages, end, pongs


async def _run_plain(wire: bytes, cuts: Sequence[int]) -> tuple[list[bytes], NetError, list[bytes]]:
    """The library alone, asked one message at a time; without a queue, as it forgets queued messages at an error."""
    host = _ScriptedHost(wire, cuts)
    messages: list[bytes] = []
    end: NetError | None = None
    async with trio.open_nursery() as nursery:
        connection = await trio_websocket.wrap_client_stream(
            nursery,
            host,  # type: ignore[arg-type] # documented for any trio stream
            "host.example",
            "/",
            message_queue_size=0,
            max_message_size=LIMIT,
            receive_buffer_size=65_536,
        )
        while end is None:
            try:
                message = await connection.get_message()
            except trio_websocket.ConnectionClosed as closed:
                reason = closed.reason or trio_websocket.CloseReason(1006, None)
                # A Close of the host right behind replaces the reason, so what the library sent is asked instead.
                too_big = (CLOSE, (1009).to_bytes(2)) in [(kind, body[:2]) for kind, body in read_frames(host.sent)]
                end = MessageTooBig() if too_big else ConnectionClosed(reason.code, reason.reason or "")
            else:
                if isinstance(message, str):
                    end = TextMessage()
                else:
                    messages.append(message)
        nursery.cancel_scope.cancel()
    return messages, end, _pongs(host.sent)


async def _compare(wire: bytes, cuts: Sequence[int]) -> None:
    messages, end, pongs = await _run_tapped(wire, cuts)
    plain_messages, plain_end, plain_pongs = await _run_plain(wire, cuts)

    assert plain_messages == messages
    assert (type(plain_end), getattr(plain_end, "code", None)) == (type(end), getattr(end, "code", None))
    if isinstance(end, TextMessage | MessageTooBig):  # the plain library may have read on meanwhile
        assert plain_pongs[: len(pongs)] == pongs
    else:
        assert plain_pongs == pongs


@settings(max_examples=250, deadline=None)
@given(wire=_WIRES, cuts=st.lists(st.integers(0, 400_000), max_size=12))
async def test_tapped_client_agrees_with_the_plain_library(wire: bytes, cuts: list[int]) -> None:
    await _compare(wire, cuts)


@pytest.mark.parametrize("end", [*_ENDS, *_BROKEN, *_UNFINISHED], ids=lambda end: end[:20].hex())
async def test_every_kind_of_end_agrees_with_the_plain_library(end: bytes) -> None:
    await _compare(frame(BINARY, b"before") + frame(PING, b"?") + end + frame(BINARY, b"after"), [])


@settings(max_examples=60, deadline=None)
@given(wire=_WIRES)
async def test_byte_by_byte_makes_no_difference(wire: bytes) -> None:
    """Headers, lengths and the border to the handshake are found in whatever pieces they come."""
    wire = _Wire(wire[:500])
    whole = await _run_tapped(wire, [])
    single = await _run_tapped(wire, range(800))

    assert whole[0] == single[0]
    assert repr(whole[1]) == repr(single[1])
    assert whole[2] == single[2]


@settings(max_examples=150, deadline=None)
@given(wire=st.one_of(_WIRES, st.binary(max_size=300)), cuts=st.lists(st.integers(0, 400_000), max_size=12))
async def test_no_byte_is_lost_moved_or_invented(wire: bytes, cuts: list[int]) -> None:
    """Cut messages, framed again, and the library's parts give the wire back; a part is empty only at EOF."""
    host = _ScriptedHost(wire, cuts)
    await host.send_all(upgrade_request())
    tap = TapStream(WatchedStream(host), LIMIT)
    parts: list[bytes] = []
    heads: list[bytes] = []

    async def read_as_the_library() -> None:
        heads.append(bytes(await tap.receive_some(65_536)))
        while part := await tap.receive_some(65_536):
            parts.append(bytes(part))
        assert tap.is_released
        tap.library_ended()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_as_the_library)
        while not tap.is_released and not tap.is_oversize:
            parts.extend([frame(BINARY, message) for message in await tap.pull()])
            if tap.owes_message:
                tap.message_taken()
        tap.release()

    assert heads == [upgrade_answer(upgrade_request())]
    assert b"".join(parts) == wire


@pytest.mark.parametrize("wire", _BROKEN, ids=lambda wire: wire[:20].hex())
def test_broken_frame_is_handed_over_for_good(wire: bytes) -> None:
    """At its header: nothing is waited for, and nothing behind it is cut."""
    tap = FrameTap(LIMIT)
    tap.feed(wire + frame(BINARY, b"after"))
    passed = b""
    while part := tap.pass_on():
        passed += part

    assert tap.ended
    assert not tap.oversize
    assert tap.cut() == []
    assert passed + tap.take(LIMIT) == wire + frame(BINARY, b"after")


def test_oversize_is_known_by_its_header() -> None:
    tap = FrameTap(1_000)
    tap.feed(frame(BINARY, b"first") + frame(BINARY, bytes(1_001))[:4])

    assert tap.cut() == [b"first"]
    assert tap.pass_on() == b""
    assert tap.oversize


def test_fragments_are_added_up() -> None:
    """The bound is on the reassembled message (protocol.md 2.4), a control frame in between does not count."""
    tap = FrameTap(1_000)
    first, ping = frame(BINARY, bytes(600), fin=False), frame(PING, bytes(125))
    tap.feed(first + ping + frame(CONTINUATION, bytes(401))[:4])

    assert (tap.cut(), tap.pass_on(), tap.cut(), tap.pass_on()) == ([], first, [], ping)
    assert tap.pass_on() == b""
    assert tap.oversize


def passed_parts(tap: FrameTap, wire: bytes) -> int:
    """How many parts the library gets of it, fed to the tap over and over."""
    parts = 0
    for _ in range(2 * PARTS_MAX):
        tap.feed(wire)
        while tap.pass_on():
            parts += 1
    return parts


def test_fragments_without_bytes_have_an_end() -> None:
    """They add up to nothing, and the library keeps each."""
    tap = FrameTap(1_000)
    tap.feed(frame(BINARY, fin=False))
    assert passed_parts(tap, frame(CONTINUATION, fin=False) + frame(PING)) == PARTS_MAX
    assert tap.oversize
    assert tap.cut() == []


def test_a_fragment_in_crumbs_has_an_end() -> None:
    """The library keeps each, at many times its bytes."""
    tap = FrameTap(10 * PARTS_MAX)
    tap.feed(frame(BINARY, bytes(5 * PARTS_MAX), fin=False)[:4])
    assert passed_parts(tap, b"xx") == PARTS_MAX
    assert tap.oversize


def test_frames_beside_a_fragmented_message_are_never_too_many() -> None:
    """Pings for years, and short messages in fragments."""
    tap = FrameTap(1_000)
    for wire in (frame(PING), frame(BINARY, b"a", fin=False) + frame(CONTINUATION, b"b")):
        for _ in range(PARTS_MAX + 1):
            tap.feed(wire)
            while tap.pass_on():
                pass
    assert not tap.ended


def test_nothing_overtakes_a_fragmented_message() -> None:
    tap = FrameTap(1_000)
    start, end, later = frame(BINARY, b"a", fin=False), frame(CONTINUATION, b"b"), frame(BINARY, b"later")
    tap.feed(start + end + later)

    assert tap.cut() == []
    assert (tap.pass_on(), tap.message_passed) == (start, False)
    assert tap.cut() == []
    assert (tap.pass_on(), tap.message_passed) == (end, True)
    assert tap.cut() == [b"later"]


async def test_reader_is_held_until_its_message_is_taken() -> None:
    """While the library owes a message, pulling again gives nothing, even with whole frames in the buffer."""
    host = _ScriptedHost(frame(TEXT, b"x") + frame(BINARY, b"later"), [])
    await host.send_all(upgrade_request())
    tap = TapStream(WatchedStream(host), LIMIT)
    async with trio.open_nursery() as nursery:

        async def read_as_the_library() -> None:
            while await tap.receive_some(65_536):
                pass

        nursery.start_soon(read_as_the_library)
        assert await tap.pull() == []
        assert await tap.pull() == []
        assert tap.owes_message
        tap.message_taken()
        assert await tap.pull() == [b"later"]
        nursery.cancel_scope.cancel()
