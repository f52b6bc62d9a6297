"""Makes boxes through the zygote, which it starts, and starts anew should it have died."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

from patchkiln.domain.patch import Patch
from patchkiln.errors import SandboxLost, SandboxUnavailable
from patchkiln.ports.sandbox import SandboxSpec
from patchkiln.sandboxes.local.channel import Channel
from patchkiln.sandboxes.local.environment import environment
from patchkiln.sandboxes.local.layout import HOST_GID, HOST_UID
from patchkiln.sandboxes.local.network import Gateway, targets
from patchkiln.sandboxes.local.plan import BoxPlan
from patchkiln.sandboxes.local.planning import give_writable_mounts, plan_box
from patchkiln.sandboxes.local.sandbox import LocalSandbox
from patchkiln.sandboxes.local.tools import Tools
from patchkiln.sandboxes.local.zygote_process import ZygoteProcess

_NEW_ID = "Give each sandbox an id of its own."

# Compares the layer of a box, which its spec describes, in a fresh one.
Review: TypeAlias = Callable[[SandboxSpec], Awaitable[Patch]]


class MadeBox(NamedTuple):
    """A box, its first process's pid on this machine, and the zygote that it came from."""

    sandbox: LocalSandbox
    pid: int
    zygote: ZygoteProcess


class BoxMaker:
    """Owns the zygote and knows every box that is alive."""

    def __init__(self, staging: Path, review: Review) -> None:
        """Take the zygote's own directory, and what compares a box's layer with its base."""
        self._staging = staging
        self._review = review
        self._starting = asyncio.Lock()
        self._zygote: ZygoteProcess | None = None
        self._names: set[str] = set()
        self._alive: dict[str, LocalSandbox] = {}

    async def make(self, spec: SandboxSpec, tools: Tools, *, reviews: str | None = None) -> MadeBox:
        """Make a box. Raises `StepFailed`, `SandboxUnavailable` and `OSError`."""
        plan = plan_box(spec, tools, reviews=reviews)
        if spec.id in self._names:
            raise SandboxUnavailable(f"There is a sandbox {spec.id} already.", remedy=_NEW_ID)
        self._names.add(spec.id)
        try:
            return await self._make(spec, tools, plan)
        except BaseException:
            self._names.discard(spec.id)
            raise

    async def close(self) -> None:
        """Destroy every box and end the zygote. Idempotent."""
        await asyncio.gather(*(sandbox.destroy() for sandbox in list(self._alive.values())))
        async with self._starting:
            zygote, self._zygote = self._zygote, None
            if zygote is not None:
                await zygote.stop()

    async def _make(self, spec: SandboxSpec, tools: Tools, plan: BoxPlan) -> MadeBox:
        zygote = await self._running_zygote()
        if zygote.as_root and spec.mounts:
            await asyncio.to_thread(give_writable_mounts, spec)
        line, listeners, pid = await zygote.create(plan)
        sandbox = LocalSandbox(
            spec.id,
            Channel(line, _lost),
            Gateway(targets(spec.network), listeners),
            env={**environment(own_python=tools.own_python is not None), **spec.env},
            give_pipe=_give_pipe if zygote.as_root else _keep_pipe,
            end=partial(self._end, zygote, spec.id),
            review=partial(self._review, spec),
        )
        self._alive[spec.id] = sandbox
        return MadeBox(sandbox, pid, zygote)

    async def _end(self, zygote: ZygoteProcess, name: str) -> None:
        await zygote.destroy(name)
        self._alive.pop(name, None)
        self._names.discard(name)

    async def _running_zygote(self) -> ZygoteProcess:
        async with self._starting:
            if self._zygote is None or not self._zygote.running:
                if self._zygote is not None:
                    await self._zygote.stop()
                await asyncio.to_thread(self._staging.mkdir, parents=True, exist_ok=True)
                self._zygote = await ZygoteProcess.start(self._staging)
            return self._zygote


def _give_pipe(descriptor: int) -> None:
    """Let the box own a pipe, or no command could open its /dev/stderr."""
    os.fchown(descriptor, HOST_UID, HOST_GID)


def _keep_pipe(descriptor: int) -> None:
    """Leave a pipe as it is: the server's user is the box's."""
    del descriptor


def _lost() -> SandboxLost:
    return SandboxLost("The sandbox is gone.")
