"""The loopback interface of a box, and the listeners on it that stand for hosts outside."""

import fcntl
import socket
import struct
from collections.abc import Iterable
from typing import Final

from patchkiln.sandboxes.local.plan import ListenerPlan

_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFADDR: Final = 0x8916
_IFF_UP_RUNNING: Final = 0x1 | 0x40
_BACKLOG: Final = 64


def open_listeners(plans: Iterable[ListenerPlan]) -> list[socket.socket]:
    """Bring the interface up and listen; in the order of the plans."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP_RUNNING))
        plans = list(plans)
        foreign = {plan["address"] for plan in plans} - _own_addresses(plans)
        for number, address in enumerate(sorted(foreign), start=1):
            _add_address(probe, f"lo:{number}", address)
    return [_listen(plan["address"], plan["port"]) for plan in plans]


def _own_addresses(plans: Iterable[ListenerPlan]) -> set[str]:
    return {plan["address"] for plan in plans if plan["address"].startswith("127.")}


def _add_address(probe: socket.socket, alias: str, address: str) -> None:
    packed = socket.inet_aton(address)
    request = struct.pack("16sHH4s8x", alias.encode(), socket.AF_INET, 0, packed)
    fcntl.ioctl(probe, _SIOCSIFADDR, request)


def _listen(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listener.bind((address, port))
    listener.listen(_BACKLOG)
    return listener
