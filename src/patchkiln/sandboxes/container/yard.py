"""The living containers of one provider, their snapshots, and how each comes from another.

A snapshot is a container that does nothing but hold the files.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from patchkiln.domain.patch import Patch
from patchkiln.domain.repository import Checkout
from patchkiln.errors import PatchError, SandboxNotFound, SandboxUnavailable
from patchkiln.ports.execution import capture
from patchkiln.ports.sandbox import HOME, WORKSPACE, SandboxSpec, Snapshot, new_sandbox_id
from patchkiln.sandboxes.container.diagnosis import explain
from patchkiln.sandboxes.container.engine import EngineError
from patchkiln.sandboxes.container.maker import Base, ContainerMaker
from patchkiln.sandboxes.container.premises import Premises
from patchkiln.sandboxes.container.sandbox import ContainerSandbox
from patchkiln.sandboxes.container.transfer import carry
from patchkiln.sandboxes.local.box.layout import BASE
from patchkiln.sandboxes.local.diff import clean_room_diff
from patchkiln.sandboxes.local.selftest.diagnosis import explain_machine

_WORKSPACE = (WORKSPACE.lstrip("/"),)
_ALL = (*_WORKSPACE, HOME.lstrip("/"), "tmp")
_BLOCK_BYTES = 4096
_SLACK_BYTES = 64 << 20
_COPY_TIMEOUT_S = 600.0


class _Keeper(NamedTuple):
    """A container that holds a snapshot's files, and the right to take a copy of them."""

    sandbox: ContainerSandbox
    lock: asyncio.Lock


class Yard:
    """Implements `Workshop` for every sandbox that it makes; ``premises`` come with the test."""

    def __init__(self, data_dir: Path, place: Path) -> None:
        """Take the data directory, and the provider's own place in it."""
        self.premises: Premises | None = None
        self._maker = ContainerMaker(data_dir, place, self)
        self._keepers: dict[str, _Keeper] = {}
        self._sizes: dict[Path, int] = {}

    async def make(self, spec: SandboxSpec) -> ContainerSandbox:
        """Make a sandbox. Raises `SandboxUnavailable` and `SandboxNotFound`."""
        if isinstance(spec.base, Snapshot):
            return await self._make_from_snapshot(spec, spec.base)
        base = await self._measure(spec.base)
        sandbox = await self._make_empty(spec, base)
        if base.path is not None:
            async with _destroyed_on_failure(sandbox):
                await _copy_base(sandbox)
        return sandbox

    def attach(self, sandbox_id: str) -> ContainerSandbox:
        """Return a living sandbox. Raises `SandboxNotFound`."""
        sandbox = self._maker.alive.get(sandbox_id)
        if sandbox is None or sandbox_id in self._keepers or not sandbox.is_alive():
            raise SandboxNotFound(f"There is no living sandbox {sandbox_id}.")
        return sandbox

    async def remove_snapshot(self, snapshot_id: str) -> None:
        """Forget a snapshot. Idempotent."""
        keeper = self._keepers.pop(snapshot_id, None)
        if keeper is not None:
            await keeper.sandbox.destroy()

    async def close(self) -> None:
        """Destroy every sandbox and every snapshot. Idempotent."""
        self._keepers.clear()
        await self._maker.close()

    async def review(self, sandbox: ContainerSandbox) -> Patch:
        """Compare a sandbox's workspace with its base, in a fresh container."""
        base = _checkout(sandbox.spec)
        if base is None:
            raise PatchError(
                "A sandbox without a base has nothing to compare with.",
                remedy="Make the sandbox from a repository at a commit.",
            )
        spec = SandboxSpec(id=new_sandbox_id(), base=base, limits=sandbox.spec.limits)
        room = await self._make_empty(spec, await self._measure(base))
        try:
            await carry(sandbox.work_inside(), room, _WORKSPACE, _size_bound(sandbox))
            return await clean_room_diff(room)
        finally:
            await room.destroy()

    async def keep(self, sandbox: ContainerSandbox) -> Snapshot:
        """Copy a sandbox's files into a container that nobody else reaches."""
        spec = SandboxSpec(id=new_sandbox_id(), limits=sandbox.spec.limits)
        keeper = await self._make_empty(spec, Base(size_bytes=sandbox.base_bytes))
        async with _destroyed_on_failure(keeper):
            size = await carry(sandbox.work_inside(), keeper, _ALL, _size_bound(sandbox))
        self._keepers[spec.id] = _Keeper(keeper, asyncio.Lock())
        return Snapshot(id=spec.id, base=_checkout(sandbox.spec), size_bytes=size)

    async def copy(self, sandbox: ContainerSandbox, count: int) -> Sequence[ContainerSandbox]:
        """Make sandboxes with another one's files; all or none."""
        children: list[ContainerSandbox] = []
        try:
            for _ in range(count):
                spec = replace(sandbox.spec, id=new_sandbox_id())
                child = await self._make_empty(spec, Base(size_bytes=sandbox.base_bytes))
                children.append(child)
                await carry(sandbox.work_inside(), child, _ALL, _size_bound(sandbox))
        except BaseException:
            await asyncio.gather(*(child.destroy() for child in children))
            raise
        return children

    async def end(self, sandbox: ContainerSandbox) -> None:
        """Remove a sandbox's container."""
        await self._maker.end(self._ready().engine, sandbox.id)

    async def _make_from_snapshot(self, spec: SandboxSpec, snapshot: Snapshot) -> ContainerSandbox:
        keeper = self._keepers.get(snapshot.id)
        if keeper is None:
            raise SandboxNotFound(
                "There is no such snapshot.", remedy="Take a new one; they end with the server."
            )
        source = keeper.sandbox
        sandbox = await self._make_empty(spec, Base(size_bytes=source.base_bytes))
        async with _destroyed_on_failure(sandbox), keeper.lock:
            await carry(source.work_inside(), sandbox, _ALL, _size_bound(source))
        return sandbox

    async def _make_empty(self, spec: SandboxSpec, base: Base) -> ContainerSandbox:
        """Make a container that shows a base and has nothing in its workspace."""
        premises = self._ready()
        try:
            return await self._maker.make(premises.engine, premises.ground, spec, base)
        except EngineError as error:
            raise explain(error, premises.host.image) from error
        except OSError as error:
            reason, remedy = explain_machine(error)
            raise SandboxUnavailable(reason, remedy=remedy) from error

    async def _measure(self, base: Checkout | None) -> Base:
        """Return a base with what a copy of it takes, which is counted once."""
        if base is None:
            return Base()
        if base.path not in self._sizes:
            self._sizes[base.path] = await asyncio.to_thread(_tree_bytes, base.path)
        return Base(base.path, self._sizes[base.path])

    def _ready(self) -> Premises:
        if self.premises is None:
            raise SandboxUnavailable("The container engine has not been found yet.")
        return self.premises


@asynccontextmanager
async def _destroyed_on_failure(sandbox: ContainerSandbox) -> AsyncGenerator[None]:
    try:
        yield
    except BaseException:
        await sandbox.destroy()
        raise


async def _copy_base(sandbox: ContainerSandbox) -> None:
    """Fill the workspace from inside, so that the host follows no link of the checkout's."""
    argv = ("cp", "-a", f"{BASE}/.", WORKSPACE)
    copied = await capture(await sandbox.exec(argv, cwd="/", timeout_s=_COPY_TIMEOUT_S))
    if copied.status.exit_code:
        raise SandboxUnavailable(
            "The repository could not be copied into the container.",
            remedy="Look at the machine's free memory: the workspace of a container lies in it.",
        )


def _checkout(spec: SandboxSpec) -> Checkout | None:
    return spec.base.base if isinstance(spec.base, Snapshot) else spec.base


def _size_bound(sandbox: ContainerSandbox) -> int:
    """Return more than the archive of all that a sandbox's disks can hold."""
    return 2 * (3 * sandbox.spec.limits.disk_bytes + sandbox.base_bytes) + _SLACK_BYTES


def _tree_bytes(root: Path) -> int:
    """Return what a copy of a checkout takes in memory; links are counted, and never followed.

    What is no directory, or gone, is for the maker to refuse.
    """
    size, waiting = 0, [os.fspath(root)] if root.is_dir() else []
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                size += _BLOCK_BYTES + -(-status.st_size // _BLOCK_BYTES) * _BLOCK_BYTES
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return size
