"""Outbound connections: resolve, judge, connect, TLS. Nothing in the relay connects to a stranger around this.

Owns the policy at connect time: the text of the name is judged before it is resolved, and each address before a socket
connects to that very address, so neither a second lookup nor a name that answers with several addresses gets past
(protocol.md sections 11.4 and 23, checklist 263). Owns no retries and no overall deadline: each step has its own bound
here, the whole is the caller's (`trio.fail_after`).
"""

import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

import trio

from relay.net.errors import DialFailed, DialRefused, LookupFailed, NetTimeout, TlsFailed
from relay.net.guard import check_name, is_private_address, is_public_address

Resolve: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]

_LOOKUPS_MAX = 16
_LOOKUP_SECONDS = 5.0
_ADDRESSES_MAX = 8
_CONNECT_SECONDS = 3.0
_TLS_SECONDS = 5.0


class StreamOpener(Protocol):
    """What clients need from a dialer; a simulated network offers the same on memory streams."""

    async def open_stream(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        """A connected stream to `host`, a name or an address without brackets. Raises `NetError` leaves."""
        ...


class NameLookup:
    """`getaddrinfo` in threads, at most `lookups_max` at a time; one given up still holds its place until it ends."""

    def __init__(self, lookups_max: int = _LOOKUPS_MAX) -> None:
        self._lookups = trio.CapacityLimiter(lookups_max)

    async def __call__(self, host: str) -> Sequence[str]:
        """The addresses of a name in the system's order of preference. Raises `LookupFailed`."""
        try:
            found = await trio.to_thread.run_sync(_lookup, host, abandon_on_cancel=True, limiter=self._lookups)
        except (OSError, UnicodeError) as error:
            raise LookupFailed(f"{host}: {error}") from error
        return tuple(dict.fromkeys(found))


def _lookup(host: str) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def client_tls() -> ssl.SSLContext:
    """A verifying client context of the system's roots that speaks HTTP/1.1 only (ALPN)."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialer:
    """Opens streams under one policy.

    Public policy: DNS names only, public addresses only, TLS only, ports 443 and 80 only. `allow_private` adds
    private addresses, on any port, and names of private networks; `allow_insecure` adds plain connections.
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        allow_insecure: bool = False,
        tls: ssl.SSLContext | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        self._allow_private = allow_private
        self._allow_insecure = allow_insecure
        self._tls = tls or client_tls()
        self._resolve = resolve or NameLookup()

    async def open_stream(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        """Connect to the first address of `host` that policy allows and that answers.

        Raises `HostRefused` or `DialRefused` (policy, nothing was sent), `LookupFailed`, `DialFailed`, `TlsFailed`,
        `NetTimeout`.
        """
        check_name(host, allow_private=self._allow_private)
        if not tls and not self._allow_insecure:
            raise DialRefused(f"{host}: not over TLS")
        with trio.move_on_after(_LOOKUP_SECONDS) as scope:
            addresses = await self._resolve(host)
        if scope.cancelled_caught:
            raise NetTimeout(f"{host}: lookup")
        allowed = [address for address in addresses if self._is_allowed(address, port)][:_ADDRESSES_MAX]
        if not allowed:
            raise DialRefused(f"{host}: no address, or port {port}, that may be contacted")
        stream = await _connect_first(host, allowed, port)
        return await self._secure(stream, host) if tls else stream

    def _is_allowed(self, address: str, port: int) -> bool:
        if is_public_address(address):
            return port in {443, 80}
        return self._allow_private and is_private_address(address)

    async def _secure(self, stream: trio.SocketStream, host: str) -> trio.abc.Stream:
        # https_compatible: HTTP and WebSocket peers close without a TLS goodbye, and both have framing of their own.
        try:
            secured = trio.SSLStream(stream, self._tls, server_hostname=host, https_compatible=True)
            with trio.fail_after(_TLS_SECONDS):
                await secured.do_handshake()
        except trio.TooSlowError as error:
            await trio.aclose_forcefully(stream)
            raise NetTimeout(f"{host}: TLS handshake") from error
        except (trio.BrokenResourceError, ssl.SSLError, ValueError) as error:
            await trio.aclose_forcefully(stream)
            raise TlsFailed(f"{host}: {error.__cause__ or error}") from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secured


async def _connect_first(host: str, addresses: Sequence[str], port: int) -> trio.SocketStream:
    # One after the other: half the point of racing them is interactive speed, which a crawler does not need.
    failures: list[tuple[str, str]] = []
    timeouts = 0
    for address in addresses:
        try:
            with trio.fail_after(_CONNECT_SECONDS):
                return await _connect(address, port)
        except trio.TooSlowError:
            timeouts += 1
            failures.append((address, "no answer"))
        except OSError as error:  # trio's own text names the address once more
            failures.append((address, os.strerror(error.errno) if error.errno else str(error)))
    message = "; ".join(why if address == host else f"{address}: {why}" for address, why in failures)
    message = f"{host}: {message}"
    raise NetTimeout(message) if timeouts == len(addresses) else DialFailed(message)


async def _connect(address: str, port: int) -> trio.SocketStream:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        await sock.connect((address, port))  # a numeric address: no second lookup happens here
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)
