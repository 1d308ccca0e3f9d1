"""Looking documents up over real sockets: where they are asked for, and whose fault it is when there is none."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import pytest
import trio

from relay.identity.fetch import DOCUMENT_BYTES_MAX, DidFault, DidGone, DirectoryFault, DocumentSource, LookupFault
from relay.identity.settings import IdentitySettings
from relay.net.connection import Site
from relay.net.dial import Dialer
from relay.net.exchange import Request, Response
from relay.net.http import HttpClient
from relay.world.accounts import did_document
from relay.world.directory import Directory
from relay.world.loopback import serve_on_loopback
from relay.world.plc import PlcFault, PlcServer
from tests.support.scene import Scene, public_key

SCENE = Scene()
PDS = "https://pds.example.com"
STRANGER = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
OTHER_DID = {**did_document(SCENE.account, PDS), "id": STRANGER}


@asynccontextmanager
async def source(plc_url: str, *, private: bool = True, seconds: float = 5.0) -> AsyncIterator[DocumentSource]:
    """Asks the directory at `plc_url`, and with `private` also hosts of this machine."""
    client = HttpClient(Dialer(allow_private=private, allow_insecure=True), "test")
    settings = replace(IdentitySettings(), plc_url=plc_url, lookup_seconds=seconds)
    yield DocumentSource(client, settings, allow_private=private)
    await client.aclose()


async def directory(nursery: trio.Nursery) -> PlcServer:
    known = Directory()
    known.put(SCENE.did, did_document(SCENE.account, PDS))
    server = PlcServer(known)
    await nursery.start(server.serve)
    return server


class WebHost:
    """A host that answers as told, and remembers what it was asked for. `did` is its did:web."""

    def __init__(self) -> None:
        self.answer = Response(200, (), msgspec.json.encode(did_document(SCENE.account, PDS)))
        self.delay_seconds = 0.0
        self.asked: list[str] = []
        self.port = 0

    async def open(self, nursery: trio.Nursery) -> "WebHost":
        self.port = await nursery.start(serve_on_loopback, Site(self._answer))
        return self

    @property
    def did(self) -> str:
        return f"did:web:localhost%3A{self.port}"

    async def _answer(self, request: Request) -> Response:
        self.asked.append(request.path)
        await trio.sleep(self.delay_seconds)
        return self.answer


async def fault_of(asks: DocumentSource, did: str) -> type[LookupFault]:
    with pytest.raises(LookupFault) as raised:
        await asks.fetch(did)
    return raised.type


async def test_plc_is_asked_at_the_configured_directory(nursery: trio.Nursery) -> None:
    """Checklist 143: GET directory/did, whatever slash the address ends with."""
    server = await directory(nursery)
    for url in (server.url, server.url + "/"):
        async with source(url) as asks:
            document = await asks.fetch(SCENE.did)
            assert (document.key, document.pds) == (public_key(SCENE.account), PDS)
    assert server.lookups == {SCENE.did: 2}
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", [404, 410])
async def test_not_registered_and_tombstoned_are_both_gone(status: int, nursery: trio.Nursery) -> None:
    """Checklist 144, 181."""
    server = await directory(nursery)
    server.tombstone_status = status
    async with source(server.url) as asks:
        assert await fault_of(asks, STRANGER) is DidGone
        server.directory.tombstone(SCENE.did)
        assert await fault_of(asks, SCENE.did) is DidGone
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("fault", ["down", "slow", "error", "throttled"])
async def test_what_the_directory_does_wrong_is_not_the_did_s_fault(fault: PlcFault, nursery: trio.Nursery) -> None:
    """Checklist 139, 157: timeouts, 5xx and 429 say nothing about the DID."""
    server = await directory(nursery)
    server.fault = fault
    async with source(server.url, seconds=0.2) as asks:
        assert await fault_of(asks, SCENE.did) is DirectoryFault
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "answer",
    [
        Response(404),
        Response(404, (), b"<html>Cannot GET /plc/did:plc:a</html>"),
        Response(404, (), b'"message"'),
        Response(404, (), b'{"error": "NotFound"}'),
        Response(404, (), b'{"message": null}'),
        Response(404, (), b"[" * 10_000),
        Response(410, (), b"\xff"),
        Response(400, (), b'{"message": "Bad Request"}'),
        Response(403, (), b"<html>"),
        Response(302, (("Location", "http://127.0.0.1:1/"),)),
        Response(200, (), b"<html>"),
        Response(200, (), b""),
    ],
)
async def test_what_stands_in_the_directory_s_place_ends_no_did(answer: Response, nursery: trio.Nursery) -> None:
    """Checklist 139, 144: a gateway or a mistyped address answers so for every account."""
    host = await WebHost().open(nursery)
    host.answer = answer
    async with source(f"http://localhost:{host.port}") as asks:
        assert await fault_of(asks, SCENE.did) is DirectoryFault
    nursery.cancel_scope.cancel()


async def test_a_document_of_another_did_is_refused(nursery: trio.Nursery) -> None:
    """Checklist 149."""
    server = await directory(nursery)
    server.directory.put(SCENE.did, OTHER_DID)
    async with source(server.url) as asks:
        assert await fault_of(asks, SCENE.did) is DidFault
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "did",
    [
        "did:web:a.example.com:b",  # paths (146)
        "did:web:localhost%3A80:b",
        "did:web:pds.example.com%3A8443",  # ports (147)
        "did:web:pds.local",  # reserved names (148)
        "did:web:pds.internal",
        "did:web:127.0.0.1",
        "did:plc:aaaaaaaaaaaaaaaaaaaaaaa",  # 23 characters (142)
        "did:plc:1aaaaaaaaaaaaaaaaaaaaaaa",
        "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
    ],
)
async def test_what_no_document_is_asked_for(did: str) -> None:
    """Checklist 142, 146 to 148: nobody is connected to."""
    async with source("http://127.0.0.1:1") as asks:
        with pytest.raises(DidFault, match="unsupported"):
            await asks.fetch(did)


async def test_a_web_did_is_read_at_its_one_place(nursery: trio.Nursery) -> None:
    """Checklist 146, 147: a port is for localhost, and only where private networks are served."""
    host = await WebHost().open(nursery)
    host.answer = Response(200, (), msgspec.json.encode({**did_document(SCENE.account, PDS), "id": host.did}))
    async with source("http://127.0.0.1:1") as asks:
        assert (await asks.fetch(host.did)).pds == PDS
    assert host.asked == ["/.well-known/did.json"]
    async with source("http://127.0.0.1:1", private=False) as asks:
        assert await fault_of(asks, host.did) is DidFault
    assert len(host.asked) == 1
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Response(410), DidGone),
        (Response(404), DidFault),  # of a web host that is no end of the account
        (Response(500), DidFault),
        (Response(429), DidFault),
        (Response(302, (("Location", "http://127.0.0.1:1/did.json"),)), DidFault),
        (Response(200, (), b"<html>"), DidFault),
        (Response(200, (), b" " * (DOCUMENT_BYTES_MAX + 1)), DidFault),
    ],
)
async def test_a_web_host_s_mishaps_are_its_did_s_fault(
    answer: Response, expected: type[LookupFault], nursery: trio.Nursery
) -> None:
    """Checklist 157: no redirect is followed, no body without bounds is read."""
    host = await WebHost().open(nursery)
    host.answer = answer
    async with source("http://127.0.0.1:1") as asks:
        assert await fault_of(asks, host.did) is expected
    assert host.asked == ["/.well-known/did.json"]
    nursery.cancel_scope.cancel()


async def test_a_web_host_that_does_not_answer_is_left(nursery: trio.Nursery) -> None:
    """Checklist 157."""
    host = await WebHost().open(nursery)
    host.delay_seconds = 60
    async with source("http://127.0.0.1:1", seconds=0.1) as asks:
        assert await fault_of(asks, host.did) is DidFault
    nursery.cancel_scope.cancel()


async def test_a_public_relay_dials_no_private_address(nursery: trio.Nursery) -> None:
    """Checklist 157: the directory itself may be configured anywhere, but is dialled like any other."""
    server = await directory(nursery)
    async with source(server.url, private=False) as asks:
        assert await fault_of(asks, SCENE.did) is DirectoryFault
    assert server.lookups == {}
    nursery.cancel_scope.cancel()
