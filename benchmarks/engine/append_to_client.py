"""Milliseconds from an append in one process to a client of another one.

    python -m benchmarks.engine.append_to_client [--runs 20] [--rate 1000] [--seconds 5]

One process appends at the given rate, spread over the runs. A second one serves the API over the
same database, and a third, this one, holds a stream to every run and compares each event's own
time with the clock. SQLite and Postgres take turns.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from patchkiln.domain.run import Run
from tests.support import appending
from tests.support.postgres import any_server, new_database
from tests.support.runs import CREATED, REQUEST

ROOT = Path(__file__).resolve().parents[2]
TARGETS_MS = {"p50": 10, "p99": 50}
TAKING_UP_S = 5.0


@contextmanager
def database(kind: str, server: str) -> Generator[str]:
    """Lend a fresh database, by its path or URL."""
    if kind == "Postgres":
        with new_database(server) as url:
            yield url
    else:
        with tempfile.TemporaryDirectory() as directory:
            yield str(Path(directory) / "bench.db")


@contextmanager
def api(place: str, data_dir: str) -> Generator[int]:
    """Run `patchkiln serve` over a database, on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {
        **os.environ,
        "PATCHKILN_PORT": str(port),
        "PATCHKILN_DATA_DIR": data_dir,
        "PATCHKILN_DATABASE_URL": place if "://" in place else f"sqlite:///{place}",
        "LOG_LEVEL": "ERROR",
    }
    process = subprocess.Popen([sys.executable, "-m", "patchkiln", "serve"], env=environment)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(timeout=30)


async def ready(session: aiohttp.ClientSession) -> None:
    """Return once the server answers."""
    for _ in range(300):
        try:
            async with session.get("/health"):
                return
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.1)
    sys.exit("the server did not begin to answer")


async def follow(session: aiohttp.ClientSession, run_id: str) -> list[float]:
    """Read a run's stream to its end; return every event's delay in milliseconds."""
    delays: list[float] = []
    expected = 1
    headers = {"Accept": "text/event-stream"}
    async with session.get(f"/runs/{run_id}/events", headers=headers) as answer:
        async for line in answer.content:
            if not line.startswith(b"data: "):
                continue
            now_ns = time.time_ns()
            event = json.loads(line[6:])
            if event["seq"] != expected:
                sys.exit(f"expected event {expected}, got {event['seq']}")
            expected += 1
            if "told_ns" in event["data"]:
                delays.append((now_ns - event["data"]["told_ns"]) / 1e6)
    return delays


async def one_round(place: str, port: int, *, runs: int, rate: int, seconds: int) -> list[float]:
    """Follow all runs while another process appends to them."""
    store = await appending.open_store(place)
    base = f"http://127.0.0.1:{port}"
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(base, timeout=timeout) as session:
        await ready(session)
        # Soon after it is ready the server takes up what it finds unfinished; these are ours.
        await asyncio.sleep(TAKING_UP_S)
        made = [(await store.create_run(Run.new(REQUEST), CREATED))[0].id for _ in range(runs)]
        followers = [asyncio.create_task(follow(session, run_id)) for run_id in made]
        await asyncio.sleep(1)
        writer = await asyncio.create_subprocess_exec(
            sys.executable,
            appending.__file__,
            place,
            str(rate * seconds // runs),
            str(runs / rate),
            *made,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        )
        delays = await asyncio.gather(*followers)
        await writer.wait()
    await store.close()
    return [delay for each in delays for delay in each]


def percentile(values: list[float], share: float) -> float:
    """Return the value below which a share lies."""
    return sorted(values)[int(share * (len(values) - 1))]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure the way from append to client.")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--rate", type=int, default=1000, help="events a second, of all runs")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, list[list[float]]] = {"SQLite": [], "Postgres": []}
    with any_server(durable=True) as server:
        for _ in range(options.rounds):
            for kind, rounds in found.items():
                with (
                    database(kind, server) as place,
                    tempfile.TemporaryDirectory() as data_dir,
                    api(place, data_dir) as port,
                ):
                    delays = one_round(
                        place,
                        port,
                        runs=options.runs,
                        rate=options.rate,
                        seconds=options.seconds,
                    )
                    rounds.append(asyncio.run(delays))
    print(f"{'store':12} {'events':>8} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}")
    for kind, rounds in found.items():
        shown = [
            statistics.median(percentile(each, share) for each in rounds)
            for share in (0.5, 0.99, 1.0)
        ]
        count = sum(map(len, rounds))
        print(f"{kind:12} {count:8} {shown[0]:8.2f} {shown[1]:8.2f} {shown[2]:8.2f}")
    print(f"targets: p50 {TARGETS_MS['p50']} ms, p99 {TARGETS_MS['p99']} ms")


if __name__ == "__main__":
    main()
