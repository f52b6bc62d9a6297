"""The living sandboxes of one provider, their snapshots, and how each comes from another."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from patchkiln.domain.patch import Patch
from patchkiln.errors import (
    PatchError,
    SandboxNotFound,
    SandboxUnavailable,
)
from patchkiln.ports.sandbox import SandboxLimits, SandboxSpec, Snapshot, new_sandbox_id
from patchkiln.sandboxes.local.diff import clean_room_diff
from patchkiln.sandboxes.local.generation import Generation, Namespaces, Origin
from patchkiln.sandboxes.local.maker import BoxMaker
from patchkiln.sandboxes.local.sandbox import LocalSandbox, Sealed

MAX_LAYERS = 32
_CROWDED_SHARE = 0.75
_ROOM_BYTES = 4 << 20
_NEW_ID = "Give each sandbox an id of its own."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """A snapshot's layers, and the zygote that has them."""

    origin: Origin
    zygote: Namespaces


class Household:
    """Implements `Succession` for every sandbox that it makes."""

    def __init__(self, maker: BoxMaker) -> None:
        """Take what makes boxes."""
        self._maker = maker
        self._names: set[str] = set()
        self._alive: dict[str, LocalSandbox] = {}
        self._snapshots: dict[str, _Kept] = {}

    async def make(self, spec: SandboxSpec) -> LocalSandbox:
        """Make a sandbox. Raises `SandboxUnavailable` and `SandboxNotFound`."""
        origin = self._origin(spec)
        if spec.id in self._names:
            raise SandboxUnavailable(f"There is a sandbox {spec.id} already.", remedy=_NEW_ID)
        self._names.add(spec.id)
        try:
            generation = await self._maker.make(spec, origin, name=spec.id)
        except BaseException:
            self._names.discard(spec.id)
            # A snapshot that was removed meanwhile: its layers could be gone.
            self._origin(spec)
            raise
        sandbox = LocalSandbox(spec, generation, self, own_python=self._maker.tools.own_python)
        self._alive[spec.id] = sandbox
        return sandbox

    def attach(self, sandbox_id: str) -> LocalSandbox:
        """Return a living sandbox. Raises `SandboxNotFound`."""
        sandbox = self._alive.get(sandbox_id)
        if sandbox is None or not sandbox.is_alive():
            raise SandboxNotFound(f"There is no living sandbox {sandbox_id}.")
        return sandbox

    async def close(self) -> None:
        """Destroy every sandbox. Idempotent."""
        await asyncio.gather(*(sandbox.destroy() for sandbox in list(self._alive.values())))
        self._snapshots.clear()

    async def review(self, spec: SandboxSpec, generation: Generation) -> Patch:
        """Compare a box's layers with the base, in a fresh box."""
        origin = generation.origin
        if origin.base is None:
            raise PatchError(
                "A sandbox without a base has nothing to compare with.",
                remedy="Make the sandbox from a repository at a commit.",
            )
        fresh = SandboxSpec(id=new_sandbox_id(), limits=spec.limits)
        shown = replace(origin, layers=(generation.name, *origin.layers), used_bytes=0)
        room = await self._maker.make(fresh, shown, name=fresh.id, purpose="review")
        box = LocalSandbox(fresh, room, self, own_python=self._maker.tools.own_python)
        try:
            return await clean_room_diff(box)
        finally:
            await box.destroy()

    async def seal(
        self, spec: SandboxSpec, generation: Generation, successor: str, *, children: int = 0
    ) -> Sealed:
        """Keep a box's layers as a snapshot, and make the boxes that go on from there."""
        zygote = generation.zygote
        layers = (generation.name, *generation.origin.layers)
        snapshot_id, used_bytes = await _hold(zygote, layers)
        origin = replace(generation.origin, layers=layers, used_bytes=used_bytes)
        try:
            if _is_to_be_flattened(origin, spec.limits):
                long_id, (snapshot_id, origin) = snapshot_id, await self._flatten(spec, origin)
                zygote.release(long_id)
            self._snapshots[snapshot_id] = _Kept(origin=origin, zygote=zygote)
            snapshot = Snapshot(id=snapshot_id, base=origin.base, size_bytes=origin.used_bytes)
            forked = [replace(spec, id=new_sandbox_id(), base=snapshot) for _ in range(children)]
            # Side by side: each waits for the zygote, and for its own first process.
            following = asyncio.ensure_future(self._maker.make(spec, origin, name=successor))
            making = [asyncio.ensure_future(self.make(each)) for each in forked]
            try:
                return Sealed(snapshot, await following, await asyncio.gather(*making))
            except BaseException:
                await self._undo(following, making)
                raise
        except BaseException:
            self._snapshots.pop(snapshot_id, None)
            zygote.release(snapshot_id)
            raise

    def remove_snapshot(self, snapshot_id: str) -> None:
        """Forget a snapshot. Idempotent."""
        kept = self._snapshots.pop(snapshot_id, None)
        if kept is not None:
            kept.zygote.release(snapshot_id)

    async def end(self, generation: Generation) -> None:
        """End a box and wait until nothing of it is left. Idempotent."""
        await generation.end()

    def forget(self, sandbox_id: str) -> None:
        """Let a destroyed sandbox's id be used again."""
        self._alive.pop(sandbox_id, None)
        self._names.discard(sandbox_id)

    def _origin(self, spec: SandboxSpec) -> Origin:
        if not isinstance(spec.base, Snapshot):
            return Origin(base=spec.base)
        kept = self._snapshots.get(spec.base.id)
        if kept is None or not kept.zygote.running:
            raise SandboxNotFound(
                "There is no such snapshot.", remedy="Take a new one; they end with the server."
            )
        return kept.origin

    async def _flatten(self, spec: SandboxSpec, origin: Origin) -> tuple[str, Origin]:
        """Join the layers of an origin into one; return it, held for a snapshot of that name."""
        limits = replace(
            spec.limits,
            disk_bytes=origin.used_bytes + _ROOM_BYTES,
            memory_bytes=spec.limits.memory_bytes + origin.used_bytes,
        )
        fresh = SandboxSpec(id=new_sandbox_id(), limits=limits)
        shown = replace(origin, used_bytes=0)
        room = await self._maker.make(fresh, shown, name=fresh.id, purpose="flatten")
        try:
            snapshot_id, used_bytes = await _hold(room.zygote, (room.name,))
        finally:
            await self.end(room)
        return snapshot_id, replace(origin, layers=(room.name,), used_bytes=used_bytes)

    async def _undo(
        self, following: asyncio.Future[Generation], making: Sequence[asyncio.Future[LocalSandbox]]
    ) -> None:
        """Take back what was made, and what is being made."""
        tasks: list[asyncio.Future[Any]] = [following, *making]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        if _has_succeeded(following):
            await self.end(following.result())
        await asyncio.gather(*(made.result().destroy() for made in making if _has_succeeded(made)))


def _has_succeeded(task: asyncio.Future[Any]) -> bool:
    return not task.cancelled() and task.exception() is None


def _is_to_be_flattened(origin: Origin, limits: SandboxLimits) -> bool:
    """Tell whether a chain is long, or fills a disk that holds what was deleted meanwhile."""
    crowded = origin.used_bytes > limits.disk_bytes * _CROWDED_SHARE
    return len(origin.layers) > MAX_LAYERS or (crowded and len(origin.layers) > 1)


async def _hold(zygote: Namespaces, layers: tuple[str, ...]) -> tuple[str, int]:
    """Keep layers for a new snapshot; return its id and their size."""
    snapshot_id = f"snp_{secrets.token_hex(8)}"
    try:
        return snapshot_id, await zygote.hold(snapshot_id, layers)
    except BaseException:
        zygote.release(snapshot_id)
        raise
