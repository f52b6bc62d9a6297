"""Makes local sandboxes: owns the zygote, and knows what every box is given."""

import asyncio
import os
import re
from functools import partial
from pathlib import Path

from patchkiln.domain.patch import Patch
from patchkiln.errors import PatchError, SandboxLost
from patchkiln.ports.sandbox import (
    Isolation,
    IsolationLevel,
    SandboxLimits,
    SandboxSpec,
    new_sandbox_id,
)
from patchkiln.sandboxes.local.channel import Channel
from patchkiln.sandboxes.local.diff import clean_room_diff
from patchkiln.sandboxes.local.environment import environment
from patchkiln.sandboxes.local.layout import HOST_GID, HOST_UID
from patchkiln.sandboxes.local.network import Gateway, plan_listeners
from patchkiln.sandboxes.local.plan import BoxPlan, LimitsPlan, MountPlan
from patchkiln.sandboxes.local.sandbox import LocalSandbox
from patchkiln.sandboxes.local.zygote_process import ZygoteProcess

_STAGING = Path("sandboxes", "staging")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_SHM_BYTES = 256 << 20


class LocalSandboxes:
    """Implements `SandboxProvider` with native boxes; the zygote starts with the first use."""

    def __init__(self, data_dir: Path) -> None:
        """Take the directory below which the provider keeps what it needs."""
        self._data_dir = data_dir
        self._starting = asyncio.Lock()
        self._zygote: ZygoteProcess | None = None
        self._sandboxes: dict[str, LocalSandbox] = {}

    @property
    def name(self) -> str:
        """Return ``local``."""
        return "local"

    async def isolation(self) -> Isolation:
        """Return the self-test's result."""
        return Isolation(level=IsolationLevel.NO_CGROUP, reason="")

    async def create(self, spec: SandboxSpec) -> LocalSandbox:
        """Make a box."""
        return await self._make(spec, _plan(spec))

    async def close(self) -> None:
        """Destroy every box and end the zygote."""
        await asyncio.gather(*(sandbox.destroy() for sandbox in list(self._sandboxes.values())))
        async with self._starting:
            zygote, self._zygote = self._zygote, None
            if zygote is not None:
                await zygote.stop()

    async def _make(self, spec: SandboxSpec, plan: BoxPlan) -> LocalSandbox:
        zygote = await self._running_zygote()
        if zygote.as_root:
            await asyncio.to_thread(_give_writable, plan)
        line, listeners, _ = await zygote.create(plan)
        sandbox = LocalSandbox(
            plan["name"],
            Channel(line, _lost),
            Gateway(spec.network, listeners),
            env={**environment(own_python=False), **spec.env},
            give_pipe=_give_pipe if zygote.as_root else _keep_pipe,
            end=partial(self._end, zygote, plan["name"]),
            review=partial(self._review, spec),
        )
        self._sandboxes[plan["name"]] = sandbox
        return sandbox

    async def _end(self, zygote: ZygoteProcess, name: str) -> None:
        await zygote.destroy(name)
        self._sandboxes.pop(name, None)

    async def _review(self, spec: SandboxSpec) -> Patch:
        if spec.base is None:
            raise PatchError("A sandbox without a base has nothing to compare with.")
        fresh = SandboxSpec(id=new_sandbox_id(), base=spec.base, limits=spec.limits)
        plan: BoxPlan = {**_plan(fresh), "workspace": "review", "reviews": spec.id}
        box = await self._make(fresh, plan)
        try:
            return await clean_room_diff(box)
        finally:
            await box.destroy()

    async def _running_zygote(self) -> ZygoteProcess:
        async with self._starting:
            if self._zygote is None or not self._zygote.running:
                staging = self._data_dir / _STAGING
                await asyncio.to_thread(staging.mkdir, parents=True, exist_ok=True)
                self._zygote = await ZygoteProcess.start(staging.absolute())
            return self._zygote


def _plan(spec: SandboxSpec) -> BoxPlan:
    if not _NAME.fullmatch(spec.id):
        raise ValueError("a sandbox's id is made of letters, digits, '_' and '-'")
    mounts: list[MountPlan] = [
        {"source": str(mount.source), "target": mount.target, "writable": mount.writable}
        for mount in spec.mounts
    ]
    return {
        "name": spec.id,
        "workspace": "empty" if spec.base is None else "overlay",
        "base": None if spec.base is None else str(spec.base.path),
        "reviews": None,
        "mounts": mounts,
        "listeners": plan_listeners(spec.network),
        "limits": _limits(spec.limits),
        "site": None,
    }


def _limits(limits: SandboxLimits) -> LimitsPlan:
    return {
        "memory_bytes": limits.memory_bytes,
        "disk_bytes": limits.disk_bytes,
        "tmp_bytes": limits.tmp_bytes,
        "home_bytes": limits.tmp_bytes,
        "shm_bytes": min(limits.tmp_bytes, _MAX_SHM_BYTES),
        "processes": limits.processes,
        "open_files": limits.open_files,
    }


def _give_writable(plan: BoxPlan) -> None:
    """Let the boxes' user own the directories that a box may write; boxes own what is in them."""
    for mount in plan["mounts"]:
        if mount["writable"] and os.stat(mount["source"]).st_uid != HOST_UID:
            os.chown(mount["source"], HOST_UID, HOST_GID)


def _give_pipe(descriptor: int) -> None:
    """Let the box own a pipe, or no command could open its /dev/stderr."""
    os.fchown(descriptor, HOST_UID, HOST_GID)


def _keep_pipe(descriptor: int) -> None:
    """Leave a pipe as it is: the server's user is the box's."""
    del descriptor


def _lost() -> SandboxLost:
    return SandboxLost("The sandbox is gone.")
