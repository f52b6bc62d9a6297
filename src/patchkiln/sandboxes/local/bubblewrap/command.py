"""What bubblewrap is told, to build the root that native boxes have (bwrap(1), 0.8 and newer)."""

import os
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from patchkiln.sandboxes.local.box.layout import BASE, BOX_GID, BOX_UID, HOME, HOSTNAME, WORKSPACE
from patchkiln.sandboxes.local.box.plan import BoxPlan
from patchkiln.sandboxes.local.zygote.template import (
    DEVICE_LINKS,
    DEVICES,
    ETC_DIRECTORIES,
    ETC_FILES,
    SYSTEM,
)

PROGRAM: Final = "/usr/bin/bwrap"
AGENT: Final = "/run/patchkiln.zip"
_START: Final = """\
import sys
sys.path.append(sys.argv[1])
from patchkiln.sandboxes.local.box.bwrap_agent import main
main(int(sys.argv[2]))
"""
# What /proc tells of the machine; bubblewrap itself closes /proc/sys and the like to writers.
_MASKED: Final = ("cmdline", "config.gz", "kallsyms", "key-users", "keys", "modules")
_FIRST_FREE_PORT: Final = 1024
_NETWORK_CAPABILITIES: Final = ("CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE")


class Sources(NamedTuple):
    """Where the host's directories lie: of the base, None without one, and of each mount."""

    base: str | None
    mounts: Sequence[str]


class Descriptors(NamedTuple):
    """What bubblewrap inherits: the agent's line and archive, texts by name, and its own word."""

    control: int
    archive: int
    texts: dict[str, int]
    info: int


def command(
    plan: BoxPlan, python: str, sources: Sources, given: Descriptors, *, disk_bytes: int
) -> list[str]:
    """Return the command line that makes a box and starts its agent as PID 1."""
    options = [
        *_namespaces(plan),
        *_system(),
        *_settings(given),
        *_kernel(plan),
        *_disks(disk_bytes),
        *_mounts(plan, sources),
        *("--ro-bind-data", str(given.archive), AGENT),
        *("--remount-ro", "/"),
        *("--chdir", "/"),
        *("--info-fd", str(given.info)),
    ]
    agent = (python, "-I", "-S", "-c", _START, AGENT, str(given.control))
    return [PROGRAM, *options, "--as-pid-1", "--", *agent]


def _namespaces(plan: BoxPlan) -> Iterator[str]:
    yield from ("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session")
    yield from ("--clearenv", "--hostname", HOSTNAME)
    yield from ("--uid", str(BOX_UID), "--gid", str(BOX_GID), "--cap-drop", "ALL")
    if not needs_network_rights(plan):
        yield "--disable-userns"
        return
    # The agent binds its ports, and then gives both up. They hold in the user namespace that owns
    # the network alone; the filter forbids others all the same.
    for capability in _NETWORK_CAPABILITIES:
        yield from ("--cap-add", capability)


def needs_network_rights(plan: BoxPlan) -> bool:
    """Tell whether a box listens where only a network's owner may: on low ports, for addresses.

    Such a box has no terminals: bubblewrap mounts their file system in a user namespace of its own,
    and puts the box into a second one, which does not own the network.
    """
    low = any(place.port < _FIRST_FREE_PORT for place in plan["places"])
    return low or bool(plan["addresses"])


def _system() -> Iterator[str]:
    for name in SYSTEM:
        if os.path.islink(f"/{name}"):
            yield from ("--symlink", os.readlink(f"/{name}"), f"/{name}")
        elif os.path.isdir(f"/{name}"):
            yield from ("--ro-bind", f"/{name}", f"/{name}")
    for name in ("mnt", "opt", "run", "var"):
        yield from ("--dir", f"/{name}")
    yield from ("--symlink", "/tmp", "/var/tmp", "--symlink", "/run", "/var/run")  # noqa: S108 - inside


def _settings(given: Descriptors) -> Iterator[str]:
    for name in (*ETC_DIRECTORIES, *ETC_FILES):
        yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")
    for name, descriptor in given.texts.items():
        yield from ("--perms", "0644", "--file", str(descriptor), f"/etc/{name}")
    yield from ("--symlink", "/proc/self/mounts", "/etc/mtab")


def _kernel(plan: BoxPlan) -> Iterator[str]:
    yield from ("--proc", "/proc")
    yield from _own_devices() if needs_network_rights(plan) else ("--dev", "/dev")
    for name in _MASKED:
        if os.path.exists(f"/proc/{name}"):
            yield from ("--dev-bind", "/dev/null", f"/proc/{name}")
    shm = str(plan["limits"]["shm_bytes"])
    yield from ("--size", shm, "--perms", "1777", "--tmpfs", "/dev/shm")  # noqa: S108 - inside
    yield from ("--remount-ro", "/dev")


def _own_devices() -> Iterator[str]:
    """Make what --dev makes, but terminals."""
    yield from ("--size", "65536", "--tmpfs", "/dev")
    for name in DEVICES:
        yield from ("--dev-bind", f"/dev/{name}", f"/dev/{name}")
    for name, target in DEVICE_LINKS.items():
        yield from ("--symlink", target, f"/dev/{name}")


def _disks(disk_bytes: int) -> Iterator[str]:
    for place, mode in (("/tmp", "1777"), (HOME, "0700"), (WORKSPACE, "0755")):  # noqa: S108 - inside
        yield from ("--size", str(disk_bytes), "--perms", mode, "--tmpfs", place)


def _mounts(plan: BoxPlan, sources: Sources) -> Iterator[str]:
    if sources.base is not None:
        yield from ("--ro-bind", sources.base, BASE)
    for mount, source in zip(plan["mounts"], sources.mounts, strict=True):
        yield from ("--bind" if mount["writable"] else "--ro-bind", source, mount["target"])
