"""Prints the tables that are asked for."""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.sandbox.commands import commands
from benchmarks.sandbox.forks import forks
from benchmarks.sandbox.memory import memory
from benchmarks.sandbox.streams import streams
from benchmarks.sandbox.timing import Action
from benchmarks.sandbox.workspace import workspace
from patchkiln.sandboxes.local.provider import LocalSandboxes

ROUNDS = 100


async def measure(directory: Path, rounds: int, names: set[str]) -> None:
    """Measure one table after the other on one provider."""
    provider = LocalSandboxes(directory / "data")
    begin = time.perf_counter()
    isolation = await provider.isolation()
    duration_ms = (time.perf_counter() - begin) * 1000
    print(f"self-test: {duration_ms:.0f} ms, level {isolation.level}")
    tables: dict[str, Action] = {
        "commands": lambda: commands(provider, directory, rounds),
        "forks": lambda: forks(provider, directory),
        "memory": lambda: memory(provider),
        "streams": lambda: streams(provider),
        "workspace": lambda: workspace(provider, directory),
    }
    try:
        for name, table in tables.items():
            if not names or name in names:
                print()
                await table()
    finally:
        await provider.close()


def main() -> None:
    """Read the arguments."""
    words = sys.argv[1:]
    rounds = int(words.pop(0)) if words and words[0].isdecimal() else ROUNDS
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(measure(Path(directory), rounds, set(words)))


if __name__ == "__main__":
    main()
