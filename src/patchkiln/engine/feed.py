"""The live end of a run's event log, shared by all in this process who follow it."""

import asyncio
from collections import deque
from collections.abc import Sequence

from patchkiln.domain.event import StoredEvent

RING_EVENTS = 2048


class Feed:
    """A bounded ring of a run's last events. Followers hold a cursor, so a slow one costs nothing.

    ``head`` is the last ``seq`` that it knows of. Whoever falls behind the ring reads the store
    instead.
    """

    def __init__(self, head: int) -> None:
        """Begin after ``head``."""
        self.head = head
        self.followers = 0
        self.closed = False
        self._ring: deque[StoredEvent] = deque(maxlen=RING_EVENTS)
        self._waiters: set[asyncio.Future[None]] = set()

    def publish(self, events: Sequence[StoredEvent], *, after: int | None = None) -> None:
        """Show committed events, as far as they follow the head without a gap.

        ``after`` says that they are all that the store holds after that ``seq``. Without it, what
        lies beyond a gap is left to whoever reads the store.
        """
        if events and after == self.head and events[0].seq > self.head + 1:
            # What lies between is no longer held.
            self._ring.clear()
            self.head = events[0].seq - 1
        for event in events:
            if event.seq == self.head + 1:
                self._ring.append(event)
                self.head = event.seq
        self._wake()

    def close(self) -> None:
        """Tell the followers that no more will come."""
        self.closed = True
        self._wake()

    def since(self, seq: int) -> list[StoredEvent] | None:
        """Return the events after ``seq``, or None where the ring does not reach back so far."""
        behind = self.head - seq
        if behind <= 0:
            return []
        if behind > len(self._ring):
            return None
        # By index from the end, where a deque is quick: every follower asks at every event.
        return [self._ring[-place] for place in range(behind, 0, -1)]

    async def wait(self, seq: int) -> None:
        """Return when there is something after ``seq``, or the feed is closed."""
        while not self.closed and self.head <= seq:
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
