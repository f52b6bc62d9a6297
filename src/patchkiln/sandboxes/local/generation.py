"""The boxes that one sandbox lives in, one after the other.

A snapshot seals the layer of a box for good, so the sandbox goes on in a new box above it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from patchkiln.domain.repository import Checkout
from patchkiln.sandboxes.local.box.plan import BoxPlan
from patchkiln.sandboxes.local.channel import Channel, Reply
from patchkiln.sandboxes.network.sandbox_network import SandboxNetwork


class Namespaces(Protocol):
    """What makes boxes, and knows those that it made by name: the zygote, or bubblewrap."""

    name: str
    as_root: bool
    cgroup: int
    # Whether a box's files outlive it, and others can stand on them.
    keeps_layers: bool
    # Whether a box's PID 1 opens ports below 1024 after its birth.
    opens_low_ports: bool

    @property
    def pid(self) -> int:
        """Return the pid of the process that makes them."""
        ...

    @property
    def running(self) -> bool:
        """Tell whether it still serves."""
        ...

    async def create(
        self, plan: BoxPlan, *, start_s: float = ...
    ) -> tuple[Channel, list[int], int]:
        """Make a box; return the line to its PID 1, descriptors and its pid on this machine.

        The descriptors are as many as the plan has places; what they are, the caller checks.
        Raises `StepFailed`, and `SandboxUnavailable` where the maker is gone.
        """
        ...

    async def destroy(self, name: str) -> None:
        """Kill a box and wait until nothing of it is left. Idempotent."""
        ...

    async def hold(self, holder: str, layers: Sequence[str]) -> int:
        """Keep layers until the holder is released; return the bytes that they take."""
        ...

    async def freeze(self, name: str, *, frozen: bool) -> bool:
        """Begin to freeze or thaw a box; tell whether all of it is frozen.

        Raises `StepFailed`, with ``ENOTSUP`` where no control group can.
        """
        ...

    async def measure(self, name: str) -> Reply:
        """Ask what a box uses, as far as control groups and layers tell."""
        ...

    def release(self, holder: str) -> None:
        """Let go of what a holder keeps, soon. Idempotent."""
        ...

    async def stop(self) -> None:
        """End, and with it every box. Idempotent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a box stands on: sealed layers, the latest first, their size, and the base below."""

    layers: tuple[str, ...] = ()
    used_bytes: int = 0
    base: Checkout | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One box, what serves its network, its first process's pid, and the zygote it came from."""

    name: str
    origin: Origin
    channel: Channel
    network: SandboxNetwork
    pid: int
    zygote: Namespaces

    async def end(self) -> None:
        """End the box and wait until nothing of it is left. Idempotent."""
        self.channel.close()
        await self.network.close()
        await self.zygote.destroy(self.name)
