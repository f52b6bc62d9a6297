"""The writer's transactions on Postgres, where other processes write at the same time."""

import json
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ARRAY, Connection, Text, any_, bindparam, select, text

from patchkiln.domain.event import StoredEvent
from patchkiln.domain.run import Run
from patchkiln.errors import StoreError
from patchkiln.stores.codec import changes_of
from patchkiln.stores.failures import ServerError, database_errors
from patchkiln.stores.ledger import MAX_KEPT_RUNS, Ledger
from patchkiln.stores.log import is_storable
from patchkiln.stores.schema import runs

CHANNEL = "patchkiln_events"
# A notification holds less than 8000 bytes.
MAX_ANNOUNCED_BYTES = 7000

# Two processes that want the same runs lock them in the same order.
_LOCK = (
    select(*(column for column in runs.c if column is not runs.c.request))
    .where(runs.c.id == any_(bindparam("ids", type_=ARRAY(Text))))
    .order_by(runs.c.id)
    .with_for_update()
)
# All that a flush writes is one statement with its rows as values: each more is another way to the
# server and back, and of a list the driver sends every row as a statement of its own.
_WRITE = text(
    "WITH logged AS (INSERT INTO run_events SELECT * "
    "FROM json_populate_recordset(CAST(NULL AS run_events), CAST(:events AS json))), "
    "grown AS (UPDATE runs SET status = changed.status, state = changed.state, "
    "kept_since_ms = changed.kept_since_ms "
    "FROM json_populate_recordset(CAST(NULL AS runs), CAST(:runs AS json)) AS changed "
    "WHERE runs.id = changed.id) "
    "SELECT CAST(pg_current_xact_id() AS text), pg_notify(:channel, :heads)"
)
_NO_NEWS = text("SELECT CAST(pg_current_xact_id() AS text)")
_FATE = text("SELECT pg_xact_status(CAST(:transaction AS xid8))")
# Deadlock, serialisation, shutdown, start, too many connections, a standby after a failover.
_PASSING = {"40001", "40P01", "57P01", "57P02", "57P03", "53300", "25006", "55P03"}


class PostgresLedger(Ledger):
    """A ledger of a transaction that holds the rows of its runs.

    The lock reads the rows anyway, but for the request, which never changes: a kept run is good
    for as long as its row is the same.
    """

    def __init__(self, connection: Connection) -> None:
        """Take the writer's only connection; one that breaks is made anew when it is needed."""
        super().__init__(connection)
        self._rows: dict[str, Mapping[str, Any]] = {}
        self._kept: dict[str, tuple[Mapping[str, Any], Run]] = {}
        self._heads: dict[str, int] = {}
        self._transaction_id: str | None = None

    @contextmanager
    def transaction(self, run_ids: Collection[str]) -> Generator[None]:
        """Begin a transaction over these runs, and commit it. Raises `StoreError`."""
        with super().transaction(run_ids):
            yield
        self._transaction_id = None

    def begin(self, run_ids: Collection[str]) -> None:
        """Lock the rows of the runs, and take the kept runs that are as they were."""
        self.forget()
        known = [run_id for run_id in run_ids if is_storable(run_id)]
        if known:
            found = self._connection.execute(_LOCK, {"ids": known}).mappings()
            self._rows = {row["id"]: dict(row) for row in found}
        if len(self._kept) > MAX_KEPT_RUNS:
            self._kept.clear()
        for run_id, row in self._rows.items():
            kept = self._kept.get(run_id)
            if kept is not None and kept[0] == row:
                self._runs[run_id] = kept[1]

    def forget(self) -> None:
        """Drop what belongs to one transaction; what is kept is held against the rows anyway."""
        super().forget()
        self._rows.clear()
        self._heads.clear()

    def finish(self) -> None:
        """Write what is staged and tell the other processes, once for all of it."""
        if not self._heads:
            self.flush()
            self._transaction_id = self._connection.execute(_NO_NEWS).scalar_one()
            return
        for run_id in self._heads.keys() & self._runs.keys() & self._rows.keys():
            run = self._runs[run_id]
            self._kept[run_id] = ({**self._rows[run_id], **changes_of(run)}, run)
        changed = [{"id": run.id, **changes_of(run)} for run in self._changed.values()]
        written = {
            "events": json.dumps(self._events, ensure_ascii=False),
            "runs": json.dumps(changed, ensure_ascii=False),
            "channel": CHANNEL,
            "heads": announcement(self._heads),
        }
        self._transaction_id = self._connection.execute(_WRITE, written).scalar_one()
        self._events.clear()
        self._changed.clear()

    def committed(self) -> bool:
        """Ask after a commit whose answer was lost with the connection. Raises `StoreError`."""
        if self._transaction_id is None:
            return False
        asked = {"transaction": self._transaction_id}
        with database_errors(), self._connection.begin():
            fate = self._connection.execute(_FATE, asked).scalar_one()
        if fate == "in progress":
            raise ServerError("a commit is still under way")
        self._transaction_id = None
        return bool(fate == "committed")

    def may_repeat(self, error: StoreError) -> bool:
        """Tell whether another transaction may pass: the connection was lost, or a lock."""
        return isinstance(error, ServerError) and (error.gone or error.state in _PASSING)

    def _stage(self, run_id: str, events: Sequence[StoredEvent]) -> None:
        super()._stage(run_id, events)
        if events:
            self._heads[run_id] = events[-1].seq


def announcement(heads: Mapping[str, int]) -> str:
    """Return the text of a notification; empty, for "look at all", where there is too much."""
    text = ",".join(f"{run_id}:{seq}" for run_id, seq in heads.items())
    return text if len(text.encode()) <= MAX_ANNOUNCED_BYTES else ""


def announced(text: str) -> Mapping[str, int] | None:
    """Read a notification: the last ``seq`` by run, or None for "look at all"."""
    try:
        pairs = (pair.rpartition(":") for pair in text.split(","))
        return {run_id: int(seq) for run_id, _, seq in pairs}
    except ValueError:
        return None
