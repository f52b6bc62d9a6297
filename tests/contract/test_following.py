"""Following a run from a process that does not execute it."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from patchkiln.domain.event import StoredEvent
from patchkiln.domain.run import Run
from patchkiln.engine import feed
from patchkiln.engine.feeds import Feeds
from patchkiln.errors import StoreError
from patchkiln.ports.store import Store
from patchkiln.stores import postgres_watch, sqlite_watch
from patchkiln.stores.memory import MemoryStore
from patchkiln.stores.sqlite import SqliteStore
from tests.support import appending
from tests.support.postgres import kill_connections, new_database, own_server
from tests.support.runs import CREATED, DONE, REQUEST, said

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where a store is that several processes can open."""
    if request.param == "sqlite":
        return str(tmp_path / "data" / "patchkiln.db")
    url: str = request.getfixturevalue("postgres_url")
    return url


@asynccontextmanager
async def feeds_over(store: Store) -> AsyncGenerator[Feeds]:
    """Lend feeds, and end them."""
    feeds = Feeds(store)
    try:
        async with asyncio.timeout(60):
            yield feeds
    finally:
        await feeds.close()


@contextmanager
def another_process(database: str, events: int, pause_s: float, runs: list[Run]) -> Generator[None]:
    """Run a process that appends to the runs; it has to end well."""
    ids = [run.id for run in runs]
    process = subprocess.Popen(
        [sys.executable, appending.__file__, database, str(events), str(pause_s), *ids],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )
    try:
        yield
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()


async def created(store: Store) -> Run:
    """Create a run."""
    return (await store.create_run(Run.new(REQUEST), CREATED))[0]


async def seqs(feeds: Feeds, run: Run, *, after: int = 0) -> list[int]:
    """Follow a run to its end."""
    return [event.seq async for batch in feeds.follow(run.id, after=after) for event in batch]


async def live(feeds: Feeds, run: Run) -> tuple[list[int], int]:
    """Follow a run to its end; return every ``seq``, and how often something came."""
    batches = [batch async for batch in feeds.follow(run.id, after=0)]
    return [event.seq for batch in batches for event in batch], len(batches)


async def test_events_of_another_process_come_live_once_and_in_order(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several followers of several runs that are told elsewhere miss, double and swap nothing."""
    for watch in (sqlite_watch, postgres_watch):
        # Without wake-ups it would be the look at all runs that finds them.
        monkeypatch.setattr(watch, "RECONCILE_S", 1000.0)
    store = await appending.open_store(database)
    runs = [await created(store) for _ in range(5)]
    async with feeds_over(store) as feeds:
        followers = [asyncio.create_task(live(feeds, run)) for run in runs for _ in range(3)]
        with another_process(database, 40, 0.01, runs):
            followed = await asyncio.gather(*followers)
    assert [seen for seen, _ in followed] == [list(range(1, 43))] * 15
    # As they came, and not all at the end.
    assert min(batches for _, batches in followed) > 5
    await store.close()


async def test_what_no_wake_up_told_is_found(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where notifications do not come through, the look at all runs has every event, late."""
    for watch in (sqlite_watch, postgres_watch):
        monkeypatch.setattr(watch, "RECONCILE_S", 0.1)
    monkeypatch.setattr(postgres_watch, "CHANNEL", "another_channel")
    monkeypatch.setattr(sqlite_watch, "POLL_S", 1000.0)
    store, other = [await appending.open_store(database) for _ in range(2)]
    run = await created(store)
    async with feeds_over(store) as feeds:
        follower = asyncio.create_task(seqs(feeds, run))
        for _ in range(5):
            await other.append(run.id, [said("a.b")])
            await asyncio.sleep(0.05)
        await other.append(run.id, [DONE])
        assert await follower == list(range(1, 8))
    await store.close()
    await other.close()


async def test_both_processes_may_append(database: str) -> None:
    """Events told here and there make one log, and what is told here overtakes nothing."""
    store, other = [await appending.open_store(database) for _ in range(2)]
    run = await created(store)

    async def tell(feeds: Feeds) -> None:
        for _ in range(50):
            feeds.publish(run.id, await store.append(run.id, [said("a.b")]))
            await other.append(run.id, [said("a.b")])
        await other.append(run.id, [DONE])

    async with feeds_over(store) as feeds:
        followers = [asyncio.create_task(seqs(feeds, run)) for _ in range(3)]
        await tell(feeds)
        assert await asyncio.gather(*followers) == [list(range(1, 103))] * 3
    await store.close()
    await other.close()


async def test_every_follower_gets_all_whenever_it_comes(database: str) -> None:
    """From the beginning, the middle, beyond the end, and after the end."""
    store, other = [await appending.open_store(database) for _ in range(2)]
    run = await created(store)
    async with feeds_over(store) as feeds:
        waiting = [asyncio.create_task(seqs(feeds, run, after=after)) for after in (0, 1, 7, 99)]
        for _ in range(10):
            await other.append(run.id, [said("a.b")])
        late = asyncio.create_task(seqs(feeds, run, after=3))
        await other.append(run.id, [DONE])
        assert await asyncio.gather(*waiting[:3], late) == [
            list(range(1, 13)),
            list(range(2, 13)),
            list(range(8, 13)),
            list(range(4, 13)),
        ]
        assert await seqs(feeds, run, after=12) == []
        assert await seqs(feeds, run, after=50) == []
        waiting[3].cancel()
    await store.close()
    await other.close()


async def test_each_event_is_read_once_for_all_followers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much is read does not depend on how many follow."""
    store, other = [await SqliteStore.open(tmp_path / "x.db") for _ in range(2)]
    run = await created(store)
    beyond, read = store.events_beyond, list[int]()

    async def counted(heads: Mapping[str, int], *, limit: int) -> Mapping[str, list[StoredEvent]]:
        found = await beyond(heads, limit=limit)
        read.extend(event.seq for some in found.values() for event in some)
        return found

    monkeypatch.setattr(store, "events_beyond", counted)
    async with feeds_over(store) as feeds:
        followers = [asyncio.create_task(seqs(feeds, run, after=1)) for _ in range(50)]
        await asyncio.sleep(0.1)
        for _ in range(20):
            await other.append(run.id, [said("a.b")])
        await other.append(run.id, [DONE])
        assert await asyncio.gather(*followers) == [list(range(2, 23))] * 50
    assert set(read) == set(range(2, 23))
    # Twice where two looks fall together, but never fifty times.
    assert len(read) <= 2 * 21
    await store.close()
    await other.close()


async def test_follower_behind_the_ring_reads_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is slow misses nothing, and the ring stays small."""
    monkeypatch.setattr(feed, "RING_EVENTS", 4)
    store = MemoryStore()
    run = await created(store)
    async with feeds_over(store) as feeds, aclosing(feeds.follow(run.id, after=0)) as batches:
        seen = [event.seq for event in await anext(batches)]
        quick = asyncio.create_task(seqs(feeds, run))
        for _ in range(30):
            await asyncio.sleep(0)
            feeds.publish(run.id, await store.append(run.id, [said("a.b")]))
        await store.append(run.id, [DONE])
        assert await quick == list(range(1, 33))
        seen += [event.seq async for batch in batches for event in batch]
    assert seen == list(range(1, 33))


async def test_what_was_told_before_leaves_no_gap_in_the_ring() -> None:
    """Events of long ago are passed over; those beyond a gap are left to the store."""
    store = MemoryStore()
    run = await created(store)
    events = await store.append(run.id, [said("a.b")] * 9)
    ring = feed.Feed(1)
    ring.publish([events[0], events[5]])
    assert (ring.head, ring.since(1)) == (2, [events[0]])
    ring.publish(events[4:])
    ring.publish(events[:2])
    assert (ring.head, ring.since(1)) == (3, events[:2])
    ring.publish(events[6:], after=3)
    assert (ring.head, ring.since(7), ring.since(3)) == (10, events[6:], None)


async def test_nothing_is_watched_while_nobody_follows(tmp_path: Path) -> None:
    """The watch begins with the first follower and ends with the last, again and again."""
    store = await SqliteStore.open(tmp_path / "x.db")
    run = await created(store)
    async with feeds_over(store) as feeds:
        for _ in range(2):
            await unwatched()
            follower = asyncio.create_task(seqs(feeds, run, after=1))
            await watched()
            follower.cancel()
            await asyncio.wait([follower])
        await unwatched()
    assert not watches()
    await store.close()


async def watched() -> None:
    """Return once a watch is under way."""
    while True:
        await asyncio.sleep(0.001)
        if watches():
            return


async def unwatched() -> None:
    """Return once no watch is under way."""
    while True:
        await asyncio.sleep(0.001)
        if not watches():
            return


def watches() -> list[str]:
    """Return the watches over stores that are under way."""
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "store-watch"]


async def test_drain_ends_the_streams(database: str) -> None:
    """A follower of a run that another process executes is let go at shutdown."""
    store = await appending.open_store(database)
    run = await created(store)
    async with feeds_over(store) as feeds:
        follower = asyncio.create_task(seqs(feeds, run))
        await asyncio.sleep(0.05)
        feeds.drain()
        assert await follower == [1]
    await store.close()


async def test_followers_of_a_deleted_run_are_let_go() -> None:
    """A run that ends and is deleted before anyone looks leaves no stream open for ever."""
    store = MemoryStore()
    run = await created(store)
    async with feeds_over(store) as feeds:
        follower = asyncio.create_task(seqs(feeds, run))
        await watched()
        await store.append(run.id, [DONE])
        await store.delete_run(run.id)
        assert await follower == [1]


async def test_streams_stay_open_while_the_store_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower that comes meanwhile waits as well, and gets all when the store is back."""
    store = MemoryStore()
    run = await created(store)
    broken = True
    methods = ("events", "events_beyond", "get_run")

    def failing(method: object) -> object:
        async def ask(*args: object, **kwargs: object) -> object:
            if broken:
                raise StoreError("The database failed.")
            return await method(*args, **kwargs)  # type: ignore[operator]

        return ask

    async with feeds_over(store) as feeds:
        before = asyncio.create_task(seqs(feeds, run))
        await asyncio.sleep(0.01)
        for name in methods:
            monkeypatch.setattr(store, name, failing(getattr(store, name)))
        meanwhile = asyncio.create_task(seqs(feeds, run))
        await store.append(run.id, [said("a.b")])
        await asyncio.sleep(0.05)
        assert not before.done()
        assert not meanwhile.done()
        broken = False
        await store.append(run.id, [DONE])
        assert [await before, await meanwhile] == [[1, 2, 3]] * 2


async def test_streams_outlive_their_database_server() -> None:
    """A server that is stopped and started under followers costs them time, and no event."""
    with own_server() as server, new_database(server.url("postgres")) as url:
        store, other = [await appending.open_store(url) for _ in range(2)]
        run = await created(store)
        async with feeds_over(store) as feeds:
            follower = asyncio.create_task(seqs(feeds, run))
            for _ in range(10):
                await other.append(run.id, [said("a.b")])
            await asyncio.to_thread(server.stop)
            appends = [asyncio.create_task(other.append(run.id, [said("a.b")])) for _ in range(10)]
            await asyncio.sleep(1)
            assert not follower.done()
            await asyncio.to_thread(server.start)
            await asyncio.gather(*appends)
            await other.append(run.id, [DONE])
            assert await follower == list(range(1, 23))
        await store.close()
        await other.close()


async def test_a_watch_whose_connection_is_closed_opens_another(postgres_url: str) -> None:
    """An operator who closes every connection delays a follower, and no more."""
    store, other = [await appending.open_store(postgres_url) for _ in range(2)]
    run = await created(store)
    async with feeds_over(store) as feeds:
        follower = asyncio.create_task(seqs(feeds, run))
        for _ in range(3):
            await other.append(run.id, [said("a.b")])
            await asyncio.sleep(0.1)
            await asyncio.to_thread(kill_connections, postgres_url)
            await other.append(run.id, [said("a.b")])
        await other.append(run.id, [DONE])
        assert await follower == list(range(1, 9))
    await store.close()
    await other.close()


async def test_payload_that_is_followed_is_the_one_that_is_stored(database: str) -> None:
    """Live and replayed events are the same bytes."""
    store, other = [await appending.open_store(database) for _ in range(2)]
    run = await created(store)
    async with feeds_over(store) as feeds:
        follower = asyncio.create_task(frames(feeds, run))
        await other.append(run.id, [said("a.b", text="größe \u2028 \0"), DONE])
        followed = await follower
        assert followed == await frames(feeds, run)
    assert json.loads(followed[1].split(b"data: ")[1])["data"]["text"] == "größe \u2028 \0"
    await store.close()
    await other.close()


async def frames(feeds: Feeds, run: Run) -> list[bytes]:
    """Follow a run to its end and return its frames."""
    return [event.frame() async for batch in feeds.follow(run.id, after=0) for event in batch]
