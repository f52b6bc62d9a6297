"""The addresses of this machine, asked of the kernel (rtnetlink(7), RTM_GETADDR)."""

import ipaddress
import socket
import struct
from collections.abc import Iterator

from patchkiln.domain.addresses import IPAddress

_GET_ADDRESSES = 22
_NEW_ADDRESS = 20
_REQUEST_AND_DUMP = 0x1 | 0x300
_HEAD = struct.Struct("=IHHII")
_ADDRESS_HEAD = struct.Struct("=BBBBI")
_ATTRIBUTE_HEAD = struct.Struct("=HH")
_ADDRESS, _LOCAL = 1, 2
_BUFFER_BYTES = 1 << 17
_SIZES: dict[int, int] = {socket.AF_INET: 4, socket.AF_INET6: 16}


def own_addresses() -> frozenset[IPAddress]:
    """Return every address of every interface, public ones too. Raises `OSError`."""
    request = _ADDRESS_HEAD.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    head = _HEAD.pack(_HEAD.size + len(request), _GET_ADDRESSES, _REQUEST_AND_DUMP, 1, 0)
    found: set[IPAddress] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as line:
        line.send(head + request)
        over = False
        while not over:
            for kind, body in _messages(line.recv(_BUFFER_BYTES)):
                over = over or kind != _NEW_ADDRESS
                if kind == _NEW_ADDRESS:
                    found.update(_addresses(body))
    return frozenset(found)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        size, kind, *_ = _HEAD.unpack_from(data)
        yield kind, data[_HEAD.size : size]
        data = data[_aligned(size) :]


def _addresses(body: bytes) -> Iterator[IPAddress]:
    size = _SIZES.get(body[0])
    attributes = body[_ADDRESS_HEAD.size :]
    while attributes:
        length, kind = _ATTRIBUTE_HEAD.unpack_from(attributes)
        value = attributes[_ATTRIBUTE_HEAD.size : length]
        if kind in {_ADDRESS, _LOCAL} and len(value) == size:
            yield ipaddress.ip_address(value)
        attributes = attributes[_aligned(length) :]


def _aligned(size: int) -> int:
    return (size + 3) & ~3
