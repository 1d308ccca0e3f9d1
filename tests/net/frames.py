"""WebSocket frames and handshakes written out by hand, so that no test depends on the code or library it judges."""

import base64
import hashlib
import struct

import trio
import trio.testing

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes = b"", wide: int = 0
) -> bytes:
    """One frame. `mask` of 4 bytes masks it; `wide` forces the 2 (=126) or 8 (=127) byte length form."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size = len(payload)
    form = wide or (size if size < 126 else 126 if size < 65_536 else 127)
    length = b"" if form < 126 else struct.pack("!H" if form == 126 else "!Q", size)
    if mask:
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([first, (0x80 if mask else 0) | form]) + length + mask + payload


def close_frame(code: int, reason: str = "", *, mask: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason.encode(), mask=mask)


def read_frames(data: bytes) -> list[tuple[int, bytes]]:
    """(opcode, unmasked payload) of the whole frames in `data`; every one must be final."""
    frames = []
    at = 0
    while at + 2 <= len(data):
        opcode, masked, size = data[at] & 0x0F, data[at + 1] & 0x80, data[at + 1] & 0x7F
        assert data[at] & 0xF0 == 0x80
        at += 2
        if size > 125:
            width = 2 if size == 126 else 8
            size = int.from_bytes(data[at : at + width])
            at += width
        mask = data[at : at + 4] if masked else bytes(4)
        at += 4 if masked else 0
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data[at : at + size]))
        at += size
        if at <= len(data):
            frames.append((opcode, payload))
    return frames


async def read_head(stream: trio.abc.ReceiveStream) -> bytes:
    """Up to the blank line; byte by byte, so nothing behind it is taken."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = await stream.receive_some(1)
        assert byte, f"ended inside a head: {head!r}"
        head += byte
    return head


def upgrade_answer(request: bytes, extra: bytes = b"") -> bytes:
    """The 101 head that answers `request`, with `extra` header lines (each ended by CRLF)."""
    key = next(line[18:].strip() for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n" + extra + b"\r\n"
    )


def upgrade_request(extra: bytes = b"", *, host: bytes = b"relay.example", version: bytes = b"13") -> bytes:
    return (
        b"GET /xrpc/com.atproto.sync.subscribeRepos HTTP/1.1\r\nHost: " + host + b"\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: "
        + version
        + b"\r\n"
        + extra
        + b"\r\n"
    )


async def sent_frames(stream: trio.abc.ReceiveStream) -> list[tuple[int, bytes]]:
    """The frames that have reached this end once everybody waits; takes no time."""
    data = bytearray()

    async def read() -> None:
        while part := await stream.receive_some(65_536):
            data.extend(part)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return read_frames(bytes(data))


class TcpOpener:
    """Connects without a question."""

    async def open_stream(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        assert not tls
        return await trio.open_tcp_stream(host, port)


class Opener:
    """Hands out given streams in order, whatever host is asked for; remembers what was asked."""

    def __init__(self, *streams: trio.abc.Stream) -> None:
        self._streams = list(streams)
        self.asked: list[tuple[str, int, bool]] = []

    async def open_stream(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.asked.append((host, port, tls))
        return self._streams.pop(0)
