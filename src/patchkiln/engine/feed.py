"""The live end of a run's event log, shared by all who follow it."""

import asyncio
from collections import deque
from collections.abc import Sequence

from patchkiln.domain.event import StoredEvent

RING_EVENTS = 2048


class Feed:
    """A bounded ring of a run's last events. Followers hold a cursor, so a slow one costs nothing.

    Whoever falls behind the ring reads the store instead.
    """

    def __init__(self) -> None:
        """Start empty and open."""
        self._ring: deque[StoredEvent] = deque(maxlen=RING_EVENTS)
        self._waiters: set[asyncio.Future[None]] = set()
        self.closed = False

    def publish(self, events: Sequence[StoredEvent]) -> None:
        """Show events that the store has committed, in their order."""
        self._ring.extend(events)
        self._wake()

    def close(self) -> None:
        """Tell the followers that no more will come from this process."""
        self.closed = True
        self._wake()

    def since(self, seq: int) -> list[StoredEvent] | None:
        """Return the events after ``seq``, or None where the ring does not reach back so far."""
        if not self._ring or seq < self._ring[0].seq - 1:
            return None
        behind = self._ring[-1].seq - seq
        # By index from the end, where a deque is quick: every follower asks at every event.
        return [self._ring[-place] for place in range(behind, 0, -1)]

    async def wait(self, seq: int) -> None:
        """Return when there is something after ``seq``, or the feed is closed."""
        while not self.closed and not (self._ring and self._ring[-1].seq > seq):
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
