"""JSON messages with descriptors over SOCK_SEQPACKET: one message a packet.

A message that does not fit a packet travels in a memfd, whose descriptor then comes last.
"""

import array
import json
import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]

MAX_PACKET_BYTES = 1 << 16
MAX_DESCRIPTORS = 64
_IN_MEMFD = b"memfd"
# As plain numbers: what enum.IntFlag makes of each operation shows in the time of a command.
_CUT = int(socket.MSG_TRUNC)
_RECEIVE = int(socket.MSG_CMSG_CLOEXEC)
_SEND = int(socket.MSG_NOSIGNAL)
_INT_BYTES = array.array("i").itemsize


def send(control: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send one message. Raises `OSError`, `BlockingIOError` on a non-blocking socket."""
    body = json.dumps(message).encode()
    if len(body) <= MAX_PACKET_BYTES:
        _send_packet(control, body, descriptors)
        return
    memory = os.memfd_create("message")
    try:
        _write_all(memory, body)
        _send_packet(control, _IN_MEMFD, [*descriptors, memory])
    finally:
        os.close(memory)


def receive(control: socket.socket) -> tuple[Message | None, list[int]]:
    """Receive one message of the server's; None when the other side is gone.

    Only for what comes from the trusted side: it is neither bounded nor checked.
    """
    body, descriptors = receive_packet(control)
    if body == _IN_MEMFD:
        body = _read_all(descriptors.pop())
    return (json.loads(body) if body else None), descriptors


def receive_packet(
    control: socket.socket, max_descriptors: int = MAX_DESCRIPTORS
) -> tuple[bytes, list[int]]:
    """Receive one packet, and at most so many descriptors beside it; the kernel drops the rest.

    Of a packet past the bound nothing is returned, as at the end of the line.
    """
    room = socket.CMSG_SPACE(max_descriptors * _INT_BYTES) if max_descriptors else 0
    body, ancillary, flags, _ = control.recvmsg(MAX_PACKET_BYTES, room, _RECEIVE)
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % _INT_BYTES])
    return (b"" if flags & _CUT else body), list(descriptors)


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)


def _send_packet(control: socket.socket, body: bytes, descriptors: Sequence[int]) -> None:
    rights = array.array("i", descriptors)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
    control.sendmsg([body], ancillary, _SEND)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _read_all(descriptor: int) -> bytes:
    try:
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)
