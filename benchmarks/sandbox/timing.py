"""Measuring side by side: rounds in random order, medians, and a table."""

import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

Measure: TypeAlias = Callable[[], Awaitable[float]]
Action: TypeAlias = Callable[[], Awaitable[object]]


async def interleave(measures: Mapping[str, Measure], rounds: int) -> dict[str, list[float]]:
    """Measure each alternative once a round, in random order."""
    times: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name in random.sample(list(measures), len(measures)):
            times[name].append(await measures[name]())
    return times


async def timed(
    action: Action, *, before: Action | None = None, after: Action | None = None
) -> float:
    """Return how many milliseconds an action takes, without what comes before and after."""
    if before is not None:
        await before()
    begin = time.perf_counter()
    await action()
    duration = (time.perf_counter() - begin) * 1000
    if after is not None:
        await after()
    return duration


def print_table(times: Mapping[str, list[float]], *, plain: str) -> None:
    """Print medians, 95th percentiles and the ratio to one of the alternatives."""
    unit = statistics.median(times[plain])
    print(f"{'':46} median ms   p95 ms   x plain")
    for name, row in times.items():
        median = statistics.median(row)
        print(f"{name:46} {median:9.2f} {percentile(row, 0.95):8.2f} {median / unit:9.1f}")


def percentile(row: list[float], share: float) -> float:
    """Return the value below which that share of a row lies."""
    return sorted(row)[min(int(len(row) * share), len(row) - 1)]
