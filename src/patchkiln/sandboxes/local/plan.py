"""What the server asks the zygote for: a box, as JSON carries it.

Typed dictionaries, because the zygote starts faster without dataclasses.
"""

from typing import TypedDict


class MountPlan(TypedDict):
    """A host directory at a place in the box; ``nameless``: the box is not to see which."""

    source: str
    target: str
    writable: bool
    nameless: bool


class ListenerPlan(TypedDict):
    """A loopback address and port in the box that stand for a host and port outside."""

    name: str
    address: str
    port: int


class LimitsPlan(TypedDict):
    """Hard limits; ``home_bytes`` bounds the home directory, ``shm_bytes`` /dev/shm."""

    memory_bytes: int
    disk_bytes: int
    tmp_bytes: int
    home_bytes: int
    shm_bytes: int
    processes: int
    open_files: int


class SitePlan(TypedDict):
    """Where Python in the box finds the lent packages: its version and their directory."""

    version: str
    path: str


class BoxPlan(TypedDict):
    """One box.

    Its workspace is empty, or what lies in ``base`` with a layer of its own above. ``reviews``
    names the box whose sealed layer lies between, and ``base`` is then shown beside it.
    """

    name: str
    base: str | None
    reviews: str | None
    mounts: list[MountPlan]
    listeners: list[ListenerPlan]
    limits: LimitsPlan
    site: SitePlan | None
