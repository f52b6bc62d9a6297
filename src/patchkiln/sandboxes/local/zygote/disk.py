"""What a box may write: its layer, alone or above those of a chain and a base.

A place with nothing below it is a part of the layer itself, which is as fast as memory; an overlay
joins the others. All of them come to the box as detached mounts, and stand on a scaffold until the
box is made from them.
"""

import os
from collections.abc import Sequence

from patchkiln.sandboxes.local.box import syscalls
from patchkiln.sandboxes.local.box.layout import BASE, HOME, SCAFFOLD, WORKSPACE
from patchkiln.sandboxes.local.box.plan import BoxPlan, SitePlan
from patchkiln.sandboxes.local.zygote.flatten import SOURCES, TARGET
from patchkiln.sandboxes.local.zygote.rootfs import PRIVATE
from patchkiln.sandboxes.local.zygote.template import READ_ONLY

_SCRATCH = {"home": HOME, "tmp": "/tmp"}  # noqa: S108 - inside the box
_BASE = f"{SCAFFOLD}/base"


def attach_layers(layers: Sequence[int]) -> None:
    """Put the box's own layer, and then those of the chain, on the scaffold."""
    for number, layer in enumerate(layers):
        os.mkdir(_place(number))
        syscalls.attach_mount(layer, _place(number))


def mount_workspace(plan: BoxPlan, base: int | None) -> None:
    """Mount the workspace above the chain and the base's mount."""
    below = _chain(plan, "workspace")
    if base is not None:
        # Who looks at the base by itself finds it beside the workspace.
        place = _BASE if plan["purpose"] == "work" else BASE
        os.mkdir(place)
        syscalls.attach_mount(base, place)
        below.append(place)
    if plan["purpose"] == "flatten":
        _show_layers(plan)
    else:
        _mount_area("workspace", WORKSPACE, below)


def mount_scratch(plan: BoxPlan) -> None:
    """Mount /tmp and the home directory, and tell Python of the lent packages."""
    for area, place in _SCRATCH.items():
        below = _chain(plan, area) if plan["purpose"] == "work" else []
        _mount_area(area, place, below)
    site = plan["site"]
    if site is not None and not plan["chain"]:
        _tell_python(site)


def _show_layers(plan: BoxPlan) -> None:
    """Show the layers of the chain, and the box's own as a whole, to what joins them."""
    for number in range(len(plan["chain"])):
        place = f"{SOURCES}/{number}"
        os.makedirs(place)
        syscalls.bind(_place(number + 1), place)
        syscalls.set_mount_attributes(place, READ_ONLY)
    os.mkdir(TARGET)
    syscalls.bind(_place(0), TARGET)


def _mount_area(area: str, target: str, below: list[str]) -> None:
    own = f"{_place(0)}/{area}"
    if not below:
        syscalls.bind(f"{own}/upper", target)
        return
    lower = ":".join(below)
    options = f"userxattr,lowerdir={lower},upperdir={own}/upper,workdir={own}/work"
    syscalls.mount(area, target, "overlay", PRIVATE, options)


def _chain(plan: BoxPlan, area: str) -> list[str]:
    return [f"{_place(number)}/{area}/upper" for number in range(1, len(plan["chain"]) + 1)]


def _place(number: int) -> str:
    """Return the place of a layer on the scaffold; the box's own is the first."""
    return f"{SCAFFOLD}/{number}"


def _tell_python(site: SitePlan) -> None:
    place = HOME
    for name in (".local", "lib", f"python{site['version']}", "site-packages"):
        place = f"{place}/{name}"
        os.mkdir(place)
    file = os.open(f"{place}/patchkiln.pth", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(file, f"{site['path']}\n".encode())
    finally:
        os.close(file)
