"""What can be asked of the database, by the readers and by the writer."""

import json
from collections.abc import Mapping

from sqlalchemy import Connection, TextClause, and_, bindparam, select, tuple_

from patchkiln.domain.event import StoredEvent
from patchkiln.domain.run import Run, RunStatus
from patchkiln.ports.store import IdempotencyKey, RunPage
from patchkiln.stores.codec import run_of
from patchkiln.stores.log import check_same_request, is_storable, no_such_run
from patchkiln.stores.paging import MAX_INTEGER, check_limit, page_of, position
from patchkiln.stores.schema import idempotency_keys, keepsakes, patches, run_events, runs

_RUNS = select(
    runs.c.id,
    runs.c.created_at_ms,
    runs.c.status,
    runs.c.request,
    runs.c.state,
    runs.c.epoch,
    runs.c.parent_run_id,
)
_RUN = _RUNS.where(runs.c.id == bindparam("run_id"))
_UNFINISHED = _RUNS.where(runs.c.status != RunStatus.FINISHED.value).order_by(
    runs.c.created_at_ms, runs.c.id
)
_EVENTS = (
    select(run_events.c.seq, run_events.c.payload, run_events.c.last)
    .where(run_events.c.run_id == bindparam("run_id"), run_events.c.seq > bindparam("after"))
    .order_by(run_events.c.seq)
    .limit(bindparam("count"))
)
_FIND_KEY = select(idempotency_keys.c.fingerprint, idempotency_keys.c.run_id).where(
    idempotency_keys.c.caller == bindparam("caller"), idempotency_keys.c.key == bindparam("key")
)
_KNOWN = select(runs.c.id).where(runs.c.id.in_(bindparam("run_ids", expanding=True)))
_MILESTONE = select(
    run_events.c.seq, run_events.c.payload, run_events.c.last, run_events.c.key
).where(run_events.c.run_id == bindparam("run_id"), run_events.c.key == bindparam("key"))
_PATCH = (
    select(patches.c.diff)
    .select_from(runs.outerjoin(patches))
    .where(runs.c.id == bindparam("run_id"))
)


_KEPT = (
    select(keepsakes.c.data)
    .select_from(
        runs.outerjoin(
            keepsakes,
            and_(keepsakes.c.run_id == runs.c.id, keepsakes.c.name == bindparam("name")),
        )
    )
    .where(runs.c.id == bindparam("run_id"))
)


def find_run(connection: Connection, run_id: str) -> Run:
    """Return a run. Raises `NotFound`."""
    row = connection.execute(_RUN, {"run_id": _text(run_id)}).one_or_none()
    if row is None:
        raise no_such_run()
    return run_of(row)


def run_of_key(connection: Connection, idempotency: IdempotencyKey) -> Run | None:
    """Return the run that a key was used for, None where it is new. Raises `Conflict`."""
    run_id = id_of_key(connection, idempotency)
    return None if run_id is None else find_run(connection, run_id)


def id_of_key(connection: Connection, idempotency: IdempotencyKey) -> str | None:
    """Return the id of the run that a key was used for. Raises `Conflict`."""
    place = {"caller": idempotency.caller, "key": idempotency.key}
    row = connection.execute(_FIND_KEY, place).one_or_none()
    if row is None:
        return None
    check_same_request(idempotency, row.fingerprint)
    return str(row.run_id)


def list_runs(
    connection: Connection,
    *,
    status: RunStatus | None,
    repository: str | None,
    limit: int,
    cursor: str | None,
) -> RunPage:
    """Return a page of runs, newest first. Raises `InvalidRequest`."""
    check_limit(limit)
    query = _RUNS.order_by(runs.c.created_at_ms.desc(), runs.c.id.desc()).limit(limit + 1)
    if status is not None:
        query = query.where(runs.c.status == status.value)
    if repository is not None:
        query = query.where(runs.c.repository == _text(repository))
    if cursor is not None:
        query = query.where(tuple_(runs.c.created_at_ms, runs.c.id) < position(cursor))
    return page_of([run_of(row) for row in connection.execute(query)], limit)


def unfinished_runs(connection: Connection) -> list[Run]:
    """Return the runs without a summary, oldest first."""
    return [run_of(row) for row in connection.execute(_UNFINISHED)]


def events(connection: Connection, run_id: str, *, after: int, limit: int) -> list[StoredEvent]:
    """Return at most ``limit`` events with ``seq`` above ``after``. Raises `NotFound`."""
    found = connection.execute(
        _EVENTS, {"run_id": _text(run_id), "after": min(after, MAX_INTEGER), "count": limit}
    )
    page = [StoredEvent(seq=seq, payload=payload, last=last) for seq, payload, last in found]
    if not page:
        find_run(connection, run_id)
    return page


def events_beyond(
    connection: Connection, *, statement: TextClause, heads: Mapping[str, int], limit: int
) -> dict[str, list[StoredEvent]]:
    """Return at most ``limit`` events of several runs, each above its head, by run."""
    asked = {"heads": json.dumps(heads), "count": limit}
    found: dict[str, list[StoredEvent]] = {}
    for run_id, seq, payload, last in connection.execute(statement, asked):
        event = StoredEvent(seq=seq, payload=payload, last=bool(last))
        found.setdefault(run_id, []).append(event)
    quiet = heads.keys() - found.keys()
    if quiet:
        known = connection.scalars(_KNOWN, {"run_ids": list(quiet)})
        found.update((run_id, []) for run_id in known)
    return found


def milestone(connection: Connection, run_id: str, key: str) -> StoredEvent | None:
    """Return the event of a key, None where it is new."""
    row = connection.execute(_MILESTONE, {"run_id": run_id, "key": key}).one_or_none()
    return (
        None
        if row is None
        else StoredEvent(seq=row.seq, payload=row.payload, last=row.last, key=row.key)
    )


def kept(connection: Connection, run_id: str, name: str) -> bytes | None:
    """Return what a name of a run has, None where it has nothing. Raises `NotFound`."""
    row = connection.execute(_KEPT, {"run_id": run_id, "name": name}).one_or_none()
    if row is None:
        raise no_such_run()
    data: bytes | None = row.data
    return data


def get_patch(connection: Connection, run_id: str) -> bytes | None:
    """Return a run's patch, None where there is none. Raises `NotFound`."""
    row = connection.execute(_PATCH, {"run_id": _text(run_id)}).one_or_none()
    if row is None:
        raise no_such_run()
    diff: bytes | None = row.diff
    return diff


def _text(asked: str) -> str:
    """Return a text that may be asked for: what no database holds becomes what none has."""
    return asked if is_storable(asked) else ""
