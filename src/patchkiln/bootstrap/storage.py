"""Opens the store that the settings name."""

import asyncio
import sqlite3

from patchkiln.ports.store import Store
from patchkiln.settings import Settings
from patchkiln.stores.sqlite import SqliteStore


async def open_store(settings: Settings) -> Store:
    """Open the store, its tables made or migrated. Raises `SettingsError` and `StoreError`."""
    if settings.postgres_url is None:
        return await SqliteStore.open(settings.database_path)
    from patchkiln.stores.postgres import PostgresStore  # noqa: PLC0415 - a driver of 0.1 s

    return await PostgresStore.open(settings.postgres_url)


async def describe_store(settings: Settings) -> str:
    """Return what kind of store the settings name, and change nothing in it.

    Raises `SettingsError` and `StoreError` for a server that cannot be used.
    """
    if settings.postgres_url is None:
        return f"SQLite {sqlite3.sqlite_version} in {settings.database_path.parent}"
    from patchkiln.stores.postgres import describe  # noqa: PLC0415 - as above

    return await asyncio.to_thread(describe, settings.postgres_url)
