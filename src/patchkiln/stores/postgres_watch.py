"""Learns from a Postgres server that runs have grown, whichever process appended to them."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any

import psycopg

from patchkiln.stores.postgres_ledger import CHANNEL, announced

RECONCILE_S = 2.0
RETRY_S = 0.5


async def watch_server(
    parameters: Mapping[str, Any],
) -> AsyncGenerator[Mapping[str, int] | None]:
    """Yield every announcement, and None at first, every `RECONCILE_S` and after every failure."""
    while True:
        with suppress(psycopg.Error):
            connection = await psycopg.AsyncConnection.connect(**parameters, autocommit=True)
            async with connection, aclosing(_announcements(connection)) as announcements:
                async for heads in announcements:
                    yield heads
        yield None
        await asyncio.sleep(RETRY_S)


async def _announcements(
    connection: psycopg.AsyncConnection[Any],
) -> AsyncGenerator[Mapping[str, int] | None]:
    await connection.execute(f"LISTEN {CHANNEL}".encode())
    while True:
        yield None
        async with aclosing(connection.notifies(timeout=RECONCILE_S)) as notes:
            async for note in notes:
                yield announced(note.payload)
