"""Events a second that the SQLite store appends: group commit beside one transaction an event.

    python benchmarks/store_append.py [--writers 20] [--events 500] [--rounds 5]

Each writer has a run of its own and waits for every event before it appends the next, as a run
does. The two ways take turns on the same machine; the table shows medians over the rounds.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from patchkiln.domain.event import StatusUpdate
from patchkiln.domain.run import Run, RunRequest
from patchkiln.stores.sqlite import SqliteStore

TARGET_EVENTS_S = 5_000
WAYS = {"group commit": 1000, "one transaction an event": 1}
UPDATE = StatusUpdate(
    event="agent.tool_called",
    message="Ran the tests of the package",
    step="implementation",
    data={"tool": "exec", "argv": ["python", "-m", "pytest", "-q"], "turn": 7},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round gave: the rate, and how long single appends took."""

    events_s: float
    latencies_ms: list[float]

    def percentile(self, share: float) -> float:
        """Return the latency below which a share of the appends lie."""
        return sorted(self.latencies_ms)[int(share * (len(self.latencies_ms) - 1))]


async def measure(path: Path, *, max_batch: int, writers: int, events: int) -> Round:
    """Append with all writers at once, each to a run of its own."""
    store = await SqliteStore.open(path, max_batch=max_batch)
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
    await store.close()
    return Round(events_s=writers * events / duration_s, latencies_ms=latencies_ms)


async def compare(writers: int, events: int, rounds: int) -> dict[str, list[Round]]:
    """Let the ways take turns, each time on a fresh database."""
    results: dict[str, list[Round]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, max_batch in WAYS.items():
            with tempfile.TemporaryDirectory() as directory:
                path = Path(directory) / "bench.db"
                results[name].append(
                    await measure(path, max_batch=max_batch, writers=writers, events=events)
                )
    return results


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Compare two ways to append events.")
    parser.add_argument("--writers", type=int, default=20)
    parser.add_argument("--events", type=int, default=500, help="events of each writer")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    results = asyncio.run(compare(options.writers, options.events, options.rounds))
    print(f"{'way':26} {'events/s':>9} {'min':>7} {'max':>7} {'p50 ms':>7} {'p99 ms':>7}")
    for name, found in results.items():
        rates = [each.events_s for each in found]
        p50, p99 = (statistics.median(each.percentile(at) for each in found) for at in (0.5, 0.99))
        print(
            f"{name:26} {statistics.median(rates):9.0f} {min(rates):7.0f} {max(rates):7.0f}"
            f" {p50:7.2f} {p99:7.2f}"
        )
    print(f"target: {TARGET_EVENTS_S} events/s with group commit")


if __name__ == "__main__":
    main()
