"""Where runs, their events and their patches are kept."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from patchkiln.domain.event import StatusUpdate, StoredEvent
from patchkiln.domain.run import Run, RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """A caller's key for one request. ``fingerprint`` is a digest of the request's body."""

    caller: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """Runs, newest first. ``cursor`` asks for the next page; None at the end."""

    runs: tuple[Run, ...]
    cursor: str | None


class Store(Protocol):
    """Keeps runs; a run's events are gapless and its row is their projection (`Run.after`).

    Every method may raise `StoreError` (retryable). All are safe to call side by side.
    """

    async def create_run(
        self, run: Run, first: StatusUpdate, *, idempotency: IdempotencyKey | None = None
    ) -> tuple[Run, bool]:
        """Keep a run and its first event in one transaction; return it and True.

        Where the caller used the key before: that run and False. Raises `Conflict` where it was
        used with another fingerprint.
        """
        ...

    async def find_run(self, idempotency: IdempotencyKey) -> Run | None:
        """Return the run that a key was used for, None where it is new.

        Raises `Conflict` where it was used with another fingerprint.
        """
        ...

    async def claim(self, run_id: str) -> Run:
        """Take a run over: raise its ``epoch`` and return it.

        Whoever claimed it before can append and keep nothing more. Raises `NotFound`.
        """
        ...

    async def append(
        self, run_id: str, updates: Sequence[StatusUpdate], *, epoch: int | None = None
    ) -> list[StoredEvent]:
        """Append updates as the next events, in order, in one transaction; durable on return.

        For an update whose ``key`` the run has used already, nothing new is stored and the event
        of that key is returned in its place. Raises `NotFound`, `Conflict` where the run has its
        summary already, and `RunTakenOver` where an ``epoch`` is given that is not the run's.
        """
        ...

    async def get_run(self, run_id: str) -> Run:
        """Return a run. Raises `NotFound`."""
        ...

    async def list_runs(
        self,
        *,
        status: RunStatus | None = None,
        repository: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """Return runs, newest first; ``repository`` is the short name. Raises `InvalidRequest`."""
        ...

    async def unfinished_runs(self) -> list[Run]:
        """Return the runs without a summary, oldest first."""
        ...

    async def events(self, run_id: str, *, after: int, limit: int) -> list[StoredEvent]:
        """Return at most ``limit`` events with ``seq`` above ``after``. Raises `NotFound`."""
        ...

    async def events_beyond(
        self, heads: Mapping[str, int], *, limit: int
    ) -> Mapping[str, list[StoredEvent]]:
        """Return the events of several runs, of each those with ``seq`` above its head.

        At most ``limit`` in all. Every run that exists has an entry, one that does not has none.
        """
        ...

    def changes(self) -> AsyncGenerator[Mapping[str, int] | None]:
        """Tell for ever that runs grow, whichever process appends to them.

        Yields the last ``seq`` by run, or None where any run may have grown: first of all, and
        whenever something may have been missed. A store that fails is waited for.
        """
        ...

    async def save_patch(self, run_id: str, diff: bytes, *, epoch: int | None = None) -> None:
        """Keep a run's patch, in place of an earlier one. Raises `NotFound` and `RunTakenOver`."""
        ...

    async def get_patch(self, run_id: str) -> bytes | None:
        """Return the patch, None where there is none. Raises `NotFound` for an unknown run."""
        ...

    async def keep(self, run_id: str, name: str, data: bytes, *, epoch: int | None = None) -> None:
        """Keep what a run needs to be gone on with, by name, in place of what the name had.

        Raises `NotFound` and `RunTakenOver`.
        """
        ...

    async def kept(self, run_id: str, name: str) -> bytes | None:
        """Return what a name has, None where it has nothing. Raises `NotFound`."""
        ...

    async def delete_run(self, run_id: str) -> None:
        """Forget a run and all that belongs to it. Raises `NotFound`, `Conflict` if unfinished."""
        ...

    async def prune(self, *, ended_before_ms: int, limit: int) -> bool:
        """Forget events of the run that ended first, if that was before the given time.

        At most ``limit`` of them, the oldest, and never the summary; with the last one its patch.
        Returns False where there is no such run (any more).
        """
        ...

    async def check(self) -> None:
        """Return where the store can be read and written. Raises `StoreError`."""
        ...

    async def close(self) -> None:
        """Write what is buffered and let go of the database. Idempotent."""
        ...
