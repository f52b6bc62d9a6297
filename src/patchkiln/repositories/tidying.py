"""Tidies the cache beside the runs: no run waits for what another one left behind."""

import asyncio
import logging

from patchkiln.errors import SandboxError
from patchkiln.ports.sandbox import SandboxProvider
from patchkiln.repositories.box import cache_box, remove
from patchkiln.repositories.cache import Cache, Entry
from patchkiln.repositories.eviction import shrink

logger = logging.getLogger(__name__)


class Tidying:
    """Keeps the cache below a size; one round at a time, and another one where one is asked for."""

    def __init__(self, provider: SandboxProvider, cache: Cache, max_bytes: int) -> None:
        """Take what makes boxes, the cache and its size."""
        self._provider = provider
        self._cache = cache
        self._max_bytes = max_bytes
        self._task: asyncio.Task[None] | None = None
        self._asked = False

    @property
    def began(self) -> bool:
        """Tell whether there was a round yet."""
        return self._task is not None

    def begin(self) -> None:
        """Ask for a round from now on."""
        self._asked = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._rounds())

    async def settled(self) -> None:
        """Wait until every round that was asked for is over."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Stop; what is left is for the next server. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _rounds(self) -> None:
        while self._asked:
            self._asked = False
            try:
                await shrink(self._cache, self._max_bytes, self._remove)
            except (SandboxError, OSError):
                logger.warning("The clone cache could not be made smaller.", exc_info=True)

    async def _remove(self, entry: Entry, names: list[str]) -> None:
        async with cache_box(self._provider, entry) as box:
            await remove(box, names)
