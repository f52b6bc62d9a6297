"""Everyone in this process who follows a run: one feed a run, one watch over the store for all."""

import asyncio
import logging
import math
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Generator,
    Sequence,
)
from contextlib import ExitStack, aclosing, contextmanager, suppress
from typing import ParamSpec, TypeVar

from patchkiln.domain.event import StoredEvent
from patchkiln.engine.feed import Feed
from patchkiln.engine.unforeseen import log_unforeseen
from patchkiln.errors import StoreError
from patchkiln.ports.store import Store

REPLAY_EVENTS = 500
STORE_RETRY_S = 0.5

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)


class Feeds:
    """The feeds of the runs that are followed, whichever process executes them.

    Each is fed once, by the watch and, sooner, by the run itself where it is executed here. While
    nobody follows anything, nothing is watched.
    """

    def __init__(self, store: Store) -> None:
        """Take the store that holds the runs."""
        self._store = store
        self._feeds: dict[str, Feed] = {}
        self._told: dict[str, float] = {}
        self._drained = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    async def follow(self, run_id: str, *, after: int) -> AsyncGenerator[list[StoredEvent]]:
        """Yield batches of a run's events: what is there, then what comes.

        Ends after the summary, and without one at `drain`, or when the run is deleted. A store
        that fails is waited for. Raises `NotFound`.
        """
        with ExitStack() as held:
            feed: Feed | None = None
            while True:
                batch = None if feed is None else feed.since(after)
                if batch is None:
                    batch = await self._patiently(self._page, run_id, after)
                if batch:
                    yield batch
                    after = batch[-1].seq
                    if batch[-1].last:
                        return
                elif self._drained.is_set() or (feed is not None and feed.closed):
                    return
                elif feed is None:
                    run = await self._patiently(self._store.get_run, run_id)
                    if run is not None and run.finished and after >= run.last_seq:
                        return
                    head = 0 if run is None else min(after, run.last_seq)
                    feed = held.enter_context(self._lease(run_id, head))
                    if feed.followers == 1:
                        # What came between the look and the lease.
                        await self._catch_up([run_id])
                else:
                    await feed.wait(after)

    def publish(self, run_id: str, events: Sequence[StoredEvent]) -> None:
        """Show events that this process has appended, before the watch comes upon them."""
        feed = self._feeds.get(run_id)
        if feed is not None:
            feed.publish(events)

    def drain(self) -> None:
        """Let every stream end. Idempotent."""
        self._drained.set()
        self._close_feeds()

    async def close(self) -> None:
        """End the streams and the watch. Idempotent."""
        self.drain()
        watch = self._stop_watch()
        if watch is not None:
            await asyncio.wait([watch])

    async def _page(self, run_id: str, after: int) -> list[StoredEvent]:
        return await self._store.events(run_id, after=after, limit=REPLAY_EVENTS)

    async def _patiently(
        self, ask: Callable[Asked, Awaitable[Answer]], *args: Asked.args, **kwargs: Asked.kwargs
    ) -> Answer | None:
        """Ask the store until it answers; None where the streams are drained before it does."""
        while True:
            try:
                return await ask(*args, **kwargs)
            except StoreError as error:
                if self._drained.is_set():
                    return None
                logger.warning("a stream waits for the store: %s", error.message)
            with suppress(TimeoutError):
                async with asyncio.timeout(STORE_RETRY_S):
                    await self._drained.wait()

    @contextmanager
    def _lease(self, run_id: str, head: int) -> Generator[Feed]:
        feed = self._feeds.get(run_id)
        if feed is None:
            feed = self._feeds[run_id] = Feed(head)
        if self._watch is None:
            self._watch = asyncio.create_task(self._keep_watch(), name="store-watch")
            self._watch.add_done_callback(self._watch_ended)
        feed.followers += 1
        try:
            yield feed
        finally:
            feed.followers -= 1
            if not feed.followers:
                del self._feeds[run_id]
            if not self._feeds:
                self._stop_watch()

    async def _keep_watch(self) -> None:
        told = asyncio.Event()
        async with asyncio.TaskGroup() as tasks, aclosing(self._store.changes()) as changes:
            # Apart, so that what is told while the store is read is read together next time.
            tasks.create_task(self._keep_catching_up(told))
            async for heads in changes:
                self._told.update(dict.fromkeys(self._feeds, math.inf) if heads is None else heads)
                told.set()

    async def _keep_catching_up(self, told: asyncio.Event) -> None:
        while True:
            await told.wait()
            told.clear()
            heads, self._told = self._told, {}
            await self._catch_up(
                [
                    run_id
                    for run_id, seq in heads.items()
                    if run_id in self._feeds and self._feeds[run_id].head < seq
                ]
            )

    async def _catch_up(self, run_ids: Collection[str]) -> None:
        """Show what the store has beyond the heads of the feeds; close those of deleted runs."""
        while heads := {name: self._feeds[name].head for name in run_ids if name in self._feeds}:
            try:
                found = await self._store.events_beyond(heads, limit=REPLAY_EVENTS)
            except StoreError as error:
                # The watch comes again, whether the store tells of something or not.
                logger.warning("the store cannot be read: %s", error.message)
                return
            for run_id, head in heads.items():
                self._show(run_id, found.get(run_id), head)
            if sum(map(len, found.values())) < REPLAY_EVENTS:
                return

    def _show(self, run_id: str, events: Sequence[StoredEvent] | None, head: int) -> None:
        feed = self._feeds.get(run_id)
        if feed is None:
            return
        if events is None:
            feed.close()
        else:
            feed.publish(events, after=head)

    def _stop_watch(self) -> asyncio.Task[None] | None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
        return watch

    def _watch_ended(self, watch: asyncio.Task[None]) -> None:
        """Let the streams end where the watch broke: their readers come back, to a new one."""
        error = None if watch.cancelled() else watch.exception()
        if error is not None:
            log_unforeseen(error, "the watch over the store")
            self._watch = None
            self._close_feeds()

    def _close_feeds(self) -> None:
        for feed in self._feeds.values():
            feed.close()
