"""Turns what a caller asks for into what the zygote is asked for."""

import os
import re
from dataclasses import replace
from pathlib import Path

from patchkiln.ports.sandbox import SandboxLimits, SandboxSpec
from patchkiln.sandboxes.local.layout import HOST_GID, HOST_UID
from patchkiln.sandboxes.local.network import plan_listeners, targets
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
        {
            "source": str(mount.source),
            "target": mount.target,
            "writable": mount.writable,
            "nameless": False,
        }
        for mount in spec.mounts
    ]
    return {
        "name": spec.id,
        "base": None if spec.base is None else str(spec.base.path),
        "reviews": reviews,
        "mounts": [*tools.mounts, *mounts],
        "listeners": plan_listeners(targets(spec.network)),
        "limits": _limits(spec.limits),
        "site": tools.site,
    }


def settle_places(spec: SandboxSpec, data_dir: Path, real_data_dir: Path) -> SandboxSpec:
    """Name a spec's directories without the symbolic links that are the operator's own.

    Those are the links to the data directory, and to what lies outside of it. Links below it may
    come from a box: they stay, and are refused when the box is made.
    """

    def below_data(path: Path) -> Path:
        if path.is_relative_to(data_dir):
            return real_data_dir / path.relative_to(data_dir)
        return path

    def settled(path: Path) -> Path:
        inside = below_data(path)
        return inside if inside.is_relative_to(real_data_dir) else Path(os.path.realpath(path))

    base = spec.base if spec.base is None else replace(spec.base, path=below_data(spec.base.path))
    mounts = tuple(replace(mount, source=settled(mount.source)) for mount in spec.mounts)
    return replace(spec, base=base, mounts=mounts)


def give_writable_mounts(spec: SandboxSpec) -> None:
    """Let the boxes' user own the directories that a box may write; what is in them is theirs."""
    for mount in spec.mounts:
        if mount.writable and mount.source.lstat().st_uid != HOST_UID:
            os.chown(mount.source, HOST_UID, HOST_GID, follow_symlinks=False)


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
