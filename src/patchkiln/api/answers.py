"""What the JSON answers look like; names are snake_case."""

from typing import Any

from pydantic import BaseModel, Field

from patchkiln.domain.event import JsonValue
from patchkiln.domain.run import Run
from patchkiln.engine import Readiness


class Links(BaseModel):
    """Where else to look, as paths of this server."""

    self: str
    events: str
    patch: str
    cancel: str
    retry: str


class LimitsAnswer(BaseModel):
    """Upper bounds of the run, after the server's own were applied."""

    usd: float
    tokens: int
    turns: int
    minutes: float


class UsageAnswer(BaseModel):
    """What the model was asked for; `cost_usd` is null where the price is not known."""

    turns: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None


class RunAnswer(BaseModel):
    """A run: what was asked, where it stands, how it ended. `*_at` are ms since the epoch."""

    id: str
    status: str = Field(description="`queued`, `running` or `finished`.")
    repository: str = Field(description="The short name.")
    repo_url: str
    prompt: str
    ref: str | None
    agent: str
    model: str | None
    sandbox: str
    sandbox_id: str | None
    commit: str | None
    step: str
    progress: int
    outcome: str | None = Field(
        description="`changed`, `no_change`, `refused`, `budget_exhausted`, `cancelled`, `failed`."
    )
    verdict: str | None = Field(
        description="What the repository's own checks say: "
        "`verified`, `regressed`, `unverified`, `skipped`."
    )
    files_modified: int
    usage: UsageAnswer
    limits: LimitsAnswer
    error: dict[str, Any] | None = Field(description="`code`, `retryable`, `remedy` and more.")
    metadata: dict[str, str]
    caller: str
    parent_run_id: str | None = Field(description="The run whose retry this is.")
    created_at: int
    started_at: int | None
    finished_at: int | None
    last_seq: int = Field(description="The `seq` of the last event.")
    links: Links


class RunsAnswer(BaseModel):
    """A page of runs, newest first; `cursor` asks for the next one and is null at the end."""

    runs: list[RunAnswer]
    cursor: str | None


class EventsAnswer(BaseModel):
    """A page of events; ask with `after=next_after` for more. Null: that was the run's last.

    `gap` is null, or `after` and `first_seq`: the events between the two are no longer held.
    """

    events: list[dict[str, Any]]
    gap: dict[str, int] | None
    next_after: int | None


class HealthAnswer(BaseModel):
    """The server is alive."""

    status: str
    version: str


class SandboxAnswer(BaseModel):
    """How far the sandbox isolates by its own test, why no further, the fix, and the findings."""

    level: str
    reason: str
    remedy: str
    facts: dict[str, str]


class ReadyAnswer(BaseModel):
    """Whether a run could start now."""

    ready: bool
    store: str
    sandbox: SandboxAnswer
    agents: list[str]


class FaultAnswer(BaseModel):
    """One thing that is wrong with a request."""

    loc: list[str | int]
    msg: str
    type: str


class ProblemAnswer(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    remedy: str


def run_answer(run: Run) -> RunAnswer:
    """Return a run as the API shows it."""
    request = run.request
    path = run_path(run.id)
    return RunAnswer(
        id=run.id,
        status=run.status.value,
        repository=request.repository,
        repo_url=request.repo_url,
        prompt=request.prompt,
        ref=request.ref,
        agent=request.agent,
        model=request.model,
        sandbox=request.sandbox,
        sandbox_id=run.sandbox_id,
        commit=run.commit,
        step=run.step,
        progress=run.progress,
        outcome=None if run.outcome is None else run.outcome.value,
        verdict=None if run.verdict is None else run.verdict.value,
        files_modified=run.files_modified,
        usage=UsageAnswer.model_validate(run.usage.as_json()),
        limits=LimitsAnswer.model_validate(request.limits.as_json()),
        error=None if run.error is None else dict(run.error),
        metadata=dict(request.metadata),
        caller=request.caller,
        parent_run_id=run.parent_run_id,
        created_at=run.created_at_ms,
        started_at=run.started_at_ms,
        finished_at=run.finished_at_ms,
        last_seq=run.last_seq,
        links=Links(
            self=path,
            events=f"{path}/events",
            patch=f"{path}/patch",
            cancel=f"{path}/cancel",
            retry=f"{path}/retry",
        ),
    )


def run_path(run_id: str) -> str:
    """Return where a run stands on this server."""
    return f"/runs/{run_id}"


def ready_answer(readiness: Readiness) -> dict[str, JsonValue]:
    """Return the state of each part that a run needs."""
    isolation = readiness.isolation
    return {
        "ready": readiness.ready,
        "store": readiness.store,
        "sandbox": {
            "level": isolation.level.value,
            "reason": isolation.reason,
            "remedy": isolation.remedy,
            "facts": dict(isolation.facts),
        },
        "agents": list(readiness.agents),
    }
