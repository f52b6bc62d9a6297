"""What an engine counts since its start, for those who watch the server."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from patchkiln.domain.event import StatusUpdate


@dataclass(slots=True, kw_only=True)
class Metrics:
    """Gauges and counters; ``finished`` is by outcome and verdict."""

    queued: set[str] = field(default_factory=set[str])
    running: set[str] = field(default_factory=set[str])
    streams: int = 0
    events: int = 0
    finished: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])

    def created(self, run_id: str) -> None:
        """Count a run that waits, and the event that it was created with."""
        self.queued.add(run_id)
        self.events += 1

    def waits(self, run_id: str) -> None:
        """Count a run that was created before this process began."""
        self.queued.add(run_id)

    def started(self, run_id: str) -> None:
        """Count a run that has a slot."""
        self.queued.discard(run_id)
        self.running.add(run_id)

    def told(self, run_id: str, update: StatusUpdate) -> None:
        """Count an event that the store has committed."""
        self.events += 1
        if update.summary is not None:
            end = str(update.summary.get("outcome")), str(update.summary.get("verdict"))
            self.finished[end] += 1
            self.ended(run_id)

    def ended(self, run_id: str) -> None:
        """Forget a run that neither waits nor runs any more. Idempotent."""
        self.queued.discard(run_id)
        self.running.discard(run_id)

    @contextmanager
    def stream(self) -> Generator[None]:
        """Count a follower while it follows."""
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1
