"""What the server asks the zygote for: a box, as JSON carries it.

Typed dictionaries, because the zygote starts faster without dataclasses.
"""

from typing import Literal, TypeAlias, TypedDict

from patchkiln.sandboxes.network.places import Place

Purpose: TypeAlias = Literal["work", "review", "flatten"]


class MountPlan(TypedDict):
    """A host directory at a place in the box; ``nameless``: the box is not to see which."""

    source: str
    target: str
    writable: bool
    nameless: bool


class LimitsPlan(TypedDict):
    """Hard limits; ``disk_bytes`` of the box's own layer, ``shm_bytes`` of /dev/shm."""

    memory_bytes: int
    disk_bytes: int
    file_bytes: int
    shm_bytes: int
    processes: int
    open_files: int


class SitePlan(TypedDict):
    """Where Python in the box finds the lent packages: its version and their directory."""

    version: str
    path: str


class BoxPlan(TypedDict):
    """One box, with a layer of its own that bears its name.

    Below the layer lie those of ``chain``, the latest first, and below the workspace's ``base``.
    ``purpose`` is ``work`` but for a box that the server uses for itself: one for ``review`` has
    the chain below its workspace alone, and shows the base beside it; one to ``flatten`` joins the
    chain, seen beside the base, into its own layer. ``shared_proc``: it is shown the machine's own
    /proc, for want of one of its own. ``addresses`` are IPv4 ones of hosts outside, which its
    loopback has too; ``places`` the sockets that it opens and passes out at its birth.
    """

    name: str
    purpose: Purpose
    base: str | None
    chain: list[str]
    mounts: list[MountPlan]
    addresses: list[str]
    places: list[Place]
    limits: LimitsPlan
    site: SitePlan | None
    shared_proc: bool
