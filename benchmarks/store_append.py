"""Events a second that the stores append: SQLite and Postgres, with group commit and without.

    python -m benchmarks.store_append [--writers 20] [--events 500] [--rounds 5]

Each writer has a run of its own and waits for every event before it appends the next, as a run
does. The ways take turns on the same machine; the table shows medians over the rounds. Postgres is
the server of $TEST_DATABASE_URL, else a new one with its default settings.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from patchkiln.domain.event import StatusUpdate
from patchkiln.domain.run import Run, RunRequest
from patchkiln.ports.store import Store
from patchkiln.stores.postgres import PostgresStore
from patchkiln.stores.sqlite import SqliteStore
from tests.support.postgres import any_server, new_database

GROUPS = 1000
ALONE = 1
TARGETS_EVENTS_S = {"SQLite": 5_000, "Postgres": 3_000}
UPDATE = StatusUpdate(
    event="agent.tool_called",
    message="Ran the tests of the package",
    step="implementation",
    data={"tool": "exec", "argv": ["python", "-m", "pytest", "-q"], "turn": 7},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to append: a database, and how many appends may share a transaction."""

    database: str
    max_batch: int

    @property
    def name(self) -> str:
        """Return its line in the table."""
        kind = "group commit" if self.max_batch == GROUPS else "one transaction an event"
        return f"{self.database}, {kind}"

    @contextmanager
    def place(self, server: str) -> Generator[str]:
        """Lend a fresh database, by its path or URL."""
        if self.database == "SQLite":
            with tempfile.TemporaryDirectory() as directory:
                yield str(Path(directory) / "bench.db")
        else:
            with new_database(server) as url:
                yield url

    async def open(self, place: str) -> Store:
        """Open the store."""
        if self.database == "SQLite":
            return await SqliteStore.open(Path(place), max_batch=self.max_batch)
        return await PostgresStore.open(place, max_batch=self.max_batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round gave: the rate, and how long single appends took."""

    events_s: float
    latencies_ms: list[float]

    def percentile(self, share: float) -> float:
        """Return the latency below which a share of the appends lie."""
        return sorted(self.latencies_ms)[int(share * (len(self.latencies_ms) - 1))]


async def measure(store: Store, *, writers: int, events: int) -> Round:
    """Append with all writers at once, each to a run of its own."""
    request = RunRequest(repo_url="https://example.org/a/b", repository="b", prompt="Do it")
    runs = [(await store.create_run(Run.new(request), UPDATE))[0] for _ in range(writers)]
    latencies_ms: list[float] = []

    async def write(run: Run) -> None:
        for _ in range(events):
            began = time.perf_counter()
            await store.append(run.id, [UPDATE])
            latencies_ms.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(write(run) for run in runs))
    duration_s = time.perf_counter() - began
    return Round(events_s=writers * events / duration_s, latencies_ms=latencies_ms)


async def one_round(way: Way, place: str, *, writers: int, events: int) -> Round:
    """Measure one way on a fresh database."""
    store = await way.open(place)
    result = await measure(store, writers=writers, events=events)
    await store.close()
    return result


def compare(server: str, *, writers: int, events: int, rounds: int) -> dict[Way, list[Round]]:
    """Let the ways take turns."""
    results: dict[Way, list[Round]] = {
        Way(database=database, max_batch=max_batch): []
        for database in TARGETS_EVENTS_S
        for max_batch in (GROUPS, ALONE)
    }
    for _ in range(rounds):
        for way, found in results.items():
            with way.place(server) as place:
                # Alone it is an order of magnitude slower, and as steady with fewer events.
                count = events if way.max_batch == GROUPS else max(1, events // 5)
                found.append(asyncio.run(one_round(way, place, writers=writers, events=count)))
    return results


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Compare the ways to append events.")
    parser.add_argument("--writers", type=int, default=20)
    parser.add_argument("--events", type=int, default=500, help="events of each writer")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with any_server(durable=True) as server:
        results = compare(
            server, writers=options.writers, events=options.events, rounds=options.rounds
        )
    columns = ("events/s", "min", "max", "p50 ms", "p99 ms", "target")
    print(f"{'way':36}" + "".join(f"{column:>9}" for column in columns))
    for way, found in results.items():
        rates = [each.events_s for each in found]
        p50, p99 = (statistics.median(each.percentile(at) for each in found) for at in (0.5, 0.99))
        target = TARGETS_EVENTS_S[way.database] if way.max_batch == GROUPS else ""
        print(
            f"{way.name:36}{statistics.median(rates):9.0f}{min(rates):9.0f}{max(rates):9.0f}"
            f"{p50:9.2f}{p99:9.2f}{target:>9}"
        )


if __name__ == "__main__":
    main()
