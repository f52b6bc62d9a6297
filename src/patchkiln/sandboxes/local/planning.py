"""Turns what a caller asks for into what the zygote is asked for."""

import os
import re

from patchkiln.ports.sandbox import SandboxLimits, SandboxSpec
from patchkiln.sandboxes.local.layout import HOST_GID, HOST_UID
from patchkiln.sandboxes.local.network import plan_listeners
from patchkiln.sandboxes.local.plan import BoxPlan, LimitsPlan, MountPlan
from patchkiln.sandboxes.local.tools import Tools

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_SHM_BYTES = 256 << 20


def plan_box(spec: SandboxSpec, tools: Tools, *, reviews: str | None = None) -> BoxPlan:
    """Return the plan of a box; ``reviews`` names the box whose sealed layer it shows.

    Raises `SandboxUnavailable` for a network target that no box can have.
    """
    if not _NAME.fullmatch(spec.id):
        raise ValueError("a sandbox's id is made of letters, digits, '_' and '-'")
    mounts: list[MountPlan] = [
        {"source": str(mount.source), "target": mount.target, "writable": mount.writable}
        for mount in spec.mounts
    ]
    return {
        "name": spec.id,
        "base": None if spec.base is None else str(spec.base.path),
        "reviews": reviews,
        "mounts": [*tools.mounts, *mounts],
        "listeners": plan_listeners(spec.network),
        "limits": _limits(spec.limits),
        "site": tools.site,
    }


def give_writable_mounts(spec: SandboxSpec) -> None:
    """Let the boxes' user own the directories that a box may write; what is in them is theirs."""
    for mount in spec.mounts:
        if mount.writable and mount.source.stat().st_uid != HOST_UID:
            os.chown(mount.source, HOST_UID, HOST_GID)


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
