"""The relay's listening sockets: bound by the supervisor, one for each serve worker, handed over by inheritance.

Owns binding. SO_REUSEPORT lets the kernel spread connections evenly over the sockets of one address (one shared socket
does not: design section 1). It would also let a second relay in unnoticed, so the address is first claimed without it.
"""

import errno
import socket
from collections.abc import Callable
from pathlib import Path

import trio

from relay.app.config import ConfigError
from relay.app.kinds import Address

BACKLOG = 1_024
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_EVERY_IPV6 = "::"
_EVERY_IPV4 = "0.0.0.0"  # noqa: S104 -- the documented default of listen.api on machines without IPv6

MakeSocket = Callable[[socket.AddressFamily, socket.SocketKind], socket.socket]


def bind(key: str, address: Address, count: int, make: MakeSocket = socket.socket) -> list[socket.socket]:
    """`count` listening sockets of `address`, all on one port. `[::]` takes IPv4 too, and is IPv4 alone without IPv6.

    Raises ConfigError, naming the configuration `key`, when the address is in use or not this machine's.
    """
    try:
        family, place = _resolve(address)
        with _socket(family, make, reuse_port=False) as claim:
            claim.bind(place)
            if not address.port:
                place = (place[0], claim.getsockname()[1])
        return _listen(family, place, count, make)
    except OSError as error:
        if address.host == _EVERY_IPV6 and error.errno in _NO_IPV6:
            return bind(key, Address(_EVERY_IPV4, address.port), count, make)
        raise ConfigError(f"{key}: cannot listen on {address}: {error.strerror or error}") from error


def bind_anew(bound: socket.socket) -> socket.socket:
    """A socket that takes the place of `bound`, which is closed, and takes no connections until `listen`.

    For one whose worker died: the kernel would go on filling its queue, and nobody would answer. Raises OSError.
    """
    made = _socket(bound.family, socket.socket, reuse_port=True)
    try:
        made.bind(bound.getsockname())
    except OSError:
        made.close()
        raise
    bound.close()
    return made


def bound_address(listening: socket.socket) -> Address:
    """Where a socket listens in fact; differs from the configuration for port 0."""
    host, port = listening.getsockname()[:2]
    return Address(host, port)


def bind_control(path: Path) -> trio.SocketListener:
    """A listening Unix socket that only this user may open; replaces what a process that died left there."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(str(path))
    path.chmod(0o600)
    return listen(made)


def listen(bound: socket.socket) -> trio.SocketListener:
    """Take connections on a bound socket; one that another process listens on as well stays as it is."""
    bound.listen(BACKLOG)
    return inherited(bound)


def inherited(listening: socket.socket) -> trio.SocketListener:
    """A socket that listens already, as trio knows it."""
    return trio.SocketListener(trio.socket.from_stdlib_socket(listening))


def _resolve(address: Address) -> tuple[socket.AddressFamily, tuple[str, int]]:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, place = found[0]
    return family, (str(place[0]), int(place[1]))


def _socket(family: socket.AddressFamily, make: MakeSocket, *, reuse_port: bool) -> socket.socket:
    made = make(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return made


def _listen(family: socket.AddressFamily, place: tuple[str, int], count: int, make: MakeSocket) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for _ in range(count):
            sockets.append(_socket(family, make, reuse_port=True))
            sockets[-1].bind(place)
            sockets[-1].listen(BACKLOG)
    except OSError:
        for made in sockets:
            made.close()
        raise
    return sockets
