"""Runs in memory, gone with the process: for tests and for `patchkiln run`."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace

from patchkiln.domain.event import StatusUpdate, StoredEvent
from patchkiln.domain.run import Run, RunStatus
from patchkiln.ports.store import IdempotencyKey, RunPage
from patchkiln.stores.log import (
    check_deletable,
    check_epoch,
    check_same_request,
    grow,
    no_such_run,
    run_exists,
)
from patchkiln.stores.paging import check_limit, page_of, position


class MemoryStore:
    """A `Store` of dictionaries. No method waits, so that none sees another's half."""

    def __init__(self) -> None:
        """Start empty."""
        self._runs: dict[str, Run] = {}
        self._events: dict[str, list[StoredEvent]] = {}
        self._patches: dict[str, bytes] = {}
        self._kept: dict[tuple[str, str], bytes] = {}
        self._milestones: dict[str, dict[str, StoredEvent]] = {}
        self._keys: dict[tuple[str, str], tuple[str, str]] = {}
        self._watches: set[_Watch] = set()

    async def create_run(
        self, run: Run, first: StatusUpdate, *, idempotency: IdempotencyKey | None = None
    ) -> tuple[Run, bool]:
        """Keep a run and its first event."""
        known = None if idempotency is None else await self.find_run(idempotency)
        if known is not None:
            return known, False
        if run.id in self._runs:
            raise run_exists()
        grown, events = grow(run, [first])
        self._runs[run.id] = grown
        self._events[run.id] = events
        self._milestones[run.id] = {event.key: event for event in events if event.key is not None}
        if idempotency is not None:
            place = (idempotency.caller, idempotency.key)
            self._keys[place] = (idempotency.fingerprint, run.id)
        return grown, True

    async def find_run(self, idempotency: IdempotencyKey) -> Run | None:
        """Return the run that a key was used for, None where it is new."""
        known = self._keys.get((idempotency.caller, idempotency.key))
        if known is None:
            return None
        check_same_request(idempotency, known[0])
        return self._runs[known[1]]

    async def claim(self, run_id: str) -> Run:
        """Raise a run's epoch."""
        run = self._run(run_id)
        self._runs[run_id] = claimed = replace(run, epoch=run.epoch + 1)
        return claimed

    async def append(
        self, run_id: str, updates: Sequence[StatusUpdate], *, epoch: int | None = None
    ) -> list[StoredEvent]:
        """Append updates as the next events."""
        run = self._run(run_id)
        check_epoch(run, epoch)
        milestones = self._milestones[run_id]
        self._runs[run_id], events = grow(run, updates, milestones)
        self._events[run_id] += [event for event in events if event.seq > run.last_seq]
        milestones.update((event.key, event) for event in events if event.key is not None)
        for watch in self._watches:
            watch.tell(run_id, self._runs[run_id].last_seq)
        return events

    async def get_run(self, run_id: str) -> Run:
        """Return a run."""
        return self._run(run_id)

    async def list_runs(
        self,
        *,
        status: RunStatus | None = None,
        repository: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """Return runs, newest first."""
        check_limit(limit)
        before = None if cursor is None else position(cursor)
        found = [
            run
            for run in sorted(self._runs.values(), key=_age, reverse=True)
            if (status is None or run.status is status)
            and (repository is None or run.request.repository == repository)
            and (before is None or _age(run) < before)
        ]
        return page_of(found[: limit + 1], limit)

    async def unfinished_runs(self) -> list[Run]:
        """Return the runs without a summary, oldest first."""
        return sorted((run for run in self._runs.values() if not run.finished), key=_age)

    async def events(self, run_id: str, *, after: int, limit: int) -> list[StoredEvent]:
        """Return at most ``limit`` events with ``seq`` above ``after``."""
        self._run(run_id)
        held = self._events[run_id]
        # The summary is always held, and before it nothing is missing in between.
        first = max(after - (held[-1].seq - len(held)), 0)
        return held[first : first + limit]

    async def events_beyond(
        self, heads: Mapping[str, int], *, limit: int
    ) -> Mapping[str, list[StoredEvent]]:
        """Return the events of several runs above their heads."""
        found: dict[str, list[StoredEvent]] = {}
        for run_id in heads.keys() & self._runs.keys():
            found[run_id] = await self.events(run_id, after=heads[run_id], limit=limit)
            limit -= len(found[run_id])
        return found

    async def changes(self) -> AsyncGenerator[Mapping[str, int] | None]:
        """Tell for ever that runs grow."""
        watch = _Watch()
        self._watches.add(watch)
        try:
            yield None
            while True:
                yield await watch.grown()
        finally:
            self._watches.discard(watch)

    async def save_patch(self, run_id: str, diff: bytes, *, epoch: int | None = None) -> None:
        """Keep a run's patch."""
        check_epoch(self._run(run_id), epoch)
        self._patches[run_id] = diff

    async def get_patch(self, run_id: str) -> bytes | None:
        """Return the patch, None where there is none."""
        self._run(run_id)
        return self._patches.get(run_id)

    async def keep(self, run_id: str, name: str, data: bytes, *, epoch: int | None = None) -> None:
        """Keep what a run needs to be gone on with."""
        check_epoch(self._run(run_id), epoch)
        self._kept[run_id, name] = data

    async def kept(self, run_id: str, name: str) -> bytes | None:
        """Return what a name has, None where it has nothing."""
        self._run(run_id)
        return self._kept.get((run_id, name))

    async def delete_run(self, run_id: str) -> None:
        """Forget a run and all that belongs to it."""
        check_deletable(self._run(run_id))
        del self._runs[run_id], self._events[run_id], self._milestones[run_id]
        self._patches.pop(run_id, None)
        self._drop_kept(run_id)
        self._keys = {place: used for place, used in self._keys.items() if used[1] != run_id}

    async def prune(self, *, ended_before_ms: int, limit: int) -> bool:
        """Forget events of the run that ended first, and with the last of them its patch."""
        for run in sorted(self._runs.values(), key=lambda run: run.finished_at_ms or 0):
            ended = run.finished_at_ms is not None and run.finished_at_ms < ended_before_ms
            held = self._events[run.id]
            if ended and (len(held) > 1 or run.id in self._patches):
                self._events[run.id] = held[min(limit, len(held) - 1) :]
                if len(self._events[run.id]) == 1:
                    self._patches.pop(run.id, None)
                    self._drop_kept(run.id)
                return True
        return False

    async def check(self) -> None:
        """Return: memory can always be read and written."""

    async def close(self) -> None:
        """Return: there is nothing to let go of."""

    def _drop_kept(self, run_id: str) -> None:
        self._kept = {place: data for place, data in self._kept.items() if place[0] != run_id}

    def _run(self, run_id: str) -> Run:
        try:
            return self._runs[run_id]
        except KeyError:
            raise no_such_run() from None


class _Watch:
    """The runs that have grown since one watcher looked last."""

    def __init__(self) -> None:
        self._heads: dict[str, int] = {}
        self._told = asyncio.Event()

    def tell(self, run_id: str, seq: int) -> None:
        self._heads[run_id] = seq
        self._told.set()

    async def grown(self) -> Mapping[str, int]:
        await self._told.wait()
        self._told.clear()
        heads, self._heads = self._heads, {}
        return heads


def _age(run: Run) -> tuple[int, str]:
    return run.created_at_ms, run.id
