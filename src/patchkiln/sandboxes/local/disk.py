"""What a box may write: its layer, alone or above those of a chain and a base.

A place with nothing below it is a part of the layer itself, which is as fast as memory; an overlay
joins the others.
"""

import os

from patchkiln.sandboxes.local import syscalls
from patchkiln.sandboxes.local.flatten import SOURCES, TARGET
from patchkiln.sandboxes.local.layers import LAYERS
from patchkiln.sandboxes.local.layout import BASE, HOME, WORKSPACE
from patchkiln.sandboxes.local.plan import BoxPlan, SitePlan
from patchkiln.sandboxes.local.rootfs import PRIVATE, ROOT
from patchkiln.sandboxes.local.template import READ_ONLY

LOWER = "lower"
_SCRATCH = {"home": HOME, "tmp": "/tmp"}  # noqa: S108 - inside the box


def mount_workspace(plan: BoxPlan, base: int | None) -> None:
    """Mount the workspace above the chain and the base's mount."""
    below = _chain(plan, "workspace")
    if base is not None:
        below.append(_attach_base(plan, base))
    if plan["purpose"] == "flatten":
        _show_layers(plan)
    else:
        _mount_area(plan, "workspace", WORKSPACE, below)


def _attach_base(plan: BoxPlan, base: int) -> str:
    """Attach the base where it is to be seen, else outside of the root that is being made."""
    place = LOWER
    if plan["purpose"] != "work":
        place = f"{ROOT}{BASE}"
        os.mkdir(place)
    syscalls.attach_mount(base, place)
    return place


def mount_scratch(plan: BoxPlan) -> None:
    """Mount /tmp and the home directory, and tell Python of the lent packages."""
    for area, place in _SCRATCH.items():
        below = _chain(plan, area) if plan["purpose"] == "work" else []
        _mount_area(plan, area, place, below)
    site = plan["site"]
    if site is not None and not plan["chain"]:
        _tell_python(site)


def _show_layers(plan: BoxPlan) -> None:
    """Show the layers of the chain, and the box's own as a whole, to what joins them."""
    for number, layer in enumerate(plan["chain"]):
        place = f"{ROOT}{SOURCES}/{number}"
        os.makedirs(place)
        syscalls.bind(f"{LAYERS}/{layer}", place)
        syscalls.set_mount_attributes(place, READ_ONLY)
    os.mkdir(f"{ROOT}{TARGET}")
    syscalls.bind(f"{LAYERS}/{plan['name']}", f"{ROOT}{TARGET}")


def _mount_area(plan: BoxPlan, area: str, place: str, below: list[str]) -> None:
    target = f"{ROOT}{place}"
    own = f"{LAYERS}/{plan['name']}/{area}"
    if not below:
        syscalls.bind(f"{own}/upper", target)
        return
    lower = ":".join(below)
    options = f"userxattr,lowerdir={lower},upperdir={own}/upper,workdir={own}/work"
    syscalls.mount(area, target, "overlay", PRIVATE, options)


def _chain(plan: BoxPlan, area: str) -> list[str]:
    return [f"{LAYERS}/{layer}/{area}/upper" for layer in plan["chain"]]


def _tell_python(site: SitePlan) -> None:
    place = f"{ROOT}{HOME}"
    for name in (".local", "lib", f"python{site['version']}", "site-packages"):
        place = f"{place}/{name}"
        os.mkdir(place)
    file = os.open(f"{place}/patchkiln.pth", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(file, f"{site['path']}\n".encode())
    finally:
        os.close(file)
