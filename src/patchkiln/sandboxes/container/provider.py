"""The provider of sandboxes in containers: tests itself once, then makes them."""

import asyncio
import os
import stat
from dataclasses import replace
from pathlib import Path

from patchkiln.errors import SandboxError, SandboxUnavailable
from patchkiln.ports.sandbox import (
    Capability,
    Isolation,
    IsolationLevel,
    SandboxSpec,
    new_sandbox_id,
)
from patchkiln.sandboxes.container import selftest
from patchkiln.sandboxes.container.diagnosis import explain
from patchkiln.sandboxes.container.engine import EngineError
from patchkiln.sandboxes.container.orphans import remove_orphans
from patchkiln.sandboxes.container.premises import Premises, Wishes, lend_tools, prepare
from patchkiln.sandboxes.container.sandbox import ContainerSandbox
from patchkiln.sandboxes.container.yard import Yard
from patchkiln.sandboxes.local.planning import settle_places
from patchkiln.sandboxes.local.selftest.diagnosis import explain_machine
from patchkiln.sandboxes.local.selftest.examination import probe

_PLACE = Path("sandboxes", "container")
_CAPABILITIES = frozenset(
    {
        Capability.ATTACH,
        Capability.BACKGROUND,
        Capability.CREDENTIALS,
        Capability.DISK_LIMIT,
        Capability.FORK,
        Capability.HOST_MOUNTS,
        Capability.MEMORY_LIMIT,
        Capability.NETWORK,
        Capability.NETWORK_CHANGE,
        Capability.PAUSE,
        Capability.PROCESS_LIMIT,
        Capability.SIGNAL,
        Capability.SNAPSHOT,
        Capability.TERMINAL,
        Capability.TERMINAL_WITH_NETWORK,
    }
)


class ContainerSandboxes:
    """Implements `SandboxProvider` with Podman or Docker, over their socket."""

    def __init__(
        self,
        data_dir: Path,
        *,
        socket: str | None = None,
        image: str | None = None,
        runtime: str | None = None,
    ) -> None:
        """Take the data directory and, where the usual ones will not do, what the operator names.

        ``image`` None shows containers the host's own /usr on an empty image.
        """
        self._data_dir = data_dir.absolute()
        self._real_data_dir = Path(os.path.realpath(data_dir))
        self._place = self._real_data_dir / _PLACE
        self._wishes = Wishes(socket=socket, image=image, runtime=runtime)
        self._yard = Yard(self._real_data_dir, self._place)
        self._testing = asyncio.Lock()
        self._isolation: Isolation | None = None

    @property
    def name(self) -> str:
        """Return ``container``."""
        return "container"

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Return what every container can do."""
        return _CAPABILITIES

    async def isolation(self) -> Isolation:
        """Return the self-test's result."""
        async with self._testing:
            if self._isolation is None:
                self._isolation = await self._examine()
            return self._isolation

    async def create(self, spec: SandboxSpec) -> ContainerSandbox:
        """Make a container, and fill it."""
        isolation = await self.isolation()
        if isolation.level is IsolationLevel.NONE:
            raise SandboxUnavailable(isolation.reason, remedy=isolation.remedy)
        return await self._yard.make(settle_places(spec, self._data_dir, self._real_data_dir))

    async def attach(self, sandbox_id: str) -> ContainerSandbox:
        """Return a living sandbox."""
        return self._yard.attach(sandbox_id)

    async def remove_snapshot(self, snapshot_id: str) -> None:
        """End the container that keeps the files."""
        await self._yard.remove_snapshot(snapshot_id)

    async def close(self) -> None:
        """Remove every container."""
        await self._yard.close()

    async def _examine(self) -> Isolation:
        try:
            return await self._observe()
        except SandboxError as error:
            reason, remedy = error.message, error.remedy
        except EngineError as error:
            explained = explain(error, self._wishes.image)
            reason, remedy = explained.message, explained.remedy
        except OSError as error:
            reason, remedy = explain_machine(error)
        return Isolation(level=IsolationLevel.NONE, reason=reason, remedy=remedy)

    async def _observe(self) -> Isolation:
        """Make a container the way all are made, look at it from inside, and choose the tools."""
        await asyncio.to_thread(_make_place, self._place)
        premises = await prepare(self._real_data_dir, self._place, self._wishes)
        await remove_orphans(premises.engine, self._real_data_dir)
        spec = SandboxSpec(id=new_sandbox_id())
        self._yard.premises = premises
        box = await self._yard.make(spec)
        try:
            findings = await probe(box, self._place)
            bounded = premises.ground.bounds_memory and await selftest.memory_is_bounded(
                box, spec.limits.memory_bytes
            )
            premises = await lend_tools(premises, box, self._place)
        finally:
            await box.destroy()
        self._yard.premises = _believing(premises, bounded=bounded)
        return selftest.judge(
            selftest.Observation(
                host=premises.host, findings=findings, bounded=bounded, python=premises.python
            )
        )


def _believing(premises: Premises, *, bounded: bool) -> Premises:
    """Return the premises with what the engine's control groups really do."""
    return replace(premises, ground=replace(premises.ground, bounds_memory=bounded))


def _make_place(place: Path) -> None:
    """Make the provider's own place, which no other user may enter."""
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(stat.S_IRWXU)
