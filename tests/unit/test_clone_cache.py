"""The clone cache's bookkeeping: locks, leases, records, and what is dropped first."""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from patchkiln.repositories.cache import Cache, Entry, Record
from patchkiln.repositories.eviction import shrink
from patchkiln.repositories.locks import locked, try_lock

KIB = 1 << 10
HOLD_AND_WAIT = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def record(size_bytes: int = 1) -> Record:
    """Return the record of a checkout without files."""
    return Record(commit="c", branch="main", file_count=0, size_bytes=size_bytes, notes=("a note",))


def add_checkout(entry: Entry, name: str, *, size_bytes: int = 1, used_at: float = 1.0) -> None:
    """Put a checkout into an entry, last used at a time."""
    entry.checkout(name).mkdir(parents=True)
    entry.write(name, record(size_bytes))
    os.utime(entry.state / f"{name}.json", (used_at, used_at))


def add_objects(entry: Entry, size_bytes: int) -> None:
    """Put fetched objects into an entry."""
    packs = entry.directory / "objects.git" / "objects" / "pack"
    packs.mkdir(parents=True)
    (packs / "pack-1.pack").write_bytes(bytes(size_bytes))


class Removals:
    """Removes names below an entry as a sandbox would, and remembers them."""

    def __init__(self) -> None:
        """Begin with nothing removed."""
        self.names: list[str] = []

    async def __call__(self, entry: Entry, names: list[str]) -> None:
        """Remove names below an entry."""
        self.names += names
        command = ["rm", "-rf", "--", *names]
        await asyncio.to_thread(subprocess.run, command, cwd=entry.directory, check=True)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return an empty cache."""
    return Cache(tmp_path / "cache")


async def test_lock_excludes_tasks(tmp_path: Path) -> None:
    """Two tasks never hold one lock at a time, and both get it."""
    inside = 0

    async def enter() -> None:
        nonlocal inside
        async with locked(tmp_path / "lock"):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0.01)
            inside -= 1

    await asyncio.gather(*(enter() for _ in range(5)))


async def test_lock_excludes_processes(tmp_path: Path) -> None:
    """A lock that another process holds is waited for, and granted when that process dies."""
    path = tmp_path / "lock"
    other = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        HOLD_AND_WAIT,
        str(path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert other.stdout is not None
    assert await other.stdout.readline() == b"held\n"
    assert try_lock(path) is None
    waiting = asyncio.create_task(locked(path).__aenter__())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    other.kill()
    await other.wait()
    await waiting


async def end_of_waiting() -> None:
    """Return once every thread that waits for a lock has got it and handed it over."""
    for thread in threading.enumerate():
        if thread.name.startswith("lock "):
            await asyncio.to_thread(thread.join)
    await asyncio.sleep(0)


async def test_waiting_for_a_lock_can_be_cancelled(tmp_path: Path) -> None:
    """A waiter that gives up does not get the lock later, behind everybody's back."""
    path = tmp_path / "lock"
    async with locked(path):
        waiting = asyncio.create_task(locked(path).__aenter__())
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await end_of_waiting()
    lock = try_lock(path)
    assert lock is not None
    os.close(lock)


async def test_deleted_lock_file_is_no_lock(tmp_path: Path) -> None:
    """Who waited for a lock whose file was deleted meanwhile holds the new file's."""
    path = tmp_path / "lock"
    lock = locked(path)
    async with locked(path):
        waiting = asyncio.create_task(lock.__aenter__())
        await asyncio.sleep(0.05)
        path.unlink()
    await waiting
    assert try_lock(path) is None
    await lock.__aexit__(None, None, None)


def test_lock_follows_no_link(tmp_path: Path) -> None:
    """A link in a lock's place is not followed."""
    (tmp_path / "target").touch()
    (tmp_path / "lock").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        try_lock(tmp_path / "lock")


def test_checkout_counts_with_its_record_alone(cache: Cache) -> None:
    """A directory without a record, or a record without its directory, is no checkout."""
    entry = cache.entry("k")
    entry.checkout("half").mkdir(parents=True)
    entry.write("gone", record())
    add_checkout(entry, "whole", size_bytes=7)
    assert entry.read("half") is None
    assert entry.read("gone") is None
    assert entry.read("whole") == record(7)
    assert entry.leftovers() == ["half"]


def test_link_in_a_checkouts_place_is_no_checkout(cache: Cache, tmp_path: Path) -> None:
    """What a sandbox left in the cache is never followed to another place of the host."""
    entry = cache.entry("k")
    entry.checkout("x").parent.mkdir()
    (tmp_path / "elsewhere").mkdir()
    entry.checkout("x").symlink_to(tmp_path / "elsewhere")
    entry.write("x", record())
    assert entry.read("x") is None
    assert entry.lend("x") is None


def test_checkout_in_use_is_not_forgotten(cache: Cache) -> None:
    """A checkout can be dropped only after everyone who uses it gave it back."""
    entry = cache.entry("k")
    add_checkout(entry, "x")
    leases = [lent[1] for lent in (entry.lend("x"), entry.lend("x")) if lent is not None]
    assert len(leases) == 2
    os.close(leases.pop())
    assert not entry.forget("x")
    os.close(leases.pop())
    assert entry.forget("x")
    assert entry.lend("x") is None


def test_cache_is_closed_to_others(cache: Cache, tmp_path: Path) -> None:
    """No other user of the machine can look into the cache or change it."""
    cache.entry("k")
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0


async def test_oldest_checkouts_go_first(cache: Cache) -> None:
    """Above its size the cache drops what was used longest ago, and stops as soon as it fits."""
    entry = cache.entry("k")
    for age, name in enumerate(["new", "middle", "old"]):
        add_checkout(entry, name, size_bytes=10 * KIB, used_at=1000.0 - age)
    remove = Removals()
    await shrink(cache, 15 * KIB, remove)
    assert remove.names == ["checkouts/old", "checkouts/middle"]
    assert list(entry.records()) == ["new"]
    assert not entry.checkout("old").exists()


async def test_what_is_in_use_stays(cache: Cache) -> None:
    """A checkout in use is skipped, however old, and with it the objects of its entry."""
    entry = cache.entry("k")
    add_objects(entry, 10 * KIB)
    add_checkout(entry, "old", size_bytes=10 * KIB, used_at=1.0)
    add_checkout(entry, "new", size_bytes=10 * KIB, used_at=2.0)
    lent = entry.lend("old")
    assert lent is not None
    await shrink(cache, 0, Removals())
    assert list(entry.records()) == ["old"]
    assert entry.store_bytes == 10 * KIB
    os.close(lent[1])


async def test_whole_entries_go_last(cache: Cache) -> None:
    """When no checkout is left to drop, the objects of the least recently used entry go."""
    for age, key in enumerate(["fresh", "stale"]):
        add_objects(cache.entry(key), 10 * KIB)
        cache.entry(key).touch()
        os.utime(cache.entry(key).lock, (1000.0 - age, 1000.0 - age))
    await shrink(cache, 10 * KIB, Removals())
    assert cache.entry("stale").store_bytes == 0
    assert cache.entry("fresh").store_bytes == 10 * KIB


async def test_busy_entry_is_left_alone(cache: Cache) -> None:
    """An entry that is being changed is not touched."""
    entry = cache.entry("k")
    add_checkout(entry, "x", size_bytes=10 * KIB)
    async with locked(entry.lock):
        await shrink(cache, 0, Removals())
    assert list(entry.records()) == ["x"]


async def test_spoiled_objects_go_in_any_case(cache: Cache) -> None:
    """Objects of a fetch that ended badly are deleted though the cache is small and in use."""
    entry = cache.entry("k")
    add_objects(entry, 10 * KIB)
    add_checkout(entry, "x")
    lent = entry.lend("x")
    assert lent is not None
    await shrink(cache, 1 << 30, Removals())
    assert entry.store_bytes == 10 * KIB
    entry.begin()
    await shrink(cache, 1 << 30, Removals())
    assert entry.store_bytes == 0
    assert not entry.spoiled
    assert list(entry.records()) == ["x"]
    os.close(lent[1])


async def test_leftovers_go_in_any_case(cache: Cache) -> None:
    """What a crash left behind is deleted though the cache is small."""
    entry = cache.entry("k")
    add_checkout(entry, "whole")
    entry.checkout(".new").mkdir()
    await shrink(cache, 1 << 30, Removals())
    assert not entry.checkout(".new").exists()
    assert entry.read("whole") is not None
