"""`GitRepositories`: the adapter that brings git repositories in."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from patchkiln.domain.repository import Checkout, RepositoryUrl, is_commit_id
from patchkiln.errors import CloneError, RemoteUnreachable
from patchkiln.ports.repository import FetchProgress
from patchkiln.ports.sandbox import SandboxProvider
from patchkiln.repositories.addresses import cache_key, shown
from patchkiln.repositories.box import Tell, fetch_box
from patchkiln.repositories.cache import Cache
from patchkiln.repositories.commands import FetchLimits, Order
from patchkiln.repositories.failures import timed_out
from patchkiln.repositories.fetching import Fetch, resolving
from patchkiln.repositories.reachability import explained
from patchkiln.repositories.tidying import Tidying

MAX_BYTES = 5 << 30
MAX_FILES = 500_000
TIMEOUT_S = 600.0
STALL_S = 60
CACHE_BYTES = 20 << 30


class GitRepositories:
    """Clones through a cache; every git command runs in a box of the provider."""

    def __init__(
        self,
        provider: SandboxProvider,
        cache_dir: Path,
        *,
        max_bytes: int = MAX_BYTES,
        max_files: int = MAX_FILES,
        timeout_s: float = TIMEOUT_S,
        stall_s: int = STALL_S,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """Take what makes boxes, the cache's directory and the limits of one fetch.

        The cache is kept below ``cache_bytes``, but for what is in use.
        """
        self._provider = provider
        self._cache = Cache(cache_dir)
        self._tidying = Tidying(provider, self._cache, cache_bytes)
        self._limits = FetchLimits(
            max_bytes=max_bytes, max_files=max_files, timeout_s=timeout_s, stall_s=stall_s
        )
        # By identity, because equal checkouts may be lent to several runs.
        self._lent: dict[int, tuple[Checkout, int]] = {}

    async def fetch(
        self, url: RepositoryUrl, *, ref: str | None, depth: int
    ) -> AsyncGenerator[FetchProgress | Checkout]:
        """Yield progress, then the checkout, which is in use until `release`."""
        order = Order(url=url, ref=ref, depth=depth, limits=self._limits)
        told: asyncio.Queue[FetchProgress | None] = asyncio.Queue()
        task = asyncio.create_task(self._fetch(order, told.put_nowait))
        task.add_done_callback(lambda _: told.put_nowait(None))
        try:
            while (progress := await told.get()) is not None:
                yield progress
            checkout = self._hand_over(await task)
        finally:
            await _end(task)
        yield checkout

    async def release(self, checkout: Checkout) -> None:
        """Let the cache drop the checkout, once nobody else uses it."""
        lent = self._lent.pop(id(checkout), None)
        if lent is not None:
            os.close(lent[1])

    async def settled(self) -> None:
        """Wait until the cache is as small as it can be after the fetches up to now."""
        await self._tidying.settled()

    async def close(self) -> None:
        """Stop tidying the cache; call it before the provider is closed. Idempotent."""
        await self._tidying.close()

    async def _fetch(self, order: Order, tell: Tell) -> Fetch:
        """Return the fetch with a checkout in use."""
        fetch = self._begin(order, tell)
        with ExitStack() as undo:
            undo.callback(fetch.drop)
            try:
                async with asyncio.timeout(order.limits.timeout_s):
                    await self._run(fetch)
            except TimeoutError as error:
                raise timed_out(shown(order.url), order.limits.timeout_s) from error
            except RemoteUnreachable as error:
                raise await explained(error, order.url) from error
            finally:
                if fetch.wrote or not self._tidying.began:
                    self._tidying.begin()
            undo.pop_all()
        return fetch

    def _begin(self, order: Order, tell: Tell) -> Fetch:
        limits = order.limits
        lend_box = partial(
            fetch_box,
            self._provider,
            order.url,
            stall_s=limits.stall_s,
            max_bytes=limits.max_bytes,
        )
        entry = self._cache.entry(cache_key(order.url))
        return Fetch(order=order, entry=entry, tell=tell, lend_box=lend_box)

    async def _run(self, fetch: Fetch) -> None:
        order = fetch.order
        fetch.entry.touch()
        # A commit's id means the same for ever: where it is there, nobody need be asked.
        if order.ref is not None and is_commit_id(order.ref) and fetch.take(order.ref):
            return
        fetch.tell(resolving(order))
        await fetch.run()

    def _hand_over(self, fetch: Fetch) -> Checkout:
        """Turn what the fetch took into use into a checkout of the caller's."""
        lent, fetch.lent = fetch.lent, None
        if lent is None:
            raise CloneError(f"The checkout of {shown(fetch.order.url)} was lost.")
        record, lease = lent
        checkout = Checkout(
            repository=fetch.order.url.name,
            commit=record.commit,
            branch=record.branch,
            path=fetch.entry.checkout(fetch.order.checkout_name(record.commit)),
            file_count=record.file_count,
            size_bytes=record.size_bytes,
            cached=not fetch.made,
            notes=record.notes,
        )
        self._lent[id(checkout)] = (checkout, lease)
        return checkout


async def _end(task: asyncio.Task[Fetch]) -> None:
    """Stop a fetch that nobody waits for, and give back what nobody was given."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is None:
        task.result().drop()
