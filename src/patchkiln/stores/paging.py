"""Pages of runs, newest first, and the cursor that leads from one to the next."""

import base64
from collections.abc import Sequence

from patchkiln.domain.run import Run
from patchkiln.errors import InvalidRequest
from patchkiln.ports.store import RunPage
from patchkiln.stores.log import is_storable

MAX_PAGE_RUNS = 200
# The largest integer of SQLite; a larger one is an error there, not a value that finds nothing.
MAX_INTEGER = 2**63 - 1


def check_limit(limit: int) -> None:
    """Raise `InvalidRequest` for a page of no run, or of more than `MAX_PAGE_RUNS`."""
    if not 1 <= limit <= MAX_PAGE_RUNS:
        raise InvalidRequest(f"The limit must lie between 1 and {MAX_PAGE_RUNS}.", field="limit")


def page_of(runs: Sequence[Run], limit: int) -> RunPage:
    """Cut a page from runs of which there is one more than the limit where another page follows."""
    kept = tuple(runs[:limit])
    return RunPage(runs=kept, cursor=_cursor(kept[-1]) if len(runs) > limit else None)


def position(cursor: str) -> tuple[int, str]:
    """Return ``(created_at_ms, id)`` of the run after which the next page begins.

    Raises `InvalidRequest` for a text that is no cursor.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        created_at_ms, _, run_id = text.decode().partition(":")
        place = int(created_at_ms), run_id
    except ValueError as error:
        raise _no_cursor() from error
    if not run_id or not is_storable(run_id) or not 0 <= place[0] <= MAX_INTEGER:
        raise _no_cursor()
    return place


def _cursor(run: Run) -> str:
    text = f"{run.created_at_ms}:{run.id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _no_cursor() -> InvalidRequest:
    return InvalidRequest(
        "This is no cursor of an earlier page.",
        field="cursor",
        remedy="Take the cursor from the page before, or leave it out to start at the newest run.",
    )
