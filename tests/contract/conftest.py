"""What several contract suites ask for."""

import asyncio
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import pytest

from patchkiln.stores.postgres import PostgresStore
from tests.support.postgres import any_server, database_of, new_database


@pytest.fixture(scope="session")
def postgres_server() -> Generator[str]:
    """Lend the URL of a Postgres server for the whole session."""
    with any_server() as url:
        yield url


@pytest.fixture(scope="session")
def migrated_database(postgres_server: str) -> Generator[str]:
    """Lend the name of an empty database with the tables in it, to be copied."""

    async def migrate(url: str) -> None:
        await (await PostgresStore.open(url)).close()

    with new_database(postgres_server) as url, ThreadPoolExecutor(1) as beside:
        # An event loop runs here already where an asynchronous fixture asks for this one.
        beside.submit(asyncio.run, migrate(url)).result()
        yield database_of(url)


@pytest.fixture
def postgres_url(postgres_server: str, migrated_database: str) -> Generator[str]:
    """Lend the URL of an empty database with the tables in it."""
    with new_database(postgres_server, template=migrated_database) as url:
        yield url
