"""Turns what a caller asks for into what the zygote is asked for."""

import os
import re
from dataclasses import replace
from pathlib import Path

from patchkiln.domain.repository import Checkout
from patchkiln.ports.sandbox import SandboxLimits, SandboxSpec
from patchkiln.sandboxes.local.box.layout import HOST_GID, HOST_UID
from patchkiln.sandboxes.local.box.plan import BoxPlan, LimitsPlan, MountPlan, Purpose
from patchkiln.sandboxes.local.generation import Origin
from patchkiln.sandboxes.local.network import literal_addresses
from patchkiln.sandboxes.local.selftest.tools import Tools
from patchkiln.sandboxes.network.sandbox_network import places_of

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_SHM_BYTES = 256 << 20
_MIN_LAYER_BYTES = 4 << 20


def plan_box(
    spec: SandboxSpec,
    tools: Tools,
    origin: Origin,
    *,
    name: str | None = None,
    purpose: Purpose = "work",
) -> BoxPlan:
    """Return the plan of a box above an origin; its name is the spec's id unless it has another."""
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
        "name": name or spec.id,
        "purpose": purpose,
        "base": None if origin.base is None else str(origin.base.path),
        "chain": list(origin.layers),
        "mounts": [*tools.mounts, *mounts],
        "addresses": literal_addresses(spec.network),
        "places": list(places_of(spec.network)),
        "limits": plan_limits(spec.limits, origin.used_bytes),
        "site": tools.site,
        "shared_proc": False,
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

    base = spec.base
    if isinstance(base, Checkout):
        base = replace(base, path=below_data(base.path))
    mounts = tuple(replace(mount, source=settled(mount.source)) for mount in spec.mounts)
    return replace(spec, base=base, mounts=mounts)


def give_writable_mounts(spec: SandboxSpec) -> None:
    """Let the boxes' user own the directories that a box may write; what is in them is theirs."""
    for mount in spec.mounts:
        if mount.writable and mount.source.lstat().st_uid != HOST_UID:
            os.chown(mount.source, HOST_UID, HOST_GID, follow_symlinks=False)


def plan_limits(limits: SandboxLimits, used_bytes: int = 0) -> LimitsPlan:
    """Return the limits as PID 1 takes them; ``used_bytes`` lie below the box already."""
    return {
        "memory_bytes": limits.memory_bytes,
        # The layers below count as well; but to delete from them takes a little, too.
        "disk_bytes": max(limits.disk_bytes - used_bytes, min(limits.disk_bytes, _MIN_LAYER_BYTES)),
        # Above the disk, which is to be full before a signal ends its writer; against sparse ones.
        "file_bytes": 2 * limits.disk_bytes,
        "shm_bytes": min(limits.disk_bytes, _MAX_SHM_BYTES),
        "processes": limits.processes,
        "open_files": limits.open_files,
    }
