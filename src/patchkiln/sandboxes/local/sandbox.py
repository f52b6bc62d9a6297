"""One local sandbox, seen from the server."""

import asyncio
import itertools
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

from patchkiln.domain.network import NetworkPolicy
from patchkiln.domain.patch import Patch
from patchkiln.errors import SandboxUnsupported
from patchkiln.ports.sandbox import SandboxMetrics, SandboxSpec, Snapshot
from patchkiln.sandboxes.local import pausing
from patchkiln.sandboxes.local.box.layout import HOST_GID, HOST_UID
from patchkiln.sandboxes.local.environment import environment
from patchkiln.sandboxes.local.generation import Generation
from patchkiln.sandboxes.local.lined import LinedSandbox


class Sealed(NamedTuple):
    """What has come from a box: a snapshot, its sandbox's next box, and other sandboxes."""

    snapshot: Snapshot
    successor: Generation
    children: "Sequence[LocalSandbox]"


class Succession(Protocol):
    """What a sandbox needs of the others: where it goes on, comes from and ends."""

    async def review(self, spec: SandboxSpec, generation: Generation) -> Patch:
        """Compare a box's layers with the base, in a fresh box."""
        ...

    async def seal(
        self, spec: SandboxSpec, generation: Generation, successor: str, *, children: int = 0
    ) -> Sealed:
        """Keep a box's layers as a snapshot, and make the boxes that go on from there.

        The sandbox's own has the successor's name; ``children`` are new sandboxes. All or none.
        """
        ...

    def remove_snapshot(self, snapshot_id: str) -> None:
        """Forget a snapshot. Idempotent."""
        ...

    async def end(self, generation: Generation) -> None:
        """End a box and wait until nothing of it is left. Idempotent."""
        ...

    def forget(self, sandbox_id: str) -> None:
        """Let a destroyed sandbox's id be used again."""
        ...


class LocalSandbox(LinedSandbox):
    """Implements `Sandbox` over the line to the PID 1 of the box that it lives in now."""

    def __init__(
        self,
        spec: SandboxSpec,
        generation: Generation,
        succession: Succession,
        *,
        own_python: Path | None,
    ) -> None:
        """Take what it was asked to be, its first box, and the interpreter that it was lent."""
        super().__init__(
            spec.id,
            generation.channel,
            env=environment(own_python=own_python is not None),
            give_end=_give_end if generation.zygote.as_root else _keep_end,
        )
        self._spec = spec
        self._succession = succession
        self.generation = generation
        self._generations = itertools.count(1)
        # A task of its own, which the end of the sandbox calls off.
        self._sealing: asyncio.Task[Sealed] | None = None
        self._leaving: asyncio.Task[None] | None = None

    def is_alive(self) -> bool:
        """Tell whether it can still be asked for anything."""
        return super().is_alive() and self.generation.zygote.running

    async def diff(self) -> Patch:
        """Compare with the base in a fresh box."""
        # First for those inside, who may wait for what the box stopped; then for what they began.
        async with self._gate.alone(self._kill_all):
            await self._kill_all()
            return await self._succession.review(self._spec, self.generation)

    async def snapshot(self) -> Snapshot:
        """Keep the files, and go on in a new box above them."""
        return (await self._go_on()).snapshot

    async def fork(self, count: int = 1) -> Sequence["LocalSandbox"]:
        """Make sandboxes with the same files."""
        sealed = await self._go_on(children=count)
        self._succession.remove_snapshot(sealed.snapshot.id)
        return sealed.children

    async def metrics(self) -> SandboxMetrics:
        """Return what the box and the layers below it use."""
        self._raise_if_lost()
        return await pausing.measure(self.generation, self._spec.limits, paused=self._paused)

    async def set_network(self, policy: NetworkPolicy) -> None:
        """Put another policy in force, here and in what comes after this box."""
        async with self._gate.together():
            self._raise_if_lost()
            if not self.generation.zygote.opens_low_ports:
                raise SandboxUnsupported("The network of this sandbox stays as it was made.")
            self._spec = replace(self._spec, network=policy)
            await self.generation.network.set_policy(policy)

    def _usual_environment(self) -> dict[str, str]:
        return {**self._env, **self.generation.network.environment, **self._spec.env}

    async def _freeze(self) -> None:
        await pausing.pause(self.generation)

    async def _thaw(self) -> None:
        await pausing.resume(self.generation)

    def _live_in(self, generation: Generation) -> None:
        self.generation = generation
        self._live_over(generation.channel)

    async def _go_on(self, *, children: int = 0) -> Sealed:
        """Seal the box's layer, and live in a new box above it."""
        async with self._gate.together():
            if not self.generation.zygote.keeps_layers:
                raise SandboxUnsupported("Sandboxes made by bubblewrap cannot be kept or forked.")
        async with self._gate.alone(self._kill_all):
            await self._kill_all()
            sealed = await self._seal(children)
            left = self.generation
            self._live_in(sealed.successor)
        self._leaving = asyncio.create_task(self._leave(left, self._leaving))
        return sealed

    async def _seal(self, children: int) -> Sealed:
        self._raise_if_lost()
        name = f"{self.id}.{next(self._generations)}"
        self._sealing = asyncio.create_task(
            self._succession.seal(self._spec, self.generation, name, children=children)
        )
        try:
            await asyncio.wait([self._sealing])
        except asyncio.CancelledError:
            await self._undo(self._sealing)
            raise
        finally:
            sealing, self._sealing = self._sealing, None
        if not self.is_alive():
            await self._undo(sealing)
            raise self._channel.lost()
        return sealing.result()

    async def _leave(self, left: Generation, before: asyncio.Task[None] | None) -> None:
        """End a box that the sandbox has left; none but its destruction waits for that."""
        await self._succession.end(left)
        if before is not None:
            await before

    async def _undo(self, sealing: asyncio.Task[Sealed]) -> None:
        sealing.cancel()
        await asyncio.wait([sealing])
        if not sealing.cancelled() and sealing.exception() is None:
            sealed = sealing.result()
            self._succession.remove_snapshot(sealed.snapshot.id)
            await self._succession.end(sealed.successor)
            await asyncio.gather(*(child.destroy() for child in sealed.children))

    async def _destroy(self) -> None:
        self._close_line()
        if self._sealing is not None:
            await self._undo(self._sealing)
        await self._succession.end(self.generation)
        if self._leaving is not None:
            await self._leaving
        self._succession.forget(self.id)


def _give_end(descriptor: int) -> None:
    """Let the box own its end, or no command could open its /dev/stderr."""
    os.fchown(descriptor, HOST_UID, HOST_GID)


def _keep_end(descriptor: int) -> None:
    """Leave an end as it is: the server's user is the box's."""
    del descriptor
