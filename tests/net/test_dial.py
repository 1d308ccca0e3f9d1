"""The dialer on real loopback sockets: what it connects to, what it refuses before sending a byte, and its bounds."""

import errno
import socket
import ssl
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from relay.net.dial import Dialer, NameLookup
from relay.net.errors import DialFailed, DialRefused, HostRefused, LookupFailed, NetTimeout, TlsFailed
from tests.net.certificates import Authority
from tests.net.loopback import listen


class Names:
    """A resolver with fixed answers that remembers what it was asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.addresses


class Server:
    """A loopback listener that counts connections and says hello."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.context = context
        self.accepted = 0
        self.server_names: list[str | None] = []
        self.protocols: list[str | None] = []
        self.port = 0
        if context is not None:
            context.sni_callback = lambda _sock, name, _context: self.server_names.append(name)

    async def start(self, nursery: trio.Nursery) -> None:
        self.port = await listen(nursery, self.hello)

    async def hello(self, stream: trio.SocketStream) -> None:
        self.accepted += 1
        try:
            if self.context is None:
                await stream.send_all(b"hello")
                return
            secured = trio.SSLStream(stream, self.context, server_side=True, https_compatible=True)
            await secured.send_all(b"hello")
            self.protocols.append(secured.selected_alpn_protocol())
        except trio.BrokenResourceError:
            return  # a client that did not like the certificate


@pytest.fixture
async def server(nursery: trio.Nursery) -> Server:
    server = Server()
    await server.start(nursery)
    return server


async def read_all(stream: trio.abc.Stream) -> bytes:
    async with stream:
        return b"".join([bytes(data) async for data in stream])


async def test_a_name_is_resolved_off_the_loop_and_connected(server: Server) -> None:
    dialer = Dialer(allow_private=True, allow_insecure=True)

    assert await read_all(await dialer.open_stream("localhost", server.port, tls=False)) == b"hello"


async def test_public_policy_never_connects_to_a_private_address_whatever_the_name_says(server: Server) -> None:
    """The name is fine, its address is not (DNS rebinding); nothing reaches the listener."""
    for addresses in [("127.0.0.1",), ("::1", "127.0.0.1"), ("::ffff:127.0.0.1",), ("10.0.0.1", "169.254.169.254"), ()]:
        names = Names(*addresses)
        with pytest.raises(DialRefused):
            await Dialer(allow_insecure=True, resolve=names).open_stream("pds.example.com", server.port, tls=False)
        assert names.asked == ["pds.example.com"]

    assert server.accepted == 0


async def test_a_private_network_has_no_link_local_hosts() -> None:
    """A name that resolves to the metadata service of a cloud, in any of its disguises."""
    names = Names("169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fe80::1%lo")
    with pytest.raises(DialRefused):
        await Dialer(allow_private=True, allow_insecure=True, resolve=names).open_stream("pds.internal", 80, tls=False)


async def test_addresses_that_policy_refuses_are_left_out_of_several(server: Server) -> None:
    """1.1.1.1 is public, so it may be contacted on 443 and 80 only; the loopback address beside it may."""
    names = Names("1.1.1.1", "127.0.0.1")
    dialer = Dialer(allow_private=True, allow_insecure=True, resolve=names)

    assert await read_all(await dialer.open_stream("pds.example.com", server.port, tls=False)) == b"hello"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "localhost", "1.1.1.1", "pds.internal", "127.1", "", "a..b", "x" * 300]
)
async def test_names_that_may_not_be_contacted_are_not_even_resolved(host: str) -> None:
    names = Names("1.1.1.1")
    with pytest.raises(HostRefused):
        await Dialer(resolve=names).open_stream(host, 443, tls=True)

    assert names.asked == []


async def test_without_tls_needs_permission() -> None:
    names = Names("1.1.1.1")
    with pytest.raises(DialRefused):
        await Dialer(resolve=names).open_stream("pds.example.com", 80, tls=False)

    assert names.asked == []


async def test_public_hosts_have_no_port_of_their_own() -> None:
    for private in (False, True):
        with pytest.raises(DialRefused):
            await Dialer(allow_private=private, resolve=Names("1.1.1.1")).open_stream("pds.example.com", 2583, tls=True)


async def test_the_next_address_is_tried_when_one_refuses(server: Server) -> None:
    dialer = Dialer(allow_private=True, allow_insecure=True, resolve=Names("127.0.0.2", "127.0.0.1"))

    assert await read_all(await dialer.open_stream("pds.example.com", server.port, tls=False)) == b"hello"


async def test_no_address_that_answers_is_a_dial_failure() -> None:
    """Its message names host and addresses once each: it goes to the host's row and to the public."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        dialer = Dialer(allow_private=True, allow_insecure=True, resolve=Names("127.0.0.1", "127.0.0.2"))
        with pytest.raises(DialFailed) as failed:
            await dialer.open_stream("pds.example.com", port, tls=False)
        addresses = "127.0.0.1: Connection refused; 127.0.0.2: Connection refused"
        assert str(failed.value) == f"pds.example.com: {addresses}"
        dialer = Dialer(allow_private=True, allow_insecure=True, resolve=Names("127.0.0.1"))
        with pytest.raises(DialFailed) as failed:
            await dialer.open_stream("127.0.0.1", port, tls=False)
        assert str(failed.value) == "127.0.0.1: Connection refused"


async def test_an_address_that_is_silent_costs_its_own_time_only(autojump_clock: object) -> None:
    """A listener whose queue is full answers nothing: the connect is given up after its 3 s."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                assert filler.connect_ex(("127.0.0.1", port)) in {0, errno.EINPROGRESS}
            dialer = Dialer(allow_private=True, allow_insecure=True, resolve=Names("127.0.0.1"))
            started = trio.current_time()
            with pytest.raises(NetTimeout):
                await dialer.open_stream("pds.example.com", port, tls=False)
            assert trio.current_time() - started == pytest.approx(3.0)
        finally:
            for filler in fillers:
                filler.close()


async def test_a_lookup_that_hangs_is_given_up(autojump_clock: object) -> None:
    async def resolve(host: str) -> Sequence[str]:
        await trio.sleep_forever()
        raise AssertionError

    started = trio.current_time()
    with pytest.raises(NetTimeout):
        await Dialer(resolve=resolve).open_stream("pds.example.com", 443, tls=True)
    assert trio.current_time() - started == pytest.approx(5.0)


async def test_a_name_that_does_not_exist_is_a_lookup_failure() -> None:
    with pytest.raises(LookupFailed):
        await NameLookup()("name-that-does-not-exist.invalid")
    with pytest.raises(LookupFailed):
        await NameLookup()("x" * 64 + ".example.com")


async def test_lookups_given_up_keep_their_place_until_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound holds for threads, not for callers: a slow name server cannot collect threads without end."""
    release = threading.Event()
    started = trio.Event()
    asked: list[str] = []

    def hang(host: str, *_args: object, **_options: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        asked.append(host)
        trio.from_thread.run_sync(started.set)
        release.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    resolver = NameLookup(lookups_max=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resolver, "a.example.com")
        await started.wait()
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resolver, "b.example.com")
        await trio.testing.wait_all_tasks_blocked()
        assert resolver._lookups.statistics().tasks_waiting == 1
        release.set()

    assert asked == ["a.example.com", "b.example.com"]


async def test_tls_sends_the_name_verifies_it_and_speaks_http_1(nursery: trio.Nursery, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = Server(authority.server("pds.example.com"))
    await server.start(nursery)
    dialer = Dialer(allow_private=True, tls=authority.client(), resolve=Names("127.0.0.1"))

    assert await read_all(await dialer.open_stream("pds.example.com", server.port, tls=True)) == b"hello"
    assert server.server_names == ["pds.example.com"]
    assert server.protocols == ["http/1.1"]


async def test_tls_of_another_name_or_authority_fails(nursery: trio.Nursery, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server = Server(authority.server("other.example.com"))
    await server.start(nursery)
    names = Names("127.0.0.1")
    with pytest.raises(TlsFailed, match=r"pds\.example\.com"):
        await Dialer(allow_private=True, tls=authority.client(), resolve=names).open_stream(
            "pds.example.com", server.port, tls=True
        )
    with pytest.raises(TlsFailed):
        await Dialer(allow_private=True, resolve=names).open_stream("other.example.com", server.port, tls=True)
    assert server.protocols == []


async def test_tls_to_a_server_that_speaks_something_else_fails(server: Server) -> None:
    with pytest.raises(TlsFailed):
        await Dialer(allow_private=True).open_stream("localhost", server.port, tls=True)


async def test_a_tls_handshake_that_hangs_is_given_up(nursery: trio.Nursery, autojump_clock: object) -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    port = await listen(nursery, silent)
    started = trio.current_time()
    with pytest.raises(NetTimeout):
        await Dialer(allow_private=True, resolve=Names("127.0.0.1")).open_stream("pds.example.com", port, tls=True)

    assert trio.current_time() - started == pytest.approx(5.0)


async def test_a_tls_handshake_that_is_cancelled_closes_its_socket(nursery: trio.Nursery) -> None:
    """A peer that takes our hello and says nothing."""
    greeted, closed = trio.Event(), trio.Event()

    async def silent(stream: trio.SocketStream) -> None:
        async for _ in stream:
            greeted.set()
        closed.set()

    port = await listen(nursery, silent)
    async with trio.open_nursery() as dialling:
        dialling.start_soon(partial(Dialer(allow_private=True).open_stream, "localhost", port, tls=True))
        await greeted.wait()
        dialling.cancel_scope.cancel()
    await closed.wait()
