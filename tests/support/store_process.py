"""A process that writes to a store until it is killed, or until its disk is full.

    python store_process.py write|fill DATABASE

``write`` appends for ever and prints each acknowledged ``seq``. ``fill`` lets no file of this
process grow, appends until the store fails, gives the room back and appends again; it prints what
happened as one JSON object.
"""

import asyncio
import json
import resource
import sys
from pathlib import Path

from patchkiln.domain.event import StatusUpdate
from patchkiln.domain.run import Run, RunRequest
from patchkiln.errors import StoreError
from patchkiln.stores.sqlite import SqliteStore

ROOM_BYTES = 256 * 1024
NO_ROOM_BYTES = 1024
UPDATE = StatusUpdate(event="a.b", message="x" * 2000)
REQUEST = RunRequest(repo_url="https://example.org/a/b", repository="b", prompt="Do it")


async def main(mode: str, path: Path) -> None:
    """Create a run and write."""
    store = await SqliteStore.open(path)
    run, _ = await store.create_run(Run.new(REQUEST), UPDATE)
    await (write if mode == "write" else fill)(store, run.id)
    await store.close()


async def write(store: SqliteStore, run_id: str) -> None:
    """Append from several tasks for as long as the process lives."""

    async def tell() -> None:
        while True:
            events = await store.append(run_id, [UPDATE, UPDATE])
            print(run_id, events[-1].seq, flush=True)  # noqa: T201 - the parent reads it

    await asyncio.gather(*(tell() for _ in range(5)))


async def fill(store: SqliteStore, run_id: str) -> None:
    """Append into a full disk, and once more when there is room."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM_BYTES, most))
    acknowledged = 1
    errors: list[BaseException] = []
    while not errors:
        results = await asyncio.gather(
            *(store.append(run_id, [UPDATE]) for _ in range(10)), return_exceptions=True
        )
        acknowledged += sum(isinstance(result, list) for result in results)
        errors = [result for result in results if isinstance(result, BaseException)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (NO_ROOM_BYTES, most))
    checked = await asyncio.gather(store.check(), return_exceptions=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    (after,) = await store.append(run_id, [UPDATE])
    await store.check()
    failed = [*errors, *checked]
    report = {
        "run_id": run_id,
        "acknowledged": acknowledged,
        "seq_after": after.seq,
        "all_store_errors": all(isinstance(error, StoreError) for error in failed),
        "message": str(errors[0]),
    }
    print(json.dumps(report))  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
