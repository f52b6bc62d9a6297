"""Names to addresses, by the machine's own resolver, which must hold up nothing else."""

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from patchkiln.domain.addresses import IPAddress

LOOKUP_S = 15.0
# Of one sandbox at a time, which can make names that resolve slowly: some threads stay for others.
_MAX_LOOKUPS = 2
_MAX_PINNED = 1024
# Threads of their own: the loop's are for all.
_THREADS = ThreadPoolExecutor(max_workers=16, thread_name_prefix="resolver")


class NotFound(Exception):
    """A name has no address, or none came in time."""


class Resolver:
    """Resolves each name once: a name that leads elsewhere later changes nothing."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._pinned: dict[str, asyncio.Task[tuple[IPAddress, ...]]] = {}
        self._free = asyncio.Semaphore(_MAX_LOOKUPS)

    async def addresses(self, name: str) -> tuple[IPAddress, ...]:
        """Return the addresses of a name, or the address itself. Raises `NotFound`."""
        try:
            return (ipaddress.ip_address(name),)
        except ValueError:
            pass
        if name not in self._pinned:
            self._make_room()
            task = self._pinned[name] = asyncio.create_task(self._look_up(name))
            task.add_done_callback(_note_end)
        try:
            return await asyncio.shield(self._pinned[name])
        except NotFound:
            self.forget(name)
            raise

    def forget(self, name: str) -> None:
        """Resolve a name anew when it is asked for next; the answer will be judged like the first.

        For names whose addresses no longer answer.
        """
        self._pinned.pop(name, None)

    async def close(self) -> None:
        """Stop waiting for answers. Idempotent."""
        tasks = list(self._pinned.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _make_room(self) -> None:
        if len(self._pinned) >= _MAX_PINNED:
            self._pinned.pop(next(iter(self._pinned))).cancel()

    async def _look_up(self, name: str) -> tuple[IPAddress, ...]:
        loop = asyncio.get_running_loop()
        look_up = partial(socket.getaddrinfo, name, None, type=socket.SOCK_STREAM)
        try:
            async with self._free, asyncio.timeout(LOOKUP_S):
                found = await loop.run_in_executor(_THREADS, look_up)
        except (OSError, UnicodeError, TimeoutError) as error:
            raise NotFound from error
        texts = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
        return tuple(ipaddress.ip_address(text) for text in texts)


def _note_end(task: asyncio.Task[tuple[IPAddress, ...]]) -> None:
    """Take notice of a failure that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
