"""A process that appends to runs of a store, for those who follow them in another process.

    python appending.py DATABASE EVENTS PAUSE_S [RUN ...]

DATABASE is the path of a SQLite file or the URL of a Postgres database. It appends EVENTS events
to each run, all runs side by side, and then the summary.
"""

import asyncio
import sys
import time
from pathlib import Path

from patchkiln.domain.event import StatusUpdate
from patchkiln.ports.store import Store
from patchkiln.stores.postgres import PostgresStore
from patchkiln.stores.sqlite import SqliteStore
from tests.support.runs import DONE


async def open_store(database: str) -> Store:
    """Open a store by its path or URL."""
    if "://" in database:
        return await PostgresStore.open(database)
    return await SqliteStore.open(Path(database))


async def main(database: str, events: int, pause_s: float, run_ids: list[str]) -> None:
    """Append to all runs."""
    store = await open_store(database)

    async def tell(run_id: str) -> None:
        for number in range(events):
            data = {"number": number, "told_ns": time.time_ns()}
            await store.append(run_id, [StatusUpdate(event="a.b", message="Told", data=data)])
            await asyncio.sleep(pause_s)
        await store.append(run_id, [DONE])

    await asyncio.gather(*map(tell, run_ids))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
