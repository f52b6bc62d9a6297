"""The hierarchies of control groups that this machine lets us use, and our own groups in them.

Version 2 where the server's own group or its parent is delegated (systemd's ``Delegate=yes``, a
user's own manager, root); else version 1's memory and pids hierarchies, which only root may write.
Sources: cgroups(7), the kernel's admin-guide/cgroup-v2.
"""

import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from patchkiln.sandboxes.local.zygote.cgroups import Cgroups, read, remove_group, write
from patchkiln.sandboxes.local.zygote.pids import start_time

CONTROLLERS: Final = ("memory", "pids")
_PREFIX: Final = "patchkiln"
_NAME: Final = re.compile(rf"{_PREFIX}-(\d+)-(\d+)")
_DYING_S: Final = 0.2
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


class CgroupMount(NamedTuple):
    """A mounted hierarchy: its place, the group that is its root there, and its controllers."""

    place: str
    root: str
    version: int
    options: frozenset[str]


def find_cgroups(*, as_root: bool) -> Cgroups | None:
    """Make our own groups where this machine lets us; None where it does not."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = list(parse_mounts(file.read()))
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        own = dict(parse_membership(file.read()))
    name = f"{_PREFIX}-{os.getpid()}-{start_time(os.getpid())}"
    groups = _make_version_2(mounts, own, name)
    if groups:
        return Cgroups(2, groups, unified=groups[0])
    groups = _make_version_1(mounts, own, name, CONTROLLERS) if as_root else []
    if not groups:
        return None
    # A hybrid machine's second version has no controllers, but freezes, kills and counts.
    unified = _make_unified(mounts, own, name)
    if unified is not None:
        return Cgroups(1, [*groups, unified], unified=unified)
    freezer = _make_version_1(mounts, own, name, ("freezer",))
    return Cgroups(1, [*groups, *freezer], freezer=freezer[0] if freezer else None)


def parse_mounts(mountinfo: str) -> Iterator[CgroupMount]:
    """Yield the cgroup mounts of a mountinfo file (proc_pid_mountinfo(5))."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ")[:3]
        root, place = (_OCTAL.sub(_unescape, field) for field in before.split(" ")[3:5])
        if kind in {"cgroup", "cgroup2"}:
            version = 2 if kind == "cgroup2" else 1
            yield CgroupMount(place, root, version, frozenset(options.split(",")))


def parse_membership(text: str) -> Iterator[tuple[str, str]]:
    """Yield controller and group from /proc/PID/cgroup; version 2's controller is empty."""
    for line in text.splitlines():
        _, controllers, group = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, group


def _unescape(match: re.Match[str]) -> str:
    return chr(int(match[1], 8))


def find_place(mount: CgroupMount, group: str) -> str:
    """Return the directory of a group; a mount in a container may begin below the real root."""
    below = os.path.relpath(group, mount.root)
    return mount.place if below.startswith("..") else os.path.normpath(f"{mount.place}/{below}")


def _make_version_2(mounts: list[CgroupMount], own: dict[str, str], name: str) -> list[str]:
    for mount in mounts:
        if mount.version == 2 and "" in own:  # noqa: PLR2004 - the version's number
            place = find_place(mount, own[""])
            parent = os.path.dirname(place)
            above = [parent] if parent.startswith(mount.place) else []
            for directory in (place, *above):
                if _offers_controllers(directory):
                    return _make_own(directory, name, delegate=True)
    return []


def _make_unified(mounts: list[CgroupMount], own: dict[str, str], name: str) -> str | None:
    for mount in mounts:
        if mount.version == 2 and "" in own:  # noqa: PLR2004 - the version's number
            for group in _make_own(find_place(mount, own[""]), name, delegate=False):
                if os.path.exists(f"{group}/cgroup.freeze"):
                    return group
                remove_group(group)
    return None


def _make_version_1(
    mounts: list[CgroupMount], own: dict[str, str], name: str, controllers: Sequence[str]
) -> list[str]:
    groups: list[str] = []
    for controller in controllers:
        for mount in mounts:
            if mount.version == 1 and controller in mount.options and controller in own:
                groups += _make_own(find_place(mount, own[controller]), name, delegate=False)
                break
    return groups if len(groups) == len(controllers) else []


def _offers_controllers(directory: str) -> bool:
    """Tell whether groups below a directory may be limited; turns that on where it may be."""
    try:
        if not set(CONTROLLERS) <= set(read(f"{directory}/cgroup.controllers").split()):
            return False
        if not set(CONTROLLERS) <= set(read(f"{directory}/cgroup.subtree_control").split()):
            _delegate(directory)
    except OSError:
        return False
    return os.access(f"{directory}/cgroup.procs", os.W_OK)


def _delegate(directory: str) -> None:
    controllers = " ".join(f"+{controller}" for controller in CONTROLLERS)
    write(f"{directory}/cgroup.subtree_control", controllers)


def _make_own(directory: str, name: str, *, delegate: bool) -> list[str]:
    _remove_left_behind(directory)
    group = f"{directory}/{name}"
    try:
        os.mkdir(group)
        if delegate:
            _delegate(group)
    except OSError:
        remove_group(group)
        return []
    return [group]


def _remove_left_behind(directory: str) -> None:
    """Remove the groups of zygotes that were killed, whose boxes die with them.

    Groups that are in use stay: another container's numbers may mean other processes here.
    """
    left = [f"{directory}/{entry}" for entry in os.listdir(directory) if _is_left_behind(entry)]
    until = time.monotonic() + _DYING_S
    while left:
        for group in left:
            for name in os.listdir(group):
                if os.path.isdir(f"{group}/{name}"):
                    _let_die(f"{group}/{name}")
                    remove_group(f"{group}/{name}")
            remove_group(group)
        left = [group for group in left if os.path.isdir(group)]
        if not left or time.monotonic() > until:
            return
        time.sleep(_DYING_S / 20)


def _let_die(group: str) -> None:
    """Thaw what version 1 froze: its killed processes wait for that."""
    try:
        write(f"{group}/freezer.state", "THAWED")
    except OSError:  # another hierarchy's
        return


def _is_left_behind(name: str) -> bool:
    match = _NAME.fullmatch(name)
    return match is not None and start_time(int(match[1])) != match[2]
