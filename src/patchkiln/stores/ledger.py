"""What a job of the writer may do inside the transaction that it shares with others."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, bindparam, delete, insert, literal, select, update

# Of the two dialects' own, this one's form is understood by both.
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import SQLAlchemyError

from patchkiln.domain.event import StatusUpdate, StoredEvent
from patchkiln.domain.run import Run
from patchkiln.errors import StoreError
from patchkiln.ports.store import IdempotencyKey
from patchkiln.stores.codec import changes_of, row_of
from patchkiln.stores.failures import database_errors
from patchkiln.stores.log import check_deletable, check_epoch, grow, run_exists
from patchkiln.stores.queries import find_run, id_of_key, milestone
from patchkiln.stores.schema import idempotency_keys, keepsakes, patches, run_events, runs

# A run in memory is a few kilobytes; more than these are rarely under way at once.
MAX_KEPT_RUNS = 256

_INSERT_RUN = upsert(runs).on_conflict_do_nothing().returning(runs.c.id)
_INSERT_EVENT = insert(run_events)
_INSERT_KEY = upsert(idempotency_keys).on_conflict_do_nothing().returning(literal(1))
_UPDATE_RUN = (
    update(runs)
    .where(runs.c.id == bindparam("run_id"))
    .values(
        status=bindparam("status"),
        state=bindparam("state"),
        kept_since_ms=bindparam("kept_since_ms"),
    )
)
_NEW_PATCH = upsert(patches)
_SAVE_PATCH = _NEW_PATCH.on_conflict_do_update(
    index_elements=[patches.c.run_id], set_={"diff": _NEW_PATCH.excluded.diff}
)
_OLDEST_KEPT = (
    select(runs.c.id)
    .where(runs.c.kept_since_ms < bindparam("before_ms"))
    .order_by(runs.c.kept_since_ms)
    .limit(1)
    # What another process is at is left to it.
    .with_for_update(skip_locked=True)
)
_FIRST_SEQ = (
    select(run_events.c.seq)
    .where(run_events.c.run_id == bindparam("run_id"), run_events.c.last.is_(False))
    .order_by(run_events.c.seq)
    .limit(1)
)
_DELETE_EVENTS = delete(run_events).where(
    run_events.c.run_id == bindparam("run_id"),
    run_events.c.seq < bindparam("before"),
    run_events.c.last.is_(False),
)
_DELETE_PATCH = delete(patches).where(patches.c.run_id == bindparam("run_id"))
_DELETE_KEEPSAKES = delete(keepsakes).where(keepsakes.c.run_id == bindparam("run_id"))
_KEPT_NO_MORE = update(runs).where(runs.c.id == bindparam("of_run")).values(kept_since_ms=None)
_NEW_KEEPSAKE = upsert(keepsakes)
_KEEP = _NEW_KEEPSAKE.on_conflict_do_update(
    index_elements=[keepsakes.c.run_id, keepsakes.c.name],
    set_={"data": _NEW_KEEPSAKE.excluded.data},
)
_CLAIM = update(runs).where(runs.c.id == bindparam("run_id")).values(epoch=runs.c.epoch + 1)
_DELETE_RUN = delete(runs).where(runs.c.id == bindparam("run_id"))


class _KeyTaken(Exception):
    """Another process used the key between the look and the insert."""


class Ledger(ABC):
    """Runs and events as the transaction leaves them.

    Appended events are staged, and written together by `flush`: a statement costs ten times what
    a row does. What differs from database to database is how a transaction learns what others
    have written since the last one, and what it leaves for them.
    """

    def __init__(self, connection: Connection) -> None:
        """Take the writer's only connection."""
        self._connection = connection
        self._runs: dict[str, Run] = {}
        self._changed: dict[str, Run] = {}
        self._events: list[dict[str, str | int | bool | None]] = []

    @contextmanager
    def transaction(self, run_ids: Collection[str]) -> Generator[None]:
        """Begin a transaction over these runs, and commit it. Raises `StoreError`."""
        try:
            with database_errors(), self._connection.begin():
                self.begin(run_ids)
                yield
                self.finish()
        except StoreError:
            self.forget()
            raise

    @abstractmethod
    def begin(self, run_ids: Collection[str]) -> None:
        """Forget what another process has changed, and keep the runs from changing."""

    def finish(self) -> None:
        """Write what is staged, as the last thing before the commit."""
        self.flush()

    def committed(self) -> bool:
        """Tell whether the transaction that broke off last has been committed nevertheless."""
        return False

    def may_repeat(self, error: StoreError) -> bool:
        """Tell whether a transaction that failed like this may pass the next time."""
        del error
        return False

    def close(self) -> None:
        """Close the connection and what it came from."""
        self._connection.close()
        self._connection.engine.dispose()

    def forget(self) -> None:
        """Drop what is kept and staged; the transaction has been rolled back, or is yet empty."""
        self._runs.clear()
        self._changed.clear()
        self._events.clear()

    def flush(self) -> None:
        """Write what is staged."""
        if self._events:
            self._connection.execute(_INSERT_EVENT, self._events)
        if self._changed:
            rows = [{"run_id": run.id, **changes_of(run)} for run in self._changed.values()]
            self._connection.execute(_UPDATE_RUN, rows)
        self._events.clear()
        self._changed.clear()

    def claim(self, run_id: str) -> Run:
        """Raise a run's epoch. Raises `NotFound`."""
        with self._savepoint():
            self._connection.execute(_CLAIM, {"run_id": run_id})
            self._runs.pop(run_id, None)
            return self._run(run_id)

    def append(
        self, run_id: str, updates: Sequence[StatusUpdate], epoch: int | None = None
    ) -> list[StoredEvent]:
        """Stage updates as the run's next events. Raises as `Store.append` does."""
        before = self._run(run_id)
        check_epoch(before, epoch)
        run, events = grow(before, updates, self._milestones(run_id, updates))
        self._stage(run_id, [event for event in events if event.seq > before.last_seq])
        self._runs[run_id] = self._changed[run_id] = run
        return events

    def create_run(
        self, run: Run, first: StatusUpdate, key: IdempotencyKey | None
    ) -> tuple[Run, bool]:
        """Insert a run, its first event and its key; or find the run of the key."""
        grown, events = grow(run, [first])
        try:
            with self._savepoint():
                known = None if key is None else self._run_of_key(key)
                if known is not None:
                    return known, False
                self._insert_run(grown, key)
        except _KeyTaken:
            return self.create_run(run, first, key)
        self._stage(run.id, events)
        self._runs[run.id] = grown
        return grown, True

    def save_patch(self, run_id: str, diff: bytes, epoch: int | None = None) -> None:
        """Insert or replace a run's patch. Raises `NotFound` and `RunTakenOver`."""
        with self._savepoint():
            check_epoch(self._run(run_id), epoch)
            self._connection.execute(_SAVE_PATCH, {"run_id": run_id, "diff": diff})

    def keep(self, run_id: str, name: str, data: bytes, epoch: int | None = None) -> None:
        """Insert or replace what a name of a run has. Raises `NotFound` and `RunTakenOver`."""
        with self._savepoint():
            check_epoch(self._run(run_id), epoch)
            self._connection.execute(_KEEP, {"run_id": run_id, "name": name, "data": data})

    def delete_run(self, run_id: str) -> None:
        """Delete a run; its events, keys and patch go with it. Raises `NotFound`, `Conflict`."""
        with self._savepoint():
            check_deletable(self._run(run_id))
            self._connection.execute(_DELETE_RUN, {"run_id": run_id})
        del self._runs[run_id]

    def prune(self, before_ms: int, limit: int) -> bool:
        """Delete events of the run whose have been kept longest; with the last, all else."""
        with self._savepoint():
            found = self._connection.execute(_OLDEST_KEPT, {"before_ms": before_ms}).scalar()
            if found is None:
                return False
            run = {"run_id": found}
            first = self._connection.execute(_FIRST_SEQ, run).scalar()
            if first is not None:
                self._connection.execute(_DELETE_EVENTS, {**run, "before": first + limit})
            if self._connection.execute(_FIRST_SEQ, run).scalar() is None:
                self._connection.execute(_DELETE_PATCH, run)
                self._connection.execute(_DELETE_KEEPSAKES, run)
                self._connection.execute(_KEPT_NO_MORE, {"of_run": found})
        return True

    @contextmanager
    def _savepoint(self) -> Generator[None]:
        """Let a job that fails half-way leave nothing, and its neighbours all of theirs."""
        self.flush()
        savepoint = self._connection.begin_nested()
        try:
            yield
        except SQLAlchemyError:
            # The whole transaction fails, and SQLite may have rolled it back already.
            raise
        except BaseException:
            savepoint.rollback()
            raise
        savepoint.commit()

    def _run(self, run_id: str) -> Run:
        run = self._runs.get(run_id)
        if run is None:
            run = self._runs[run_id] = find_run(self._connection, run_id)
        return run

    def _stage(self, run_id: str, events: Sequence[StoredEvent]) -> None:
        self._events += (
            {
                "run_id": run_id,
                "seq": event.seq,
                "payload": event.payload,
                "last": event.last,
                "key": event.key,
            }
            for event in events
        )

    def _milestones(self, run_id: str, updates: Sequence[StatusUpdate]) -> dict[str, StoredEvent]:
        """Return the events of the updates' keys, as far as the run has used them."""
        keys = [update.key for update in updates if update.key is not None]
        if keys:
            # A key of a moment ago may yet be staged.
            self.flush()
        found = {key: milestone(self._connection, run_id, key) for key in keys}
        return {key: event for key, event in found.items() if event is not None}

    def _run_of_key(self, key: IdempotencyKey) -> Run | None:
        run_id = id_of_key(self._connection, key)
        return None if run_id is None else self._run(run_id)

    def _insert_run(self, run: Run, key: IdempotencyKey | None) -> None:
        if self._connection.execute(_INSERT_RUN, row_of(run)).one_or_none() is None:
            raise run_exists()
        if key is not None and not self._insert_key(key, run.id):
            raise _KeyTaken

    def _insert_key(self, key: IdempotencyKey, run_id: str) -> bool:
        """Return False where another transaction has inserted the key since it was looked for."""
        row = {
            "caller": key.caller,
            "key": key.key,
            "fingerprint": key.fingerprint,
            "run_id": run_id,
        }
        return self._connection.execute(_INSERT_KEY, row).one_or_none() is not None
