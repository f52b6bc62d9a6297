"""A request, and updates to tell of a run."""

from patchkiln.domain.event import EventType, JsonValue, StatusUpdate
from patchkiln.domain.run import RUN_CREATED, RUN_FINISHED, RunRequest

REQUEST = RunRequest(repo_url="https://example.org/a/b", repository="b", prompt="Do it")
CREATED = StatusUpdate(event=RUN_CREATED, message="Run created", step="init", progress=0)
DONE = StatusUpdate(
    event=RUN_FINISHED,
    message="Processing completed",
    type=EventType.SUMMARY,
    step="complete",
    progress=100,
    summary={"outcome": "changed", "verdict": "verified", "files_modified": 3},
)


def said(
    event: str, *, step: str = "", progress: int | None = None, **data: JsonValue
) -> StatusUpdate:
    """Return an update with data."""
    return StatusUpdate(
        event=event, message="Something happened", step=step, progress=progress, data=data
    )
