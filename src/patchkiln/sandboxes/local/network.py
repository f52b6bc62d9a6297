"""The server's side of a box's network: it dials for the box what the box may reach.

A box has no network but its own loopback. There, every allowed host has an address of its own, and
a listener whose descriptor the server holds. What connects to it is joined to the real host, whose
name the server has resolved once, and whose address it has checked.
"""

import asyncio
import contextlib
import ipaddress
import re
import socket
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from patchkiln.domain.addresses import forbidden_address
from patchkiln.domain.network import WEB_PORTS, NetworkPolicy
from patchkiln.errors import SandboxUnavailable
from patchkiln.sandboxes.local.plan import ListenerPlan

IDLE_S = 300.0
CONNECT_S = 30.0
MAX_CONNECTIONS = 128
MAX_REFUSALS = 100
_BLOCK_BYTES = 1 << 16
_ACCEPT_PAUSE_S = 0.1
_LOOPBACK = "127.0.0.1"
_FIRST_ADDRESS = int(ipaddress.IPv4Address("127.77.0.1"))
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,252})")


# Threads of their own: a box can make names that resolve slowly, and the loop's are for all.
_RESOLVERS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="resolver")


class Target(NamedTuple):
    """A host and port of a rule."""

    host: str
    port: int
    trusted: bool


class _Refused(Exception):
    """A target that may not, or cannot, be reached."""


def targets(policy: NetworkPolicy) -> list[Target]:
    """Return the single hosts and ports of a policy."""
    return [
        Target(rule.host, port, rule.trusted)
        for rule in policy.rules
        for port in sorted(WEB_PORTS if rule.port is None else {rule.port})
    ]


def plan_listeners(targets: Sequence[Target]) -> list[ListenerPlan]:
    """Give every target an address in the box. Raises `SandboxUnavailable` for what is no host."""
    addresses: dict[str, str] = {}
    for target in targets:
        name = target.host.lower()
        if name not in addresses:
            addresses[name] = _address(name, len(addresses))
    return [
        {"name": name, "address": addresses[name], "port": target.port}
        for target in targets
        for name in [target.host.lower()]
    ]


def _address(name: str, number: int) -> str:
    if name == "localhost":
        return _LOOPBACK
    with contextlib.suppress(ValueError):
        return str(ipaddress.IPv4Address(name))
    if not _NAME.fullmatch(name):
        raise SandboxUnavailable(
            "The local sandbox can reach hosts by name or by IPv4 address only.",
            remedy="Name the host, or give its IPv4 address.",
        )
    return str(ipaddress.IPv4Address(_FIRST_ADDRESS + number))


class Gateway:
    """Joins connections of one box to the targets that it may reach."""

    def __init__(self, targets: Sequence[Target], listeners: Sequence[socket.socket]) -> None:
        """Take the targets and, in the same order, the listeners; begin at once."""
        self.refusals: list[str] = []
        self._listeners = listeners
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)
        self._resolved: dict[Target, asyncio.Task[list[str]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        for target, listener in zip(targets, listeners, strict=True):
            listener.settimeout(0.0)
            self._start(self._accept(target, listener))

    async def close(self) -> None:
        """End every connection. Idempotent."""
        tasks: list[asyncio.Task[Any]] = [*self._tasks, *self._resolved.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, target: Target, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._free.acquire()
            try:
                inside, _ = await loop.sock_accept(listener)
            except OSError:  # out of descriptors: others will end
                self._free.release()
                await asyncio.sleep(_ACCEPT_PAUSE_S)
            except asyncio.CancelledError:
                self._free.release()
                raise
            else:
                self._start(self._join(target, inside))

    async def _join(self, target: Target, inside: socket.socket) -> None:
        try:
            with inside:
                outside = await self._dial(target)
                with outside:
                    await _splice(inside, outside)
        except _Refused as refusal:
            if len(self.refusals) < MAX_REFUSALS:
                self.refusals.append(f"{target.host}:{target.port}: {refusal}")
        except (OSError, TimeoutError):
            return  # either side hung up, or both fell silent
        finally:
            self._free.release()

    async def _dial(self, target: Target) -> socket.socket:
        for address in await self._addresses(target):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            outside = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                async with asyncio.timeout(CONNECT_S):
                    loop = asyncio.get_running_loop()
                    await loop.sock_connect(outside, (address, target.port))
            except (OSError, TimeoutError):
                outside.close()
            except asyncio.CancelledError:
                outside.close()
                raise
            else:
                return outside
        raise _Refused("connection failed")

    async def _addresses(self, target: Target) -> list[str]:
        """Resolve and check once: a name that changes later changes nothing."""
        if target not in self._resolved:
            self._resolved[target] = asyncio.create_task(_resolve(target))
        return await asyncio.shield(self._resolved[target])


async def _resolve(target: Target) -> list[str]:
    loop = asyncio.get_running_loop()
    look_up = partial(socket.getaddrinfo, target.host, target.port, type=socket.SOCK_STREAM)
    try:
        found = await loop.run_in_executor(_RESOLVERS, look_up)
    except OSError as error:
        raise _Refused("name not found") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    rules = {address: _rule(address, target) for address in addresses}
    allowed = [address for address, rule in rules.items() if rule is None]
    if not allowed:
        raise _Refused(next(iter(rules.values())) or "name not found")
    return allowed


def _rule(address: str, target: Target) -> str | None:
    if target.trusted:
        return None
    return forbidden_address(ipaddress.ip_address(address.partition("%")[0]))


async def _splice(inside: socket.socket, outside: socket.socket) -> None:
    inside.settimeout(0.0)
    async with asyncio.timeout(IDLE_S) as silence:
        pumps = [
            asyncio.create_task(_pump(inside, outside, silence)),
            asyncio.create_task(_pump(outside, inside, silence)),
        ]
        try:
            await asyncio.gather(*pumps)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(source: socket.socket, sink: socket.socket, silence: asyncio.Timeout) -> None:
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    while size := await loop.sock_recv_into(source, buffer):
        await loop.sock_sendall(sink, buffer[:size])
        silence.reschedule(loop.time() + IDLE_S)
    sink.shutdown(socket.SHUT_WR)
