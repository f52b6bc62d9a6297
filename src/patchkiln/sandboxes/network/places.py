"""The sockets that stand for the network inside a sandbox: which ones, and how they are opened.

The first process of a sandbox imports this, so it imports nothing that is slow to.
"""

import os
import socket
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

PROXY_PORT: Final = 3128
NAME_PORT: Final = 53
LOOPBACK: Final = "127.0.0.1"
_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - every address of the sandbox's own loopback
_BACKLOG: Final = 64
# Each place is a descriptor of the server; a longer list is served through the proxy alone.
MAX_PORTS: Final = 48


class Place(NamedTuple):
    """A socket to open: ``tcp`` listens, ``udp`` is bound."""

    kind: Literal["tcp", "udp"]
    address: str
    port: int


PROXY: Final = Place("tcp", LOOPBACK, PROXY_PORT)
NAMES: Final = (Place("udp", LOOPBACK, NAME_PORT), Place("tcp", LOOPBACK, NAME_PORT))


def capture_places(ports: Iterable[int]) -> tuple[Place, ...]:
    """Return where connections arrive of programs that know of no proxy."""
    others = sorted(set(ports) - {PROXY_PORT, NAME_PORT})
    return tuple(Place("tcp", _EVERYWHERE, port) for port in others[:MAX_PORTS])


def open_place(place: Place) -> socket.socket:
    """Open it, inside the sandbox. Raises `OSError`, ``EADDRINUSE`` where a program was first."""
    kind = socket.SOCK_STREAM if place.kind == "tcp" else socket.SOCK_DGRAM
    opened = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC)
    try:
        if place.kind == "tcp":
            # A list that changes opens the port anew while its old connections still fade.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((place.address, place.port))
        if place.kind == "tcp":
            opened.listen(_BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


def adopt(descriptor: int, place: Place) -> socket.socket:
    """Take a descriptor that came out of a sandbox. Raises `OSError` for any but that socket."""
    try:
        adopted = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise
    if not _is(adopted, place):
        adopted.close()
        raise OSError("the sandbox passed out another socket than it was asked for")
    adopted.settimeout(0.0)
    return adopted


def _is(adopted: socket.socket, place: Place) -> bool:
    kind = socket.SOCK_STREAM if place.kind == "tcp" else socket.SOCK_DGRAM
    return (
        adopted.family == socket.AF_INET
        and adopted.type & ~socket.SOCK_NONBLOCK == kind
        and adopted.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == (place.kind == "tcp")
        and adopted.getsockname() == (place.address, place.port)
    )
