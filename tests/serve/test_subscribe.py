"""subscribeRepos over real sockets: what a consumer gets, and what it is refused."""

from pathlib import Path

import pytest
import trio
import trio.testing
from wsproto.events import BytesMessage, Ping, TextMessage

from relay.protocol.frame import parse_frame
from relay.store.settings import LogSettings
from tests.support.fake_consumer import PATH, Closed, Refused, connect, seq_of, upgrade
from tests.support.serving import LOG, Serving, request, serve

HOUR_MS = 3_600_000
SEQ_MAX = 2**53 - 1


async def test_without_a_cursor_only_new_events_arrive(tmp_path: Path) -> None:
    """Checklist 34: nothing that was there at the connect."""
    async with serve(tmp_path) as serving:
        serving.log.append(3)
        async with connect(serving.port) as consumer:
            (new,) = serving.log.append()
            assert await consumer.seqs(1) == [new]


async def test_the_cursor_edges_of_a_window_that_begins_later(tmp_path: Path) -> None:
    """Checklist 35 to 41 over the wire: exclusive, outdated only below floor - 1, future only above the tip."""
    async with serve(tmp_path) as serving:
        floor = _window_with_a_past(serving)
        tip = serving.log.tip
        held = list(range(floor, tip + 1))
        for cursor in (floor - 1, floor, tip - 1, tip):
            async with connect(serving.port, f"?cursor={cursor}") as consumer:
                expected = [seq for seq in held if seq > cursor]
                assert await consumer.seqs(len(expected)) == expected
        async with connect(serving.port, "?cursor=0") as consumer:
            assert await consumer.seqs(len(held)) == held
        for cursor in (1, floor - 2):
            async with connect(serving.port, f"?cursor={cursor}") as consumer:
                (info,) = await consumer.frames(1)
                parsed = parse_frame(info)
                assert parsed.type == "#info"  # type: ignore[union-attr] # anything else fails the test as well
                assert parsed.payload["name"] == "OutdatedCursor"  # type: ignore[union-attr] # as above
                assert set(parsed.payload) <= {"name", "message"}  # type: ignore[union-attr] # as above
                assert await consumer.seqs(len(held)) == held


@pytest.mark.parametrize("beyond", [1, 1000, SEQ_MAX])
async def test_a_future_cursor_gets_its_frame_and_a_close(tmp_path: Path, beyond: int) -> None:
    """Checklist 10, 11, 35: one error frame, close 1008 with its name, nothing else."""
    async with serve(tmp_path) as serving:
        serving.log.append(2)
        async with connect(serving.port, f"?cursor={min(SEQ_MAX, serving.log.tip + beyond)}") as consumer:
            frames, closed = await consumer.rest()
        assert len(frames) == 1
        assert frames[0].startswith(bytes.fromhex("a1626f7020"))
        assert b"\x65error\x6cFutureCursor" in frames[0]
        assert closed == Closed(1008, "FutureCursor")
        await serving.gone()
        assert serving.disconnects() == {"future_cursor": 1}


async def test_the_tip_as_cursor_is_not_future_even_on_an_empty_log(tmp_path: Path) -> None:
    """Checklist 36, 45: what was last issued is known although nothing is held."""
    async with serve(tmp_path) as serving:
        tip = serving.log.tip
        async with connect(serving.port, f"?cursor={tip}") as consumer:
            serving.log.append()
            assert await consumer.seqs(1) == [tip + 1]
        async with connect(serving.port, "?cursor=0") as consumer:
            assert await consumer.seqs(1) == [tip + 1]


async def test_a_cursor_inside_a_raise_waits_for_what_follows_it(tmp_path: Path) -> None:
    """Design section 5: neither outdated nor future."""
    async with serve(tmp_path) as first:
        before = first.log.append(3)[-1]
    raised = LogSettings(sync=False, initial_seq=before + 1000, state_map_bytes=LOG.state_map_bytes)
    async with serve(tmp_path, log=raised) as serving:
        after = before + 1000
        for cursor in (before, before + 1, after - 1):
            async with connect(serving.port, f"?cursor={cursor}") as consumer:
                (seq,) = serving.log.append()
                expected = list(range(after, seq + 1))
                assert await consumer.seqs(len(expected)) == expected
        async with connect(serving.port, f"?cursor={before - 1}") as consumer:
            assert await consumer.seqs(2) == [before, after]
            expected = list(range(after + 1, serving.log.tip + 1))
            assert await consumer.seqs(len(expected)) == expected
            await trio.testing.wait_all_tasks_blocked()
            counts = [shown["events_consumed"] for shown in serving.worker.audience.describe()]
            assert counts[-1] == 2 + len(expected)  # the seqs that were never issued are not counted


@pytest.mark.parametrize(
    "query", ["?cursor=", "?cursor=1&cursor=1", "?cursor=-1", "?cursor=%2B1", "?cursor=1e3", f"?cursor={SEQ_MAX + 1}"]
)
async def test_a_malformed_cursor_is_a_400_before_the_upgrade(tmp_path: Path, query: str) -> None:
    async with serve(tmp_path) as serving:
        with pytest.raises(Refused) as refused:
            async with connect(serving.port, query):
                pass
        assert refused.value.status == 400
        assert b'"InvalidRequest"' in refused.value.body


async def test_a_plain_get_is_told_to_upgrade(tmp_path: Path) -> None:
    async with serve(tmp_path) as serving:
        reply = await serving.get(PATH)
        assert (reply.status, reply.json["error"]) == (426, "UpgradeRequired")
        assert reply.headers["upgrade"] == "websocket"


HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Version": ""}, 426),
        ({"Sec-WebSocket-Version": None}, 426),
        ({"Upgrade": "h2c"}, 426),
        ({"Connection": "keep-alive"}, 426),
        ({"Sec-WebSocket-Key": None}, 400),
        ({"Sec-WebSocket-Key": "x"}, 400),
        ({"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25j"}, 400),  # 15 bytes
        ({"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ"}, 400),
    ],
)
async def test_an_invalid_handshake_gets_an_answer_like_any_other(
    tmp_path: Path, changed: dict[str, str | None], status: int
) -> None:
    """Before the upgrade, so: JSON, CORS, our name, a count under its status; no place and no end of a connection."""
    async with serve(tmp_path) as serving:
        fields = {name: value for name, value in {**HANDSHAKE, **changed}.items() if value is not None}
        reply = await serving.get(PATH, **fields)
        assert (reply.status, set(reply.json)) == (status, {"error", "message"})
        assert reply.json["error"] == {400: "InvalidRequest", 426: "UpgradeRequired"}[status]
        assert reply.headers["access-control-allow-origin"] == "*"
        assert reply.headers["server"].startswith("atproto-relay/")
        assert (reply.headers.get("sec-websocket-version"), reply.headers.get("upgrade")) == (
            ("13", "websocket") if status == 426 else (None, None)
        )
        assert f'relay_http_requests_total{{path="{PATH}",status="{status}"}} 1.0' in serving.metrics.render().decode()
        assert serving.disconnects() == {}


async def test_an_upgrade_within_http_1_0_is_none(tmp_path: Path) -> None:
    """RFC 9110 section 7.8: that version has no upgrades, whatever its header says."""
    async with serve(tmp_path) as serving:
        stream = await trio.open_tcp_stream("127.0.0.1", serving.port)
        async with stream:
            head = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items())
            await stream.send_all(f"GET {PATH} HTTP/1.0\r\n{head}\r\n".encode())
            answer = bytes(await stream.receive_some(65_536))
        assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
        assert b'{"error":"UpgradeRequired"' in answer


@pytest.mark.parametrize(
    "odd",
    [
        b"Host: xn--a.example\r\nConnection: Upgrade\r\n",
        b"Host: a..b\r\nConnection: keep-alive, upgrade\r\n",
        b"Host: x\r\nConnection: Upgrade\r\nConnection: keep-alive\r\n",
        b"Host: x\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: \xff\r\nSec-WebSocket-Extensions: \xff\r\n",
    ],
)
async def test_an_odd_handshake_that_is_in_order_is_answered_with_101(tmp_path: Path, odd: bytes) -> None:
    """Whatever the protocol library makes of it: for what it refuses by itself, it has an answer of its own."""
    async with serve(tmp_path) as serving:
        stream = await trio.open_tcp_stream("127.0.0.1", serving.port)
        async with stream:
            rest = b"Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            await stream.send_all(f"GET {PATH} HTTP/1.1\r\n".encode() + odd + rest + b"\r\n")
            answer = bytes(await stream.receive_some(65_536))
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
        assert b"Server: atproto-relay/" in answer


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
async def test_the_stream_has_one_verb(tmp_path: Path, method: str) -> None:
    async with serve(tmp_path) as serving:
        reply = await request(serving.port, method, PATH)
        assert reply.status == 405
        assert reply.headers["allow"] == "GET"


async def test_one_connection_too_many_from_an_address_is_asked_to_come_later(tmp_path: Path) -> None:
    """Checklist 5; the place is free again once its consumer is gone."""
    async with serve(tmp_path, per_address=2) as serving:
        async with connect(serving.port), connect(serving.port):
            with pytest.raises(Refused) as refused:
                async with connect(serving.port):
                    pass
            assert refused.value.status == 429
            assert int(refused.value.headers["retry-after"]) > 0
            assert refused.value.headers["content-type"] == "application/json"
        await serving.gone()
        async with connect(serving.port):
            pass


async def test_the_limit_of_the_whole_relay_holds(tmp_path: Path) -> None:
    async with serve(tmp_path, max=1) as serving, connect(serving.port):
        with pytest.raises(Refused) as refused:
            async with connect(serving.port):
                pass
        assert refused.value.status == 429


async def test_the_handshake_names_the_relay_and_picks_no_protocol(tmp_path: Path) -> None:
    """Checklist 15, 16: proposals of the client are ignored, not refused."""
    async with serve(tmp_path) as serving:
        stream = await trio.open_tcp_stream("127.0.0.1", serving.port)
        async with stream:
            consumer = await upgrade(stream, subprotocols=["xrpc.v1.json"])
            serving.log.append()
            assert await consumer.seqs(1) == [serving.log.tip]
        reply = await serving.get("/_health")
        assert reply.headers["server"].startswith("atproto-relay/")


async def test_what_a_client_sends_is_ignored_and_pings_are_answered(tmp_path: Path) -> None:
    """Checklist 12, 13."""
    async with serve(tmp_path) as serving, connect(serving.port) as consumer:
        for event in (TextMessage(data="hello"), BytesMessage(data=b"\xff" * 5000), BytesMessage(data=b"")):
            await consumer.send(event)
        await consumer.send(BytesMessage(data=b"half", message_finished=False))
        await consumer.send(Ping(payload=b"are you there"))
        await consumer.send(BytesMessage(data=b"whole", message_finished=True))
        serving.log.append()
        assert await consumer.seqs(1) == [serving.log.tip]
        await consumer.send(Ping(payload=b"again"))
        serving.log.append()
        assert await consumer.seqs(1) == [serving.log.tip]
        assert consumer.pongs[:1] == [b"are you there"]


async def test_every_consumer_gets_the_stored_bytes_live_and_in_replay(tmp_path: Path) -> None:
    """Checklist 42: the very frames that were appended, small ones, and larger than a piece or a read."""
    async with serve(tmp_path, read_bytes=64 << 10) as serving, connect(serving.port) as live:
        for pad_bytes in (0, 10, 1000, 70_000, 300_000, 1):
            serving.log.append(5, pad_bytes=pad_bytes)
        expected = serving.log.after(0)
        assert await live.frames(len(expected)) == expected
        async with connect(serving.port, "?cursor=0") as replay:
            assert await replay.frames(len(expected)) == expected


async def test_a_consumer_that_leaves_is_counted_and_forgotten(tmp_path: Path) -> None:
    async with serve(tmp_path) as serving:
        async with connect(serving.port) as consumer:
            serving.log.append(4)
            await consumer.frames(4)
            assert serving.figure("relay_serve_consumers") == 1
            await consumer.stream.send_all(b"\x88\x82\0\0\0\0\x03\xe8")  # Close 1000
            assert await consumer.receive() == Closed(1000, "")
        await serving.gone()
        assert serving.disconnects() == {"closed": 1}
        assert serving.figure("relay_serve_consumers") == 0
        assert serving.figure("relay_serve_frames_sent_total") == 4
        assert serving.figure("relay_serve_append_to_send_seconds_count") >= 1


def _window_with_a_past(serving: Serving) -> int:
    """A window whose older part was removed by retention. Returns its floor."""
    serving.log.append(5)
    serving.log.append(5, after_ms=2 * HOUR_MS)
    serving.log.append(5, after_ms=80 * HOUR_MS)
    serving.log.append(5, after_ms=HOUR_MS // 2)
    assert serving.store.retain() >= 1
    floor = serving.store.tip().floor
    assert floor > 1000
    return floor


async def test_seq_of_reads_the_seq(tmp_path: Path) -> None:
    """The test client itself: it finds the number that the store gave."""
    async with serve(tmp_path) as serving:
        (seq,) = serving.log.append()
        assert seq_of(serving.log.frames[seq]) == seq
