"""What the Postgres store promises beyond the port: several processes, and a server that fails."""

import asyncio
import json
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event

from patchkiln.domain.run import Run
from patchkiln.errors import Conflict, NotFound, SettingsError, StoreError
from patchkiln.ports.store import IdempotencyKey
from patchkiln.stores import postgres_connect
from patchkiln.stores.failures import cause_of
from patchkiln.stores.postgres import PostgresStore
from patchkiln.stores.schema import metadata
from tests.support.postgres import (
    PostgresServer,
    execute,
    kill_connections,
    new_database,
    own_server,
    with_database,
)
from tests.support.runs import CREATED, DONE, REQUEST, said

KEY = IdempotencyKey(caller="anonymous", key="k1", fingerprint="f1")


@pytest.fixture
def empty_url(postgres_server: str) -> Generator[str]:
    """Lend the URL of a database without tables."""
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture
async def store(postgres_url: str) -> AsyncGenerator[PostgresStore]:
    """Lend an empty store."""
    opened = await PostgresStore.open(postgres_url)
    yield opened
    await opened.close()


@pytest.fixture
def server() -> Generator[PostgresServer]:
    """Lend a server of the test's own, to be stopped."""
    with own_server() as started:
        yield started


async def seqs(store: PostgresStore, run_id: str) -> list[int]:
    """Return the ``seq`` of every event."""
    return [event.seq for event in await store.events(run_id, after=0, limit=100_000)]


def writer_connection(store: PostgresStore) -> Connection:
    """Return the writer's own connection, to break it."""
    return store._writer._ledger._connection  # pyright: ignore[reportPrivateUsage] - only it has the fault


async def test_stores_that_share_runs_leave_no_gap(postgres_url: str) -> None:
    """Processes that append to the same runs at once number their events together."""
    stores = [await PostgresStore.open(postgres_url) for _ in range(3)]
    runs = [(await stores[0].create_run(Run.new(REQUEST), CREATED))[0] for _ in range(4)]

    async def tell(store: PostgresStore, run: Run) -> None:
        for number in range(15):
            await store.append(run.id, [said("a.b", n=number)] * (1 + number % 2))

    await asyncio.gather(*(tell(store, run) for store in stores for run in runs * 2))
    for run in runs:
        assert await seqs(stores[0], run.id) == list(range(1, 1 + 1 + 6 * 22))
        assert (await stores[1].get_run(run.id)).last_seq == 133
    await stores[2].append(runs[0].id, [DONE])
    with pytest.raises(Conflict):
        await stores[0].append(runs[0].id, [said("a.b")])
    await stores[1].delete_run(runs[0].id)
    with pytest.raises(NotFound):
        await stores[0].append(runs[0].id, [said("a.b")])
    for store in stores:
        await store.close()


async def test_key_used_in_two_processes_at_once_creates_one_run(postgres_url: str) -> None:
    """Whoever comes second gets the first one's run, however close they come."""
    stores = [await PostgresStore.open(postgres_url) for _ in range(4)]
    for number in range(10):
        key = IdempotencyKey(caller="ci", key=f"k{number}", fingerprint="f")
        made = await asyncio.gather(
            *(store.create_run(Run.new(REQUEST), CREATED, idempotency=key) for store in stores)
        )
        assert [fresh for _, fresh in made].count(True) == 1
        assert len({run.id for run, _ in made}) == 1
    assert len((await stores[0].list_runs()).runs) == 10
    for store in stores:
        await store.close()


@pytest.mark.parametrize("name", ["run\0no", "\0"])
async def test_text_that_no_database_holds_is_not_found(store: PostgresStore, name: str) -> None:
    """An id with a NUL is one that no run has, and harms nobody beside it."""
    run, _ = await store.create_run(Run.new(REQUEST), CREATED)
    beside = asyncio.ensure_future(store.append(run.id, [said("a.b")]))
    for asked in (
        store.get_run(name),
        store.events(name, after=0, limit=1),
        store.get_patch(name),
        store.append(name, [said("a.b")]),
        store.save_patch(name, b""),
        store.delete_run(name),
    ):
        with pytest.raises(NotFound):
            await asked
    assert (await store.list_runs(repository=name)).runs == ()
    assert [event.seq for event in await beside] == [2]


async def test_killed_connections_cost_nothing(store: PostgresStore, postgres_url: str) -> None:
    """Appends under way when an operator closes the connections are done once, and so are reads."""
    run, _ = await store.create_run(Run.new(REQUEST), CREATED)
    done = asyncio.Event()

    async def tell(writer: int) -> int:
        number = 0
        while not done.is_set():
            await store.append(run.id, [said("a.b", writer=writer, number=number)])
            number += 1
        return number

    writers = [asyncio.create_task(tell(writer)) for writer in range(5)]
    for _ in range(5):
        await asyncio.sleep(0.05)
        await asyncio.to_thread(kill_connections, postgres_url)
        await store.get_run(run.id)
    done.set()
    told = await asyncio.gather(*writers)
    events = [json.loads(e.payload) for e in await store.events(run.id, after=1, limit=100_000)]
    assert [body["seq"] for body in events] == list(range(2, sum(told) + 2))
    for writer, count in enumerate(told):
        numbers = [body["data"]["number"] for body in events if body["data"]["writer"] == writer]
        assert numbers == list(range(count))


@pytest.mark.parametrize("reached", [True, False])
async def test_commit_whose_answer_was_lost_is_done_once(
    store: PostgresStore, *, reached: bool
) -> None:
    """Whether the server has committed is asked, not guessed: the event is there once."""
    run, _ = await store.create_run(Run.new(REQUEST), CREATED)
    connection = writer_connection(store)
    broken: list[bool] = []

    def break_off(connection: Connection) -> None:
        if not broken:
            broken.append(True)
            driver: Any = connection.connection.dbapi_connection
            if reached:
                driver.commit()
            driver.close()

    event.listen(connection.engine, "commit", break_off)
    (appended,) = await store.append(run.id, [said("a.b", n=1)])
    assert broken
    assert await store.events(run.id, after=1, limit=10) == [appended]
    (after,) = await store.append(run.id, [said("a.b", n=2)])
    assert after.seq == 3


async def test_server_that_is_gone_for_a_while_costs_time_alone(server: PostgresServer) -> None:
    """Writes wait until it is back, and each is done once; reads say so at once."""
    with new_database(server.url("postgres")) as url:
        store = await PostgresStore.open(url)
        run, _ = await store.create_run(Run.new(REQUEST), CREATED)
        first = [asyncio.create_task(store.append(run.id, [said("a.b")])) for _ in range(20)]
        await asyncio.to_thread(server.stop)
        with pytest.raises(StoreError) as caught:
            await store.get_run(run.id)
        with pytest.raises(StoreError):
            await store.check()
        waiting = [asyncio.create_task(store.append(run.id, [said("a.b")])) for _ in range(20)]
        await asyncio.sleep(1)
        assert not any(append.done() for append in waiting)
        await asyncio.to_thread(server.start)
        await asyncio.gather(*first, *waiting)
        assert await seqs(store, run.id) == list(range(1, 42))
        await store.check()
        await store.close()
    assert caught.value.retryable
    assert "PATCHKILN_DATABASE_URL" in caught.value.remedy
    assert str(server.place) not in caught.value.message


async def test_server_that_stands_still_for_a_while_costs_time_alone(
    server: PostgresServer,
) -> None:
    """Nothing is lost or doubled when a paused machine goes on, and nothing fails meanwhile."""
    store = await PostgresStore.open(server.url("postgres"))
    run, _ = await store.create_run(Run.new(REQUEST), CREATED)
    with server.frozen():
        appends = [asyncio.create_task(store.append(run.id, [said("a.b")])) for _ in range(20)]
        reading = asyncio.create_task(store.get_run(run.id))
        await asyncio.sleep(0.5)
        assert not any(task.done() for task in (*appends, reading))
    await asyncio.gather(*appends)
    await reading
    assert await seqs(store, run.id) == list(range(1, 22))
    await store.close()


async def test_store_closes_while_its_server_is_gone(server: PostgresServer) -> None:
    """What waits for the server then fails, and nobody waits for ever."""
    store = await PostgresStore.open(server.url("postgres"))
    run, _ = await store.create_run(Run.new(REQUEST), CREATED)
    server.stop()
    append = asyncio.create_task(store.append(run.id, [said("a.b")]))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(StoreError):
        await append
    server.start()


async def test_stopped_process_does_not_keep_a_run(
    store: PostgresStore, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that is frozen inside of its transaction loses the lock to the others."""
    monkeypatch.setattr(postgres_connect, "IDLE_IN_TRANSACTION_MS", 200)
    run, _ = await store.create_run(Run.new(REQUEST), CREATED)
    frozen = await PostgresStore.open(postgres_url)
    connection = writer_connection(frozen)
    connection.exec_driver_sql("SELECT * FROM runs FOR UPDATE")
    (event,) = await store.append(run.id, [said("a.b")])
    assert event.seq == 2
    connection.invalidate()
    await frozen.close()


async def test_full_disk_fails_what_it_cannot_hold(store: PostgresStore, postgres_url: str) -> None:
    """A server without room is a `StoreError` at once that says so; with room it goes on."""
    run, _ = await store.create_run(Run.new(REQUEST), CREATED)
    execute(
        postgres_url,
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE 'could not extend file \"base/1/2\"' USING ERRCODE = '53100'; END $$; "
        "CREATE TRIGGER full_disk BEFORE INSERT ON run_events EXECUTE FUNCTION full_disk()",
    )
    with pytest.raises(StoreError) as caught:
        await store.append(run.id, [said("a.b", text="SECRET")])
    assert str(caught.value) == "The database failed: its disk is full."
    assert caught.value.__cause__ is None
    execute(postgres_url, "DROP TRIGGER full_disk ON run_events")
    await store.append(run.id, [said("a.b")])
    assert await seqs(store, run.id) == [1, 2]


async def test_migrations_lead_to_the_schema(store: PostgresStore) -> None:
    """The tables that the revisions make are those that the code uses."""
    with store._readers.connect() as connection:  # pyright: ignore[reportPrivateUsage] - a connection
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


async def test_database_of_a_newer_version_is_refused(postgres_url: str) -> None:
    """A revision that is not known here stops the start with what to do, and changes nothing."""
    execute(postgres_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SettingsError, match="newer version") as caught:
        await PostgresStore.open(postgres_url)
    assert "PATCHKILN_DATABASE_URL" in caught.value.remedy
    assert execute(postgres_url, "SELECT version_num FROM alembic_version") == [("9999",)]


async def test_failed_migration_leaves_nothing(empty_url: str) -> None:
    """A migration that breaks off half-way is undone; with its cause gone, the next one works."""
    execute(empty_url, "CREATE TABLE patches (mine int)")
    with pytest.raises(StoreError, match="DuplicateTable"):
        await PostgresStore.open(empty_url)
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    assert execute(empty_url, tables) == [("patches",)]
    execute(empty_url, "DROP TABLE patches")
    await (await PostgresStore.open(empty_url)).close()


async def test_two_first_starts_at_once_make_one_database(empty_url: str) -> None:
    """Processes that find no tables at the same time both get the same ones."""
    stores = await asyncio.gather(*(PostgresStore.open(empty_url) for _ in range(4)))
    run, _ = await stores[0].create_run(Run.new(REQUEST), CREATED)
    assert [await store.get_run(run.id) for store in stores] == [run] * 4
    for store in stores:
        await store.close()


async def test_closed_store_leaves_no_connection(postgres_url: str) -> None:
    """After `close` the server has no session of it, and what is asked is a `StoreError`."""
    store = await PostgresStore.open(postgres_url)
    await asyncio.gather(*(store.list_runs() for _ in range(8)))
    await store.close()
    count = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'patchkiln'"
    )
    for _ in range(100):
        # The server takes a moment to see that a client has left.
        if execute(postgres_url, count) == [(0,)]:
            break
        await asyncio.sleep(0.05)
    assert execute(postgres_url, count) == [(0,)]
    with pytest.raises(StoreError, match="closed"):
        await store.list_runs()


@pytest.mark.parametrize(
    ("url", "kind", "told"),
    [
        ("postgresql://u:hush@127.0.0.1:1/db", StoreError, "refuses connections"),
        ("postgresql://u:hu/sh@127.0.0.1:1/db", StoreError, ""),
        ("postgresql://u:pass@hush@127.0.0.1:1/db", StoreError, ""),
        ("postgresql://u:hush@nowhere.invalid/db", StoreError, "no address"),
        ("postgresql://u:p@h/db?hush=1", SettingsError, "cannot be read"),
    ],
)
async def test_wrong_url_is_told_without_what_it_holds(
    url: str, kind: type[StoreError | SettingsError], told: str
) -> None:
    """The cause and the remedy, and no part of the URL, whatever part a password was taken for."""
    with pytest.raises(kind) as caught:
        await PostgresStore.open(url)
    assert told in caught.value.message
    assert "PATCHKILN_DATABASE_URL" in caught.value.remedy
    for text in (str(caught.value), caught.value.remedy, str(caught.value.__cause__)):
        assert "hush" not in text
        assert "sh@" not in text


async def test_database_of_another_kind_is_refused(postgres_server: str) -> None:
    """A name that does not exist, and an encoding that cannot hold a prompt."""
    with pytest.raises(StoreError, match="no database of this name"):
        await PostgresStore.open(with_database(postgres_server, "no_such_database"))
    execute(
        postgres_server,
        "CREATE DATABASE test_ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'",
    )
    try:
        with pytest.raises(SettingsError, match="SQL_ASCII") as caught:
            await PostgresStore.open(with_database(postgres_server, "test_ascii"))
        assert "CREATE DATABASE" in caught.value.remedy
    finally:
        execute(postgres_server, "DROP DATABASE test_ascii WITH (FORCE)")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ('FATAL:  password authentication failed for user "hush"', "the user or the password"),
        ('FATAL:  role "hush" does not exist', "no such user"),
        ('FATAL:  database "hush" does not exist', "no database of this name"),
        ("FATAL:  sorry, too many clients already", "too many connections"),
        ("FATAL:  the database system is starting up", "starting up"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1"', "does not let this user in"),
        ("fe_sendauth: no password supplied", "wants a password"),
        ("server closed the connection unexpectedly", "cannot be reached"),
    ],
)
def test_why_no_connection_came_to_be_is_told(text: str, cause: str) -> None:
    """The text of libpq, which names hosts and users, becomes a cause that names none."""
    assert cause in cause_of(text)
    assert "hush" not in cause_of(text)
