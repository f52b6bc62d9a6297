"""Sockets that come out of a sandbox are what was asked for, or are closed."""

import os
import socket
from collections.abc import Callable

import pytest

from patchkiln.sandboxes.network.places import Place, adopt, capture_places, open_place


def bound(kind: socket.SocketKind, *, listening: bool) -> socket.socket:
    """Return a socket on a free port of loopback."""
    made = socket.socket(socket.AF_INET, kind)
    made.bind(("127.0.0.1", 0))
    if listening:
        made.listen()
    return made


def connected() -> socket.socket:
    """Return a connection, which listens to nobody."""
    with bound(socket.SOCK_STREAM, listening=True) as door:
        return socket.create_connection(door.getsockname())


def test_a_place_is_opened_and_adopted() -> None:
    """On both sides alike, and never blocking."""
    for kind in ("tcp", "udp"):
        free = bound(socket.SOCK_STREAM, listening=False)
        port = free.getsockname()[1]
        free.close()
        place = Place("tcp" if kind == "tcp" else "udp", "127.0.0.1", port)
        with open_place(place) as inside, adopt(os.dup(inside.fileno()), place) as adopted:
            assert adopted.getsockname() == ("127.0.0.1", port)
            assert not adopted.getblocking()
            with pytest.raises(OSError, match="in use"):
                open_place(place)


OTHERS: dict[str, Callable[[], socket.socket]] = {
    "bound only": lambda: bound(socket.SOCK_STREAM, listening=False),
    "another port": lambda: bound(socket.SOCK_STREAM, listening=True),
    "datagrams": lambda: bound(socket.SOCK_DGRAM, listening=False),
    "a connection": connected,
    "a Unix socket": lambda: socket.socket(socket.AF_UNIX),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_another_socket_is_not_adopted(make: Callable[[], socket.socket]) -> None:
    """A hostile sandbox gains nothing by passing out something else; it is closed."""
    with make() as other:
        port = other.getsockname()[1] if other.family == socket.AF_INET else 1
        place = Place("tcp", "127.0.0.1", port + (make is OTHERS["another port"]))
        descriptor = os.dup(other.fileno())
        with pytest.raises(OSError, match="another socket"):
            adopt(descriptor, place)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_what_is_no_socket_is_not_adopted() -> None:
    """And closed, too."""
    descriptor = os.open("/dev/null", os.O_RDONLY)
    with pytest.raises(OSError, match="non-socket"):
        adopt(descriptor, Place("tcp", "127.0.0.1", 80))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_captured_ports_are_bounded() -> None:
    """Each is a descriptor of the server; the proxy's own and the name server's are none."""
    ports = [place.port for place in capture_places([443, 80, 53, 3128, *range(9000, 9100)])]
    assert ports[:2] == [80, 443]
    assert len(ports) == 48
    assert not {53, 3128} & set(ports)
