"""Makes containers through the engine, and knows every one that is alive."""

import asyncio
import http.client
import os
import re
import socket
from pathlib import Path
from typing import NamedTuple

from patchkiln.errors import SandboxLost, SandboxUnavailable, SandboxUnsupported
from patchkiln.ports.sandbox import SandboxSpec
from patchkiln.sandboxes.container.agent import AgentPlan
from patchkiln.sandboxes.container.diagnosis import explain, explain_silence
from patchkiln.sandboxes.container.engine import Engine, EngineError
from patchkiln.sandboxes.container.lines import Doorway, NoAnswer
from patchkiln.sandboxes.container.machine import Ground, Machine, describe
from patchkiln.sandboxes.container.orphans import labels
from patchkiln.sandboxes.container.sandbox import Behind, ContainerSandbox, Workshop, container_name
from patchkiln.sandboxes.local.box import wire
from patchkiln.sandboxes.local.box.plan import MountPlan
from patchkiln.sandboxes.local.channel import Channel
from patchkiln.sandboxes.local.network import BoxSockets, literal_addresses
from patchkiln.sandboxes.local.planning import give_writable_mounts, plan_limits
from patchkiln.sandboxes.network.authority import Authority
from patchkiln.sandboxes.network.sandbox_network import SandboxNetwork, places_of

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Where control groups count processes, the user's own limit would count other containers' too.
_UNLIMITED = 1 << 30


class Base(NamedTuple):
    """A host directory that a container shows at /base, and what a copy of it takes."""

    path: Path | None = None
    size_bytes: int = 0


class ContainerMaker:
    """Owns the containers of one provider."""

    def __init__(self, data_dir: Path, place: Path, workshop: Workshop) -> None:
        """Take the data directory, the provider's own place and what the sandboxes will ask."""
        self._data_dir = data_dir
        self._lines = place / "lines"
        self._workshop = workshop
        self._names: set[str] = set()
        self._authority = Authority()
        self.alive: dict[str, ContainerSandbox] = {}

    async def make(
        self, engine: Engine, ground: Ground, spec: SandboxSpec, base: Base
    ) -> ContainerSandbox:
        """Make a container whose workspace is empty. Raises `SandboxUnavailable`."""
        if not _NAME.fullmatch(spec.id):
            raise ValueError("a sandbox's id is made of letters, digits, '_' and '-'")
        if spec.id in self._names:
            raise SandboxUnavailable(
                f"There is a sandbox {spec.id} already.",
                remedy="Give each sandbox an id of its own.",
            )
        if ground.own_kernel and spec.network.rules:
            raise SandboxUnsupported(
                "A sandbox on gVisor's kernel has no network: it can pass no socket out.",
                remedy="Run it without network, or leave PATCHKILN_CONTAINER_RUNTIME empty.",
            )
        self._names.add(spec.id)
        try:
            line, born = await self._begin(engine, ground, spec, base)
        except BaseException:
            self._names.discard(spec.id)
            raise
        channel = Channel(line, _lost)
        sockets = BoxSockets(channel, dict(zip(places_of(spec.network), born, strict=True)))
        network = SandboxNetwork(
            listen=sockets.listen,
            write=sockets.write,
            authority=self._authority,
            on_refused=spec.on_refused,
        )
        sandbox = ContainerSandbox(
            spec, channel, network, Behind(ground, self._workshop, engine, base.size_bytes)
        )
        self.alive[spec.id] = sandbox
        try:
            await network.set_policy(spec.network)
        except BaseException:
            sockets.close()
            await sandbox.destroy()
            raise
        return sandbox

    async def end(self, engine: Engine, sandbox_id: str) -> None:
        """Remove a container. Idempotent."""
        try:
            await engine.delete(f"/containers/{container_name(sandbox_id)}", force="1", v="1")
        except EngineError as error:
            # Its PID 1 has ended with its line: the next start removes what may be left.
            if error.status < http.client.INTERNAL_SERVER_ERROR and error.status:
                raise
        self.alive.pop(sandbox_id, None)
        self._names.discard(sandbox_id)

    async def close(self) -> None:
        """Destroy every sandbox. Idempotent."""
        await asyncio.gather(*(sandbox.destroy() for sandbox in list(self.alive.values())))

    async def _begin(
        self, engine: Engine, ground: Ground, spec: SandboxSpec, base: Base
    ) -> tuple[socket.socket, list[int]]:
        """Start the container and take the line to its PID 1; without it, leave nothing."""
        await asyncio.to_thread(_prepare, spec, base)
        machine = Machine(
            name=container_name(spec.id),
            line=self._lines / spec.id,
            limits=spec.limits,
            base=base.path,
            base_bytes=base.size_bytes,
            mounts=spec.mounts,
            network=spec.network,
            labels=labels(self._data_dir, spec.id),
        )
        starting = asyncio.create_task(_start(engine, ground, machine))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The engine finishes what it has begun: only then can it be removed.
            await asyncio.wait([starting])
            if not starting.cancelled() and starting.exception() is None:
                line, born = starting.result()
                line.close()
                wire.close_all(born)
                await self.end(engine, spec.id)
            raise


async def _start(
    engine: Engine, ground: Ground, machine: Machine
) -> tuple[socket.socket, list[int]]:
    doorway = await asyncio.to_thread(Doorway, machine.line)
    name = machine.name
    try:
        await engine.post("/containers/create", describe(ground, machine), name=name)
        await engine.post(f"/containers/{name}/start")
        return await doorway.accept(_agent_plan(ground, machine))
    except (EngineError, NoAnswer) as error:
        await engine.delete(f"/containers/{name}", force="1", v="1")
        if isinstance(error, NoAnswer):
            raise explain_silence(error) from error
        raise explain(error, ground.own_image) from error
    finally:
        doorway.close()


def _agent_plan(ground: Ground, machine: Machine) -> AgentPlan:
    limits = plan_limits(machine.limits)
    limits["file_bytes"] += machine.base_bytes
    if ground.bounds_processes:
        limits["processes"] = _UNLIMITED
    mounts: list[MountPlan] = [
        {"source": "", "target": mount.target, "writable": mount.writable, "nameless": False}
        for mount in machine.mounts
    ]
    return {
        "limits": limits,
        "mounts": mounts,
        "site": ground.site,
        "watches": not ground.bounds_memory,
        "own_kernel": ground.own_kernel,
        "addresses": literal_addresses(machine.network),
        "places": list(places_of(machine.network)),
    }


def _prepare(spec: SandboxSpec, base: Base) -> None:
    """Refuse what is no directory of its own: an engine would follow a link, or make what lacks."""
    sources = [mount.source for mount in spec.mounts]
    for source in (*sources, *([base.path] if base.path else [])):
        if not source.is_dir() or Path(os.path.realpath(source)) != source:
            raise SandboxUnavailable(
                "A directory that the sandbox was to see is missing, or lies behind a symbolic "
                "link.",
                remedy="Put a directory in its place; a checkout whose place it takes is made anew "
                "when the clone cache (repositories/ in the data directory) is deleted.",
            )
    if os.getuid() == 0 and spec.mounts:
        give_writable_mounts(spec)


def _lost() -> SandboxLost:
    return SandboxLost("The sandbox is gone.")
