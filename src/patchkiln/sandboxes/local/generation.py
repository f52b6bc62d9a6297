"""The boxes that one sandbox lives in, one after the other.

A snapshot seals the layer of a box for good, so the sandbox goes on in a new box above it.
"""

from dataclasses import dataclass

from patchkiln.domain.repository import Checkout
from patchkiln.sandboxes.local.channel import Channel
from patchkiln.sandboxes.local.zygote_process import ZygoteProcess
from patchkiln.sandboxes.network.sandbox_network import SandboxNetwork


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
    zygote: ZygoteProcess

    async def end(self) -> None:
        """End the box and wait until nothing of it is left. Idempotent."""
        self.channel.close()
        await self.network.close()
        await self.zygote.destroy(self.name)
