"""The loopback interface of a box: all the network that it has."""

import fcntl
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFADDR: Final = 0x8916
_SIOCGIFFLAGS: Final = 0x8913
_IFF_UP: Final = 0x1
_IFF_UP_RUNNING: Final = _IFF_UP | 0x40


def bring_up() -> None:
    """Bring the interface up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        if not _is_up(probe):  # bubblewrap has done so, and may leave no right to
            fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP_RUNNING))


def add_addresses(addresses: Iterable[str]) -> None:
    """Give it addresses that stand for hosts outside."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for number, address in enumerate(addresses, start=1):
            # One that no interface can have is left to the proxy.
            with suppress(OSError):
                _add_address(probe, f"lo:{number}", address)


def _is_up(probe: socket.socket) -> bool:
    told = fcntl.ioctl(probe, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
    return bool(struct.unpack("16sH14x", told)[1] & _IFF_UP)


def _add_address(probe: socket.socket, alias: str, address: str) -> None:
    packed = socket.inet_aton(address)
    request = struct.pack("16sHH4s8x", alias.encode(), socket.AF_INET, 0, packed)
    fcntl.ioctl(probe, _SIOCSIFADDR, request)
