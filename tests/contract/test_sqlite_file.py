"""What the SQLite store promises beyond the port: its file, its failures, its migrations."""

import asyncio
import json
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from patchkiln.domain.run import Outcome, Run
from patchkiln.errors import Conflict, NotFound, SettingsError, StoreError
from patchkiln.ports.store import IdempotencyKey
from patchkiln.stores import connect
from patchkiln.stores.schema import HEAD, metadata
from patchkiln.stores.sqlite import SqliteStore
from tests.support import store_process
from tests.support.runs import CREATED, DONE, REQUEST, said

FIRST_REVISION = Path(__file__).with_name("store_0001.sql")
KEY = IdempotencyKey(caller="anonymous", key="k1", fingerprint="f1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a database may be; there is none."""
    return tmp_path / "data" / "patchkiln.db"


@pytest.fixture
async def store(path: Path) -> AsyncGenerator[SqliteStore]:
    """Lend an empty store."""
    opened = await SqliteStore.open(path)
    yield opened
    await opened.close()


async def seqs(store: SqliteStore, run_id: str) -> list[int]:
    """Return the ``seq`` of every event."""
    return [event.seq for event in await store.events(run_id, after=0, limit=100_000)]


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold the database's write lock, as another process would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def run_process(mode: str, path: Path) -> subprocess.Popen[str]:
    """Start a process that writes to the database."""
    return subprocess.Popen(
        [sys.executable, store_process.__file__, mode, str(path)],
        stdout=subprocess.PIPE,
        text=True,
    )


def printed_by(code: str, *arguments: str) -> str:
    """Run Python in a process of its own and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout


def make_file(path: Path, text: str) -> None:
    """Put a text where the database would be."""
    path.parent.mkdir()
    path.write_text(text)


def contents(path: Path) -> bytes:
    """Return the bytes of a file."""
    return path.read_bytes()


def integrity(path: Path) -> str:
    """Return what SQLite says of the file."""
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


async def test_everything_survives_close_and_reopen(path: Path) -> None:
    """Runs, events, patches and keys are there when another process opens the file."""
    store = await SqliteStore.open(path)
    run, _ = await store.create_run(Run.new(REQUEST), CREATED, idempotency=KEY)
    await store.append(run.id, [said("a.b"), DONE])
    await store.save_patch(run.id, b"diff")
    before = await store.get_run(run.id), await store.events(run.id, after=0, limit=10)
    await store.close()
    store = await SqliteStore.open(path)
    assert (await store.get_run(run.id), await store.events(run.id, after=0, limit=10)) == before
    assert await store.get_patch(run.id) == b"diff"
    again, fresh = await store.create_run(Run.new(REQUEST), CREATED, idempotency=KEY)
    assert (again.id, fresh) == (run.id, False)
    with pytest.raises(Conflict):
        await store.append(run.id, [said("a.b")])
    await store.close()


async def test_files_are_for_the_owner_alone(store: SqliteStore, path: Path) -> None:
    """The directory that is made has mode 0700; the database and its log have 0600."""
    await store.create_run(Run.new(REQUEST), CREATED)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes["patchkiln.db"] == modes["patchkiln.db-wal"] == 0o600
    assert set(modes.values()) == {0o600}


async def test_closed_store_leaves_one_file(path: Path) -> None:
    """After `close` no connection is left: the log is back in the database and gone."""
    store = await SqliteStore.open(path)
    await store.create_run(Run.new(REQUEST), CREATED)
    await asyncio.gather(*(store.list_runs() for _ in range(8)))
    await store.close()
    assert [each.name for each in path.parent.iterdir()] == ["patchkiln.db"]


def test_connections_are_set_as_documented(path: Path) -> None:
    """Writers log ahead, sync as the constant says, wait 30 s and enforce foreign keys."""
    make_file(path, "")
    engine = connect.writer_engine(path)
    with engine.connect() as connection:
        values = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        ]
    engine.dispose()
    assert values == ["wal", 1, 30_000, 1]


async def test_any_path_is_a_path(tmp_path: Path) -> None:
    """Characters that mean something in URLs and templates mean nothing here."""
    path = tmp_path / "50%(here)s a?b=c#d&e:f" / "x%20y.db"
    await (await SqliteStore.open(path)).close()
    assert contents(path).startswith(b"SQLite format 3")


async def test_jobs_that_share_a_transaction_fail_alone(store: SqliteStore, path: Path) -> None:
    """In one and the same commit, what cannot be done is refused and the rest is kept."""
    run, ended = [(await store.create_run(Run.new(REQUEST), CREATED))[0] for _ in range(2)]
    await store.append(ended.id, [DONE])
    with locked(path):
        # The first is taken alone and waits for the lock; the others wait together behind it.
        jobs = [
            asyncio.ensure_future(job)
            for job in (
                store.append(run.id, [said("a.b", n=1)]),
                store.append(run.id, [said("a.b", n=2)]),
                store.append(ended.id, [said("a.b")]),
                store.create_run(run, CREATED),
                store.save_patch(run.id, b"diff"),
                store.append("run_no", [said("a.b")]),
                store.delete_run(run.id),
                store.delete_run(ended.id),
                store.append(run.id, [said("a.b", n=3)]),
            )
        ]
        await asyncio.sleep(0)
    results = await asyncio.gather(*jobs, return_exceptions=True)
    failed = [type(result) for result in results if isinstance(result, Exception)]
    assert failed == [Conflict, Conflict, NotFound, Conflict]
    assert await seqs(store, run.id) == [1, 2, 3, 4]
    assert await store.get_patch(run.id) == b"diff"
    with pytest.raises(NotFound):
        await store.get_run(ended.id)


async def test_delete_takes_what_was_appended_just_before(store: SqliteStore, path: Path) -> None:
    """A run that ends and is deleted in one commit is gone with its last events."""
    run, _ = await store.create_run(Run.new(REQUEST), CREATED)
    with locked(path):
        jobs = [
            asyncio.ensure_future(job)
            for job in (store.check(), store.append(run.id, [DONE]), store.delete_run(run.id))
        ]
        await asyncio.sleep(0)
    await asyncio.gather(*jobs)
    with pytest.raises(NotFound):
        await store.events(run.id, after=0, limit=1)


async def test_job_that_fails_half_way_leaves_nothing(store: SqliteStore, path: Path) -> None:
    """A run whose key cannot be stored is not created, and its neighbours are."""
    run, broken = Run.new(REQUEST), Run.new(REQUEST)
    unusable = IdempotencyKey(caller="anonymous", key="k", fingerprint="\ud800")
    with locked(path):
        jobs = [
            asyncio.ensure_future(job)
            for job in (
                store.check(),
                store.create_run(broken, CREATED, idempotency=unusable),
                store.create_run(run, CREATED),
            )
        ]
        await asyncio.sleep(0)
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert isinstance(results[1], UnicodeEncodeError)
    assert (await store.list_runs()).runs == (await store.get_run(run.id),)


async def test_two_stores_on_one_file_see_each_other(path: Path) -> None:
    """Two processes that append to one run by turns leave no gap, and each sees its end."""
    one, two = await SqliteStore.open(path), await SqliteStore.open(path)
    run, _ = await one.create_run(Run.new(REQUEST), CREATED)
    for _ in range(5):
        await one.append(run.id, [said("a.b")])
        await two.append(run.id, [said("a.b")])
    await asyncio.gather(*(each.append(run.id, [said("a.b")]) for each in (one, two) * 10))
    assert await seqs(one, run.id) == list(range(1, 32))
    await two.append(run.id, [DONE])
    with pytest.raises(Conflict):
        await one.append(run.id, [said("a.b")])
    await one.delete_run(run.id)
    with pytest.raises(NotFound):
        await two.append(run.id, [said("a.b")])
    await one.close()
    await two.close()


async def test_locked_database_is_an_error_to_retry(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another process does not let go in time, a write fails retryably; later it works."""
    monkeypatch.setattr(connect, "BUSY_TIMEOUT_S", 0.05)
    store = await SqliteStore.open(path)
    run, _ = await store.create_run(Run.new(REQUEST), CREATED)
    with locked(path):
        with pytest.raises(StoreError, match="locked") as caught:
            await store.append(run.id, [said("a.b")])
        assert caught.value.retryable
        assert await store.get_run(run.id) == run
    await store.append(run.id, [said("a.b")])
    assert await seqs(store, run.id) == [1, 2]
    await store.close()


async def test_full_database_fails_what_it_cannot_hold(store: SqliteStore) -> None:
    """Where SQLite finds no room, a write is a `StoreError` without prompt; with room it works."""
    writer = store._writer  # pyright: ignore[reportPrivateUsage] - only its connection has the fault
    connection = writer._ledger._connection.connection.dbapi_connection  # pyright: ignore[reportPrivateUsage] - as above
    assert connection is not None
    run, _ = await store.create_run(Run.new(REQUEST), CREATED)
    connection.cursor().execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreError) as caught:
        await store.append(run.id, [said("a.b", text="SECRET" * 10_000)])
    assert str(caught.value) == "The database failed: database or disk is full."
    assert "SECRET" not in str(caught.value.__cause__)
    with pytest.raises(StoreError, match="full"):
        await store.save_patch(run.id, b"x" * 100_000)
    connection.cursor().execute("PRAGMA max_page_count = 1000000")
    await store.append(run.id, [said("a.b")])
    assert await seqs(store, run.id) == [1, 2]
    assert await store.get_patch(run.id) is None


async def test_full_disk_loses_nothing_that_was_acknowledged(path: Path) -> None:
    """Where files cannot grow, appends fail as `StoreError`; with room the log goes on gapless."""
    with run_process("fill", path) as process:
        report = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 0
    assert report["all_store_errors"]
    assert str(path.parent) not in report["message"]
    assert report["seq_after"] == report["acknowledged"] + 1
    assert integrity(path) == "ok"
    store = await SqliteStore.open(path)
    assert await seqs(store, report["run_id"]) == list(range(1, report["seq_after"] + 1))
    await store.close()


async def test_killed_writer_loses_no_acknowledged_event(path: Path) -> None:
    """After kill -9 every event that an append returned is there, and the log has no gap."""
    with run_process("write", path) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(300)]
        process.kill()
        lines += process.stdout.readlines()
    acknowledged = [line.split() for line in lines if line.endswith("\n")]
    run_id, last = acknowledged[0][0], max(int(seq) for _, seq in acknowledged)
    assert last >= 300
    store = await SqliteStore.open(path)
    found = await seqs(store, run_id)
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= last
    assert (await store.get_run(run_id)).last_seq == len(found)
    (event,) = await store.append(run_id, [said("a.b")])
    assert event.seq == len(found) + 1
    await store.close()
    assert integrity(path) == "ok"


async def test_closed_store_says_so(path: Path) -> None:
    """What is asked of a closed store is a `StoreError`, and nobody waits for ever."""
    store = await SqliteStore.open(path)
    run, _ = await store.create_run(Run.new(REQUEST), CREATED)
    await store.close()
    for asked in (store.append(run.id, [said("a.b")]), store.get_run(run.id), store.check()):
        with pytest.raises(StoreError, match="closed"):
            await asked


async def test_file_that_is_no_database_is_refused(path: Path) -> None:
    """A file of another kind is a `StoreError` and stays as it is."""
    text = "not a database, " * 100
    make_file(path, text)
    with pytest.raises(StoreError, match="not a database"):
        await SqliteStore.open(path)
    assert contents(path) == text.encode()


async def test_path_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A directory that cannot be made is a `StoreError` that names the cause and no path."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Not a directory") as caught:
        await SqliteStore.open(tmp_path / "file" / "data" / "x.db")
    assert str(tmp_path) not in str(caught.value)


async def test_migrations_lead_to_the_schema(store: SqliteStore, path: Path) -> None:
    """The tables that the revisions make are those that the code uses."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_head_is_the_newest_revision() -> None:
    """The revision that a start looks for is the last one there is, and the only last one."""
    config = Config()
    config.set_main_option("script_location", "patchkiln.stores:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


async def test_database_of_the_first_revision_opens(path: Path) -> None:
    """What the first released tables hold can be read, and added to."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST_REVISION.read_text())
    store = await SqliteStore.open(path)
    queued, ended = await store.unfinished_runs(), await store.get_run("run_ended")
    assert [(run.id, run.request.checks) for run in queued] == [("run_queued", None)]
    assert (ended.outcome, ended.last_seq, ended.request.checks) == (Outcome.CHANGED, 2, ("make",))
    assert await seqs(store, "run_ended") == [1, 2]
    assert await store.get_patch("run_ended") == b"diff\x00\xff"
    again, fresh = await store.create_run(Run.new(REQUEST), CREATED, idempotency=KEY)
    assert (again, fresh) == (ended, False)
    (event,) = await store.append("run_queued", [DONE])
    assert event.seq == 2
    while await store.prune(ended_before_ms=10**15, limit=10):
        pass
    assert await seqs(store, "run_ended") == [2]
    await store.delete_run("run_ended")
    await store.close()


async def test_database_of_a_newer_version_is_refused(path: Path) -> None:
    """A revision that is not known here stops the start with what to do, and changes nothing."""
    await (await SqliteStore.open(path)).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SettingsError, match="newer version") as caught:
        await SqliteStore.open(path)
    assert "PATCHKILN_DATA_DIR" in caught.value.remedy
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [("9999",)]


async def test_failed_migration_leaves_nothing(path: Path) -> None:
    """A migration that breaks off half-way is undone; with its cause gone, the next one works."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE patches (mine)")
    with pytest.raises(StoreError, match="patches already exists"):
        await SqliteStore.open(path)
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
        assert tables == [("patches",)]
        connection.execute("DROP TABLE patches")
    await (await SqliteStore.open(path)).close()


async def test_two_first_starts_at_once_make_one_database(path: Path) -> None:
    """Processes that find no database at the same time both get the same one."""
    stores = await asyncio.gather(*(SqliteStore.open(path) for _ in range(4)))
    run, _ = await stores[0].create_run(Run.new(REQUEST), CREATED)
    assert [await store.get_run(run.id) for store in stores] == [run] * 4
    for store in stores:
        await store.close()


async def test_start_without_migration_does_not_load_alembic(path: Path) -> None:
    """Opening a database that is up to date leaves the migration machinery on disk."""
    await (await SqliteStore.open(path)).close()
    code = (
        "import asyncio, pathlib, sys\n"
        "from patchkiln.stores.sqlite import SqliteStore\n"
        "async def main():\n"
        "    await (await SqliteStore.open(pathlib.Path(sys.argv[1]))).close()\n"
        "asyncio.run(main())\n"
        "print('alembic' in sys.modules)\n"
    )
    assert printed_by(code, str(path)) == "False\n"
