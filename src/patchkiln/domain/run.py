"""A run: one prompt on one repository, to its end; and how its events become its state."""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from patchkiln.domain.check import Verdict
from patchkiln.domain.event import Event, JsonObject, JsonValue, StatusUpdate
from patchkiln.domain.usage import Limits, Usage

RUN_CREATED = "run.created"
RUN_STARTED = "run.started"
RUN_CANCEL_REQUESTED = "run.cancel_requested"
RUN_FAILED = "run.failed"
RUN_REFUSED = "run.refused"
RUN_BUDGET_EXHAUSTED = "run.budget_exhausted"
RUN_CANCELLED = "run.cancelled"
RUN_FINISHED = "run.finished"
RUN_SUSPENDED = "run.suspended"
RUN_STRANDED = "run.stranded"
STEP_STARTED = "step.started"
STEP_RESTARTED = "step.restarted"
STEP_COMPLETED = "step.completed"
STEPS_TAKEN_OVER = "steps.taken_over"
SANDBOX_CHOSEN = "sandbox.chosen"
SANDBOX_REPLACED = "sandbox.replaced"
REPOSITORY_CLONED = "repository.cloned"
PATCH_MADE = "patch.made"
NETWORK_REFUSED = "network.refused"


class RunStatus(StrEnum):
    """Where a run stands. How it ended is its `Outcome`."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"


class Outcome(StrEnum):
    """How a run ended."""

    CHANGED = "changed"
    NO_CHANGE = "no_change"
    REFUSED = "refused"
    BUDGET_EXHAUSTED = "budget_exhausted"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What the caller asked for, checked and with the server's defaults filled in.

    ``checks`` is None for automatic detection, empty for none. ``network`` lists the hosts that may
    be reached, in the form of `parse_network_rule`. ``clone_depth`` 0 is the whole history.
    ``caller`` is the name of the API key, ``anonymous`` without keys.
    """

    repo_url: str
    repository: str
    prompt: str
    ref: str | None = None
    model: str | None = None
    agent: str = "recipes"
    sandbox: str = "local"
    checks: tuple[str, ...] | None = None
    network: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    clone_depth: int = 1
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    caller: str = "anonymous"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as its events have made it. ``*_at_ms`` are milliseconds since the epoch.

    ``epoch`` counts how often a process has claimed it. ``step_seq`` is the event with which the
    last attempt at its current step began, None between steps; ``step_attempts`` counts those
    attempts, less the ones that a stop of the server in good order cut off. ``parent_run_id`` is
    the run whose retry it is.
    """

    id: str
    request: RunRequest
    created_at_ms: int
    status: RunStatus = RunStatus.QUEUED
    step: str = "init"
    progress: int = 0
    last_seq: int = 0
    updated_at_ms: int = 0
    started_at_ms: int | None = None
    finished_at_ms: int | None = None
    cancel_requested: bool = False
    sandbox_id: str | None = None
    commit: str | None = None
    outcome: Outcome | None = None
    verdict: Verdict | None = None
    files_modified: int = 0
    usage: Usage = field(default_factory=Usage)
    error: Mapping[str, JsonValue] | None = None
    epoch: int = 0
    step_seq: int | None = None
    step_attempts: int = 0
    parent_run_id: str | None = None

    @classmethod
    def new(cls, request: RunRequest, *, parent_run_id: str | None = None) -> "Run":
        """Return a queued run with an id that sorts by its time of creation."""
        now_ms = time.time_ns() // 1_000_000
        return cls(
            id=f"run_{now_ms:012x}{secrets.token_hex(8)}",
            request=request,
            created_at_ms=now_ms,
            parent_run_id=parent_run_id,
        )

    @property
    def finished(self) -> bool:
        """Tell whether the last event has been written."""
        return self.status is RunStatus.FINISHED

    def next_event(self, update: StatusUpdate, *, now_ms: int) -> Event:
        """Give an update its place: the next ``seq``, a time and a progress that never go back."""
        progress = self.progress if update.progress is None else update.progress
        return Event(
            run_id=self.id,
            seq=self.last_seq + 1,
            timestamp_ms=max(now_ms, self.updated_at_ms),
            event=update.event,
            message=update.message,
            type=update.type,
            step=update.step or self.step,
            progress=max(self.progress, min(100, progress)),
            data=update.data,
            summary=update.summary,
        )

    def after(self, event: Event) -> "Run":
        """Return the run as it stands after one of its events. The log is the truth.

        The summary ends the run, whatever its event is called: streams end with it too. Raises
        `ValueError` where it names no known outcome or verdict.
        """
        run = replace(
            self,
            last_seq=event.seq,
            updated_at_ms=event.timestamp_ms,
            step=event.step,
            progress=event.progress,
        )
        usage = event.data.get("usage")
        if isinstance(usage, Mapping):
            run = replace(run, usage=Usage.from_json(usage))
        if event.summary is not None:
            return _finished(run, event, event.summary)
        project = _PROJECTIONS.get(event.event)
        return run if project is None else project(run, event)


def _started(run: Run, event: Event) -> Run:
    return replace(run, status=RunStatus.RUNNING, started_at_ms=event.timestamp_ms)


def _cancel_requested(run: Run, _event: Event) -> Run:
    return replace(run, cancel_requested=True)


def _suspended(run: Run, _event: Event) -> Run:
    # The attempt did not fail: the server was stopped in good order.
    return replace(run, step_attempts=max(run.step_attempts - 1, 0))


def _step_begun(run: Run, event: Event) -> Run:
    # What an attempt has told of its failure counts no more when the step begins again.
    return replace(run, step_seq=event.seq, step_attempts=run.step_attempts + 1, error=None)


def _step_completed(run: Run, _event: Event) -> Run:
    return replace(run, step_seq=None, step_attempts=0)


def _sandbox_chosen(run: Run, event: Event) -> Run:
    return replace(run, sandbox_id=_text(event.data, "sandbox_id"))


def _repository_cloned(run: Run, event: Event) -> Run:
    return replace(run, commit=_text(event.data, "commit"))


def _patch_made(run: Run, event: Event) -> Run:
    return replace(run, files_modified=_count(event.data, "files_modified"))


def _failed(run: Run, event: Event) -> Run:
    return replace(run, error=event.data)


def _finished(run: Run, event: Event, summary: JsonObject) -> Run:
    return replace(
        run,
        status=RunStatus.FINISHED,
        finished_at_ms=event.timestamp_ms,
        outcome=Outcome(str(summary.get("outcome"))),
        verdict=Verdict(str(summary.get("verdict"))),
        files_modified=_count(summary, "files_modified"),
        step_seq=None,
        step_attempts=0,
    )


_PROJECTIONS: Mapping[str, Callable[[Run, Event], Run]] = {
    RUN_STARTED: _started,
    RUN_CANCEL_REQUESTED: _cancel_requested,
    RUN_SUSPENDED: _suspended,
    STEP_STARTED: _step_begun,
    STEP_RESTARTED: _step_begun,
    STEP_COMPLETED: _step_completed,
    STEPS_TAKEN_OVER: _repository_cloned,
    SANDBOX_CHOSEN: _sandbox_chosen,
    SANDBOX_REPLACED: _sandbox_chosen,
    REPOSITORY_CLONED: _repository_cloned,
    PATCH_MADE: _patch_made,
    RUN_FAILED: _failed,
    RUN_REFUSED: _failed,
}


def _text(data: Mapping[str, JsonValue], name: str) -> str | None:
    value = data.get(name)
    return value if isinstance(value, str) else None


def _count(data: Mapping[str, JsonValue], name: str) -> int:
    value = data.get(name)
    return value if isinstance(value, int) else 0
