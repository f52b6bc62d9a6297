"""The local box's part of its network: the addresses it is born with, and sockets passed out."""

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import Sequence

from patchkiln.domain.network import NetworkPolicy
from patchkiln.errors import SandboxUnavailable
from patchkiln.sandboxes.local.box import wire
from patchkiln.sandboxes.local.calls import FileCalls
from patchkiln.sandboxes.local.channel import SHORTAGES, Channel
from patchkiln.sandboxes.network.places import Place, adopt

_TRIES = 25
_PAUSE_S = 0.02
_REMEDIES = {
    # Where /proc/sys is closed, as at level L1, the box keeps the right to low ports to its birth.
    errno.EACCES: "Name a first host when the sandbox is made; 'patchkiln doctor' tells the level."
}


def literal_addresses(policy: NetworkPolicy) -> list[str]:
    """Return the IPv4 addresses that rules name, and that the box is to have as its own.

    Only at its birth has it the right to: an address that a later policy names is reached through
    the proxy alone.
    """
    hosts = dict.fromkeys(rule.host for rule in policy.rules)
    return [host for host in hosts if _is_foreign(host)]


class BoxSockets:
    """The sockets that a box has passed out at its birth, and those that its PID 1 opens later."""

    def __init__(self, channel: Channel, born: dict[Place, int]) -> None:
        """Take the line to PID 1, and the first descriptors, unseen."""
        self._channel = channel
        self._born = born

    async def listen(self, places: Sequence[Place]) -> list[socket.socket | None]:
        """Return sockets in order; None for a place that a program inside holds.

        Raises the line's error, also for a socket that is not what was asked for, and
        `SandboxUnavailable` for a place that cannot be had.
        """
        opened: list[socket.socket | None] = []
        try:
            for place in places:
                opened.append(await self._take(place))  # noqa: PERF401 - what is open gets closed
        except BaseException:
            for door in opened:
                if door is not None:
                    door.close()
            raise
        return opened

    async def write(self, path: str, data: bytes) -> None:
        """Write a file inside."""
        request = {"op": "write", "path": path, "size": len(data), "mode": None}
        await FileCalls(self._channel).deliver(request, data)

    def close(self) -> None:
        """Close what nobody has asked for. Idempotent."""
        wire.close_all([self._born.popitem()[1] for _ in range(len(self._born))])

    async def _take(self, place: Place) -> socket.socket | None:
        if place in self._born:
            return _adopted(self._channel, self._born.pop(place), place)
        return await _open(self._channel, place)


async def _open(channel: Channel, place: Place) -> socket.socket | None:
    number = 0
    for _ in range(_TRIES):
        message = {"op": "listen", "place": place}
        reply, descriptors = await channel.request_descriptors(message, 1)
        if descriptors:
            return _adopted(channel, descriptors[0], place)
        number = reply.errno
        if number == errno.EADDRINUSE:
            return None
        if number not in SHORTAGES:
            break
        await asyncio.sleep(_PAUSE_S)
    raise SandboxUnavailable(
        f"The sandbox cannot listen on port {place.port} ({os.strerror(number)}).",
        remedy=_REMEDIES.get(number, "Look at the server's limit of open files and free memory."),
    )


def _adopted(channel: Channel, descriptor: int, place: Place) -> socket.socket:
    try:
        return adopt(descriptor, place)
    except OSError as error:
        channel.close()
        raise channel.lost() from error


def _is_foreign(host: str) -> bool:
    try:
        return not ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        return False
