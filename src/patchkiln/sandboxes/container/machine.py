"""What the engine is asked to make: one container, as its HTTP interface takes it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from patchkiln.domain.network import NetworkPolicy
from patchkiln.ports.sandbox import HOME, WORKSPACE, HostMount, SandboxLimits
from patchkiln.sandboxes.container.agent import LINE, PROGRAM, SOURCE
from patchkiln.sandboxes.local.box.layout import BASE, HOSTNAME
from patchkiln.sandboxes.local.box.plan import SitePlan
from patchkiln.sandboxes.network.places import LOOPBACK

# What the way down to an ordinary user takes; PID 1 gives up all of them before it serves.
_CAPABILITIES = ("CHOWN", "FOWNER", "NET_ADMIN", "SETGID", "SETPCAP", "SETUID")
_SECURITY = (
    "no-new-privileges",
    # SELinux would keep the container from the host's /usr and from the line to the server, and
    # the engine would relabel both to allow it.
    "label=disable",
)
# What a sandbox may write, each a disk of its own.
DISKS = (WORKSPACE, HOME, "/tmp")  # noqa: S108 - inside the container
_MAX_SHM_BYTES = 256 << 20
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What all containers of a provider share.

    ``own_image`` names the operator's; ``mounts`` are host directories by where they are shown;
    ``python`` runs PID 1, and ``site`` says where it finds lent packages; ``own_kernel``: that of
    gVisor; ``bounds_memory`` and ``bounds_processes``: the engine's control groups do.
    """

    image: str
    own_image: str | None
    source: Path
    python: str
    env: Mapping[str, str]
    mounts: Mapping[str, Path] = field(default_factory=dict[str, Path])
    site: SitePlan | None = None
    runtime: str | None = None
    own_kernel: bool = False
    bounds_memory: bool = False
    bounds_processes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One container. ``base_bytes``: what its workspace takes before anything changes."""

    name: str
    line: Path
    limits: SandboxLimits
    base: Path | None = None
    base_bytes: int = 0
    mounts: Sequence[HostMount] = ()
    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


def describe(ground: Ground, machine: Machine) -> dict[str, Any]:
    """Return the body of the request that makes a container."""
    return {
        "Image": ground.image,
        "Entrypoint": [ground.python, "-I", "-S", "-c", PROGRAM],
        "Cmd": [],
        "User": "0:0",
        "WorkingDir": "/",
        "Hostname": HOSTNAME,
        "NetworkDisabled": True,
        "Labels": dict(machine.labels),
        "HostConfig": {
            "AutoRemove": True,
            "CapAdd": list(_CAPABILITIES),
            "CapDrop": ["ALL"],
            "CgroupnsMode": "private",
            "Dns": [LOOPBACK],
            "IpcMode": "private",
            "LogConfig": {"Type": "none"},
            "Mounts": list(_mounts(ground, machine)),
            "NetworkMode": "none",
            "ReadonlyRootfs": True,
            "SecurityOpt": list(_SECURITY),
            "ShmSize": min(machine.limits.disk_bytes, _MAX_SHM_BYTES),
            # The sandbox's own servers, and the ends of its network, may have any port.
            "Sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"},
            "Tmpfs": _disks(machine),
            **_bounds(ground, machine),
            **({"Runtime": ground.runtime} if ground.runtime else {}),
        },
    }


def _mounts(ground: Ground, machine: Machine) -> Iterator[dict[str, Any]]:
    shown = {**ground.mounts, SOURCE: ground.source, LINE: machine.line}
    if machine.base is not None:
        shown[BASE] = machine.base
    for target, source in shown.items():
        yield _mount(source, target, writable=False)
    for mount in machine.mounts:
        yield _mount(mount.source, mount.target, writable=mount.writable)


def _mount(source: Path, target: str, *, writable: bool) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": not writable}


def _disks(machine: Machine) -> dict[str, str]:
    size = machine.limits.disk_bytes
    sizes = dict.fromkeys(DISKS, size) | {WORKSPACE: size + machine.base_bytes}
    disks = {place: f"rw,exec,nosuid,nodev,mode=1777,size={size}" for place, size in sizes.items()}
    # Podman gives a read-only container both, as large as half of the memory.
    for place in ("/run", "/var/tmp"):  # noqa: S108 - inside the container
        disks[place] = f"rw,noexec,nosuid,nodev,mode=755,size={_MIB}"
    return disks


def _bounds(ground: Ground, machine: Machine) -> dict[str, int]:
    bounds: dict[str, int] = {}
    if ground.bounds_memory:
        # The base's copy lies in memory, and is no doing of the sandbox.
        memory = machine.limits.memory_bytes + machine.base_bytes
        bounds |= {"Memory": memory, "MemorySwap": memory}
    if ground.bounds_processes:
        # PID 1 and one file operation at a time come on top.
        bounds["PidsLimit"] = machine.limits.processes + 2
    return bounds
