"""How every store lets a run grow, and what it answers when it must not."""

import time
from collections.abc import Mapping, Sequence

from patchkiln.domain.event import StatusUpdate, StoredEvent
from patchkiln.domain.run import Run
from patchkiln.errors import Conflict, NotFound, RunTakenOver
from patchkiln.ports.store import IdempotencyKey


def grow(
    run: Run, updates: Sequence[StatusUpdate], known: Mapping[str, StoredEvent] | None = None
) -> tuple[Run, list[StoredEvent]]:
    """Make updates the run's next events; return the run after them, and them.

    An update whose key is ``known`` becomes no event: the known one stands in its place. All or
    nothing. Raises `Conflict` where an update would follow the summary.
    """
    now_ms = time.time_ns() // 1_000_000
    used = dict(known or {})
    stored: list[StoredEvent] = []
    for update in updates:
        if update.key is not None and update.key in used:
            stored.append(used[update.key])
            continue
        if run.finished:
            raise Conflict("The run has ended and takes no more events.")
        event = run.next_event(update, now_ms=now_ms)
        run = run.after(event)
        stored.append(StoredEvent.of(event, key=update.key))
        if update.key is not None:
            used[update.key] = stored[-1]
    return run, stored


def check_epoch(run: Run, epoch: int | None) -> None:
    """Raise `RunTakenOver` where an epoch is given that is not the run's."""
    if epoch is not None and epoch != run.epoch:
        raise RunTakenOver("Another process has taken this run over.")


def check_same_request(key: IdempotencyKey, fingerprint: str) -> None:
    """Raise `Conflict` where the key was used before with another request."""
    if key.fingerprint != fingerprint:
        raise Conflict(
            "This Idempotency-Key was used before with another request.",
            remedy="Send another request with another key.",
        )


def check_deletable(run: Run) -> None:
    """Raise `Conflict` where a run has no summary yet."""
    if not run.finished:
        raise Conflict("The run has not ended yet.", remedy="Cancel the run first, then delete it.")


def is_storable(text: str) -> bool:
    """Tell whether a text can be in a database at all: Postgres has no place for NUL."""
    return "\0" not in text


def no_such_run() -> NotFound:
    """Return the error for an id that the store does not know."""
    return NotFound("There is no run with this id.")


def run_exists() -> Conflict:
    """Return the error for an id that the store knows already."""
    return Conflict("There is a run with this id already.")
