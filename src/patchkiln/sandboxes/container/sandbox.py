"""One sandbox in a container, seen from the server: a line to PID 1, and the engine behind it."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, cast

from patchkiln.domain.network import NetworkPolicy
from patchkiln.domain.patch import Patch
from patchkiln.ports.execution import capture
from patchkiln.ports.sandbox import SandboxMetrics, SandboxSpec, Snapshot
from patchkiln.sandboxes.container.engine import Engine, EngineError
from patchkiln.sandboxes.container.machine import DISKS, Ground
from patchkiln.sandboxes.local.box.layout import HOST_GID, HOST_UID
from patchkiln.sandboxes.local.channel import Channel
from patchkiln.sandboxes.local.lined import LinedSandbox
from patchkiln.sandboxes.network.sandbox_network import SandboxNetwork

_DISK_TIMEOUT_S = 5.0
_FOR_ALL = 0o666
_WORDS_A_DISK = 3  # the size of a block, blocks, free ones
_ONCE = {"stream": "false", "one-shot": "true"}
_MAX_DIGITS = 18
_NS_PER_MS = 1_000_000


class Workshop(Protocol):
    """What a sandbox asks of its provider; nothing else happens in the sandbox meanwhile."""

    async def review(self, sandbox: "ContainerSandbox") -> Patch:
        """Compare its workspace with its base in a fresh container."""
        ...

    async def keep(self, sandbox: "ContainerSandbox") -> Snapshot:
        """Copy its files into a container of their own."""
        ...

    async def copy(self, sandbox: "ContainerSandbox", count: int) -> Sequence["ContainerSandbox"]:
        """Make sandboxes with its files."""
        ...

    async def end(self, sandbox: "ContainerSandbox") -> None:
        """Remove its container."""
        ...


class Behind(NamedTuple):
    """What stands behind a sandbox; ``base_bytes``: what its workspace took before any change."""

    ground: Ground
    workshop: Workshop
    engine: Engine
    base_bytes: int


class ContainerSandbox(LinedSandbox):
    """Implements `Sandbox`."""

    def __init__(
        self, spec: SandboxSpec, channel: Channel, network: SandboxNetwork, behind: Behind
    ) -> None:
        """Take what it was made from, the line to PID 1, its network and what stands behind it."""
        super().__init__(spec.id, channel, env=behind.ground.env, give_end=_give_end)
        self.spec = spec
        self.base_bytes = behind.base_bytes
        self._network = network
        self._workshop = behind.workshop
        self._engine = behind.engine
        self._counted = behind.ground.bounds_memory

    def work_inside(self) -> LinedSandbox:
        """Return a way in for the server's own commands, while all other calls wait."""
        # PID 1 remembers one environment, and is about to be told another.
        self._told_env = None
        return LinedSandbox(self.id, self._channel, env=self._env, give_end=_give_end)

    async def diff(self) -> Patch:
        """Compare with the base in a fresh container."""
        # First for those inside, who may wait for what the sandbox stopped; then for what they
        # began.
        async with self._gate.alone(self._kill_all):
            await self._kill_all()
            return await self._workshop.review(self)

    async def snapshot(self) -> Snapshot:
        """Keep the files as they are now."""
        async with self._gate.alone(self._kill_all):
            await self._kill_all()
            return await self._workshop.keep(self)

    async def fork(self, count: int = 1) -> Sequence["ContainerSandbox"]:
        """Make sandboxes with these files."""
        async with self._gate.alone(self._kill_all):
            await self._kill_all()
            return await self._workshop.copy(self, count)

    async def set_network(self, policy: NetworkPolicy) -> None:
        """Put another policy in force, here and in what comes after this sandbox."""
        async with self._gate.together():
            self._raise_if_lost()
            self.spec = replace(self.spec, network=policy)
            await self._network.set_policy(policy)

    async def metrics(self) -> SandboxMetrics:
        """Return what the engine's control groups count; without them, PID 1's word."""
        self._raise_if_lost()
        # An engine without control groups of its own counts more than the container.
        stats = await self._statistics() if self._counted else None
        nanoseconds = _number(stats, "cpu_stats", "cpu_usage", "total_usage")
        cpu_ms = None if nanoseconds is None else nanoseconds // _NS_PER_MS
        memory = _number(stats, "memory_stats", "usage")
        processes = _number(stats, "pids_stats", "current")
        if not self._paused:
            told = await self._channel.request({"op": "measure"})
            # The engine also counts what has ended and was not yet buried.
            processes = told.processes
            cpu_ms = told.cpu_ms if cpu_ms is None else cpu_ms
            memory = told.memory_bytes if memory is None else memory
        return SandboxMetrics(
            cpu_ms=cpu_ms,
            memory_bytes=memory,
            memory_limit_bytes=self.spec.limits.memory_bytes,
            processes=processes,
            disk_bytes=None if self._paused else await self._disk_bytes(),
            disk_limit_bytes=self.spec.limits.disk_bytes,
        )

    async def _statistics(self) -> Any:
        try:
            return await self._engine.get(f"{self._path}/stats", **_ONCE)
        except EngineError:
            self._raise_if_lost()
            return None

    def _usual_environment(self) -> dict[str, str]:
        return {**self._env, **self._network.environment, **self.spec.env}

    async def _freeze(self) -> None:
        """Let the engine's control groups do it; where there are none, PID 1."""
        if not await self._order("pause"):
            await super()._freeze()

    async def _thaw(self) -> None:
        if not await self._order("unpause"):
            await super()._thaw()

    async def _destroy(self) -> None:
        self._close_line()
        await self._network.close()
        await self._workshop.end(self)

    @property
    def _path(self) -> str:
        return f"/containers/{container_name(self.id)}"

    async def _order(self, what: str) -> bool:
        """Ask the engine; tell whether it could."""
        try:
            await self._engine.post(f"{self._path}/{what}")
        except EngineError:
            self._raise_if_lost()
            return False
        return True

    async def _disk_bytes(self) -> int | None:
        """Return what its disks hold, by the word of the sandbox."""
        ask = ("stat", "-f", "-c", "%S %b %f", *DISKS)
        said = await capture(await self.exec(ask, cwd="/", timeout_s=_DISK_TIMEOUT_S))
        words = said.stdout.split()
        if len(words) != _WORDS_A_DISK * len(DISKS) or not all(map(bytes.isdigit, words)):
            return None
        sizes, blocks, free = ([int(word[:_MAX_DIGITS]) for word in words[n::3]] for n in range(3))
        used = sum(s * (b - f) for s, b, f in zip(sizes, blocks, free, strict=True))
        return max(0, used - self.base_bytes)


def container_name(sandbox_id: str) -> str:
    """Return the name that a sandbox's container has in the engine."""
    return f"patchkiln-{sandbox_id}"


def _number(document: Any, *path: str) -> int | None:
    for name in path:
        if not isinstance(document, dict):
            return None
        document = cast("dict[str, Any]", document).get(name)
    return document if isinstance(document, int) else None


def _give_end(descriptor: int) -> None:
    """Let the container's user open a stream again by its name, whoever that is on the host."""
    os.fchmod(descriptor, _FOR_ALL)
    if os.getuid() == 0:
        os.fchown(descriptor, HOST_UID, HOST_GID)
