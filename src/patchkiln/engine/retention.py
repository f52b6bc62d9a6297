"""Forgets the events and patches of runs that ended long ago."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from patchkiln.errors import StoreError
from patchkiln.ports.store import Store

DAY_MS = 86_400_000
SWEEP_S = 3600.0
# Small enough that no append waits long behind it.
BATCH_EVENTS = 500
# And a breath in between, for the others who write.
PAUSE_S = 0.01

logger = logging.getLogger(__name__)


@asynccontextmanager
async def retention(store: Store, *, days: int) -> AsyncGenerator[None]:
    """Sweep now and then, for as long as the context lasts; with 0 days never."""
    sweeping = asyncio.create_task(_keep_sweeping(store, days)) if days else None
    try:
        yield
    finally:
        if sweeping is not None:
            sweeping.cancel()
            await asyncio.wait([sweeping])


async def sweep(store: Store, *, days: int) -> int:
    """Forget what is due, batch by batch; return how many batches that took. Raises `StoreError`.

    A run's row stays, and so does its summary.
    """
    ended_before_ms = time.time_ns() // 1_000_000 - days * DAY_MS
    batches = 0
    while await store.prune(ended_before_ms=ended_before_ms, limit=BATCH_EVENTS):
        batches += 1
        await asyncio.sleep(PAUSE_S)
    return batches


async def _keep_sweeping(store: Store, days: int) -> None:
    while True:
        try:
            if await sweep(store, days=days):
                logger.info("forgot the events and patches of runs that ended %d days ago", days)
        except StoreError as error:
            logger.warning("old events could not be removed: %s", error.message)
        await asyncio.sleep(SWEEP_S)
