"""The boxes that one sandbox lives in, one after the other.

A snapshot seals the layer of a box for good, so the sandbox goes on in a new box above it.
"""

from dataclasses import dataclass

from patchkiln.domain.repository import Checkout
from patchkiln.sandboxes.local.channel import Channel
from patchkiln.sandboxes.local.network import Gateway
from patchkiln.sandboxes.local.zygote_process import ZygoteProcess


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a box stands on: sealed layers, the latest first, their size, and the base below."""

    layers: tuple[str, ...] = ()
    used_bytes: int = 0
    base: Checkout | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One box, its first process's pid on this machine, and the zygote that it came from."""

    name: str
    origin: Origin
    channel: Channel
    gateway: Gateway
    pid: int
    zygote: ZygoteProcess
