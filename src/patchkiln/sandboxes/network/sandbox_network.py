"""The network of one sandbox: what listens inside, what serves it, and how that changes."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from patchkiln.domain.network import NetworkPolicy, NetworkRefusal
from patchkiln.errors import SandboxUnavailable
from patchkiln.ports.sandbox import HOME
from patchkiln.sandboxes.network.authority import Authority
from patchkiln.sandboxes.network.guard import Guard, ports
from patchkiln.sandboxes.network.nameserver import Names, serve_connection, serve_datagrams
from patchkiln.sandboxes.network.passage import Passage
from patchkiln.sandboxes.network.places import (
    LOOPBACK,
    NAMES,
    PROXY,
    PROXY_PORT,
    Place,
    capture_places,
)
from patchkiln.sandboxes.network.proxy import serve_proxy
from patchkiln.sandboxes.network.refusals import Refusals
from patchkiln.sandboxes.network.tunnels import serve_tunnel

MAX_CONNECTIONS = 128
BUNDLE = f"{HOME}/.config/patchkiln/authorities.pem"
_WEB_PORTS = (80, 443)
_ACCEPT_PAUSE_S = 0.1
_PROXY_URL = f"http://{LOOPBACK}:{PROXY_PORT}"
_LOOPBACK_6 = "::1"
_PROXY_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
_BUNDLE_NAMES = (
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
)

# Opens sockets inside the sandbox and passes them out, in order; None where a program inside holds
# the place already.
Listen: TypeAlias = Callable[[Sequence[Place]], Awaitable[Sequence[socket.socket | None]]]
# Writes a file inside the sandbox.
Write: TypeAlias = Callable[[str, bytes], Awaitable[None]]


class SandboxNetwork:
    """Serves the policy in force; begins with none, and without any socket."""

    def __init__(
        self,
        *,
        listen: Listen,
        write: Write,
        authority: Authority,
        on_refused: Callable[[NetworkRefusal], None] | None,
    ) -> None:
        """Take the way into the sandbox, and what all sandboxes of a provider share."""
        self._listen = listen
        self._write = write
        self._authority = authority
        self._guard = Guard(Refusals(on_refused))
        self._names = Names(self._guard)
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)
        self._changing = asyncio.Lock()
        self._doors: dict[Place, asyncio.Task[None]] = {}
        self._passages: dict[asyncio.Task[None], Passage] = {}
        self._env: dict[str, str] = {}

    @property
    def policy(self) -> NetworkPolicy:
        """Return the policy in force."""
        return self._guard.policy

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the variables by which commands find the proxy, and believe it."""
        return self._env

    async def set_policy(self, policy: NetworkPolicy) -> None:
        """Put a policy in force; connections that it does not admit are cut.

        Raises `SandboxUnavailable` where a program inside holds the proxy's or the name server's
        port; nothing is allowed then. Raises the sandbox's error where it is gone.
        """
        async with self._changing:
            self._guard.policy = policy
            await self._cut([task for task, each in self._passages.items() if not each.admitted])
            try:
                await self._open_doors(places_of(policy))
                self._env = await self._environment(policy)
            except BaseException:
                await self._close_all()
                raise

    async def close(self) -> None:
        """End every connection and close every socket. Idempotent."""
        await self._close_all()
        await self._guard.close()

    async def _close_all(self) -> None:
        self._guard.policy = NetworkPolicy()
        self._env = {}
        await self._cut([*self._doors.values(), *self._passages])
        self._doors.clear()

    async def _environment(self, policy: NetworkPolicy) -> dict[str, str]:
        if not policy.rules:
            return {}
        env: dict[str, str] = dict.fromkeys(_PROXY_NAMES, _PROXY_URL)
        env |= dict.fromkeys(("NO_PROXY", "no_proxy"), _without_proxy(policy))
        if any(rule.credential for rule in policy.rules):
            await self._write(BUNDLE, await asyncio.to_thread(self._authority.bundle))
            env |= dict.fromkeys(_BUNDLE_NAMES, BUNDLE)
        return env

    async def _open_doors(self, wanted: Sequence[Place]) -> None:
        """Close the places that are not wanted any more, and open those that are new."""
        surplus = [place for place in self._doors if place not in wanted]
        await self._cut([self._doors.pop(place) for place in surplus])
        missing = [place for place in wanted if place not in self._doors]
        opened = await self._listen(missing) if missing else ()
        for place, door in zip(missing, opened, strict=True):
            if door is not None:
                self._doors[place] = self._serve(place, door)
        held = [place for place in (PROXY, *NAMES) if place in wanted and place not in self._doors]
        if held:
            raise SandboxUnavailable(
                f"A program in the sandbox holds port {held[0].port}, which its network needs.",
                remedy="End the program, then set the network again.",
            )

    def _serve(self, place: Place, door: socket.socket) -> asyncio.Task[None]:
        if place.kind == "udp":
            work = serve_datagrams(self._names, door)
        elif place == PROXY:
            work = self._accept(door, partial(serve_proxy, authority=self._authority))
        elif place in NAMES:
            work = self._accept(door, partial(serve_connection, self._names))
        else:
            work = self._accept(door, self._serve_captured)
        task = asyncio.create_task(work)
        # Not by the work itself: a task that is cancelled before its first step does none.
        task.add_done_callback(lambda _: door.close())
        return task

    async def _accept(
        self, door: socket.socket, serve: Callable[[Passage], Coroutine[Any, Any, None]]
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                inside, _ = await loop.sock_accept(door)
            except OSError:  # out of descriptors: others will end
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            try:
                await self._free.acquire()
            except asyncio.CancelledError:
                inside.close()
                raise
            self._begin(Passage(self._guard, inside), serve)

    def _begin(
        self, passage: Passage, serve: Callable[[Passage], Coroutine[Any, Any, None]]
    ) -> None:
        task = asyncio.create_task(passage.run(serve))
        self._passages[task] = passage
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._passages.pop(task).inside.close()
        self._free.release()

    async def _serve_captured(self, passage: Passage) -> None:
        """Serve a program that knows of no proxy: the address that it reached tells the host."""
        address, port = passage.local
        target = self._guard.admit(self._names.meant(address, port), port)
        outside = await passage.dial(target)
        await serve_tunnel(passage, target, outside, self._authority)

    async def _cut(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _without_proxy(policy: NetworkPolicy) -> str:
    """Return the hosts that are inside; IPv6 is never captured, so its loopback may be outside."""
    named = any(rule.host == _LOOPBACK_6 for rule in policy.rules)
    return ",".join(("localhost", LOOPBACK, *(() if named else (_LOOPBACK_6,))))


def places_of(policy: NetworkPolicy) -> tuple[Place, ...]:
    """Return what listens inside under a policy: nothing, unless it has rules."""
    if not policy.rules:
        return ()
    return (PROXY, *NAMES, *capture_places({*_WEB_PORTS, *ports(policy)}))
