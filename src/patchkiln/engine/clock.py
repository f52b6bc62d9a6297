"""Moments of the log by this process's own clock."""

import time


def now_ms() -> int:
    """Return the milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def monotonic_s(at_ms: int) -> float:
    """Return a past moment as `time.monotonic` would have told it; where clocks went back, now."""
    return time.monotonic() - max(now_ms() - at_ms, 0) / 1000
