"""What a run's agent keeps between its turns, and how a later process finds it again.

The state and the patch of the workspace belong together, so the state, which is kept last, names
its patch: whoever dies between the two has kept nothing new.
"""

import json
from dataclasses import dataclass, field

from patchkiln.domain.run import Run
from patchkiln.pipeline.patching import work_of
from patchkiln.ports.sandbox import Sandbox
from patchkiln.ports.store import Store

# The names under which the store has them.
STATE = "agent-state"
PATCHES = ("agent-patch-0", "agent-patch-1")
MAX_STATE_BYTES = 16 << 20
MAX_PATCH_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a process that is gone has kept: the agent's state, and the workspace's patch.

    ``patch_name`` is the patch's in the store, None where nothing had been changed.
    """

    state: bytes
    patch: bytes
    patch_name: str | None


@dataclass(slots=True, kw_only=True)
class RunMemory:
    """A `Memory` in the store. The workspace is the base, with the patch that was ``kept``."""

    run: Run
    store: Store
    sandbox: Sandbox
    commit: str
    kept: Kept | None
    _patch_name: str | None = field(init=False)
    _lost: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        """Begin with the patch of before."""
        self._patch_name = None if self.kept is None else self.kept.patch_name

    @property
    def state(self) -> bytes | None:
        """Return the agent's state of before."""
        return None if self.kept is None else self.kept.state

    async def keep(self, state: bytes, *, changed: bool) -> None:
        """Keep a state with the workspace as it is now."""
        if self._lost or len(state) > MAX_STATE_BYTES:
            return
        if changed:
            patch = await work_of(self.sandbox, self.commit, max_bytes=MAX_PATCH_BYTES)
            if patch is None:
                # A state without its workspace would mislead the agent: the older pair stays.
                self._lost = True
                return
            self._patch_name = PATCHES[self._patch_name == PATCHES[0]]
            await self._put(self._patch_name, patch)
        head = json.dumps({"patch": self._patch_name}).encode()
        await self._put(STATE, head + b"\n" + state)

    async def _put(self, name: str, data: bytes) -> None:
        await self.store.keep(self.run.id, name, data, epoch=self.run.epoch)


async def kept_of(run: Run, store: Store) -> Kept | None:
    """Return what a run's agent has kept, None where there is nothing."""
    data = await store.kept(run.id, STATE)
    if not data:
        return None
    head, _, state = data.partition(b"\n")
    name = json.loads(head)["patch"]
    patch = None if name is None else await store.kept(run.id, name)
    return Kept(state=state, patch=patch or b"", patch_name=name)
