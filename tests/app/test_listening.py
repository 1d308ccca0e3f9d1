"""Sockets bound by the supervisor: one port for many, both families, and never beside another relay."""

import errno
import socket
from collections import Counter
from contextlib import ExitStack

import pytest

from relay.app.config import ConfigError
from relay.app.kinds import Address
from relay.app.listening import bind, bind_anew, bound_address

LOOPBACK = Address("127.0.0.1", 0)


def test_all_sockets_of_an_address_share_the_port_the_first_one_got() -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(made) for made in bind("listen.api", LOOPBACK, 3)]

        assert len({bound_address(made) for made in sockets}) == 1
        assert bound_address(sockets[0]).port != 0


def test_connections_are_spread_over_the_sockets() -> None:
    """64 connections, 2 sockets: each gets some (the chance that one gets none is 2 in 2**64)."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(made) for made in bind("listen.api", LOOPBACK, 2)]
        for _ in range(64):
            stack.enter_context(socket.create_connection(bound_address(sockets[0])))
        taken: Counter[int] = Counter()
        for number, made in enumerate(sockets):
            made.setblocking(False)
            while (connection := accepted(made)) is not None:
                stack.enter_context(connection)
                taken[number] += 1

    assert set(taken) == {0, 1}
    assert taken.total() == 64


def accepted(listening_socket: socket.socket) -> socket.socket | None:
    try:
        return listening_socket.accept()[0]
    except BlockingIOError:
        return None


def test_a_socket_bound_anew_takes_no_connections_until_somebody_listens() -> None:
    with ExitStack() as stack:
        stays, goes = (stack.enter_context(made) for made in bind("listen.api", LOOPBACK, 2))
        anew = stack.enter_context(bind_anew(goes))
        for _ in range(32):
            stack.enter_context(socket.create_connection(bound_address(stays)))

        assert goes.fileno() == -1
        assert bound_address(anew) == bound_address(stays)
        stays.setblocking(False)
        for _ in range(32):
            connection = accepted(stays)
            assert connection is not None
            stack.enter_context(connection)


def test_an_address_in_use_is_a_configuration_problem_even_when_the_other_shares_ports() -> None:
    with ExitStack() as stack:
        (made,) = bind("listen.api", LOOPBACK, 1)
        stack.enter_context(made)

        with pytest.raises(ConfigError, match=r"listen.metrics: cannot listen on 127.0.0.1:.*: Address already in use"):
            bind("listen.metrics", bound_address(made), 1)


def test_an_address_of_another_machine_is_a_configuration_problem() -> None:
    with pytest.raises(ConfigError, match=r"listen.api: cannot listen on 192.0.2.1:0"):
        bind("listen.api", Address("192.0.2.1", 0), 1)


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
def test_the_default_address_takes_ipv4_too() -> None:
    with ExitStack() as stack:
        (made,) = bind("listen.api", Address("::", 0), 1)
        stack.enter_context(made)

        stack.enter_context(socket.create_connection(("127.0.0.1", bound_address(made).port)))


def test_without_ipv6_the_default_address_is_ipv4_alone() -> None:
    """A kernel without IPv6 refuses to make the socket."""

    def without_ipv6(family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return socket.socket(family, kind)

    with ExitStack() as stack:
        (made,) = bind("listen.api", Address("::", 0), 1, without_ipv6)
        stack.enter_context(made)
        assert bound_address(made).host == "0.0.0.0"
