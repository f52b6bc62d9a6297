"""A run as the text columns of its row, and back.

Every field is named here, so that no change of a class changes what is on disk unnoticed. A field
that a later version adds is read with a default, or brought in by a migration.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row

from patchkiln.domain.check import Verdict
from patchkiln.domain.event import JsonValue
from patchkiln.domain.run import Outcome, Run, RunRequest, RunStatus
from patchkiln.domain.usage import Limits, Usage


def row_of(run: Run) -> dict[str, str | int | None]:
    """Return every column of a new run's row."""
    return {
        "id": run.id,
        "created_at_ms": run.created_at_ms,
        "repository": run.request.repository,
        "request": _json(_request_json(run.request)),
        "epoch": run.epoch,
        "parent_run_id": run.parent_run_id,
        **changes_of(run),
    }


def changes_of(run: Run) -> dict[str, str | int | None]:
    """Return the columns that an event may change."""
    return {
        "status": run.status.value,
        "state": _json(_state_json(run)),
        "kept_since_ms": run.finished_at_ms,
    }


def run_of(row: Row[str, int, str, str, str, int, str | None]) -> Run:
    """Read a run from its columns."""
    run_id, created_at_ms, status, request, state, epoch, parent_run_id = row
    data: dict[str, Any] = json.loads(state)
    outcome, verdict = data["outcome"], data["verdict"]
    return Run(
        id=run_id,
        request=_request_of(json.loads(request)),
        created_at_ms=created_at_ms,
        status=RunStatus(status),
        step=data["step"],
        progress=data["progress"],
        last_seq=data["last_seq"],
        updated_at_ms=data.get("updated_at_ms", 0),  # rows of the first days have none
        started_at_ms=data["started_at_ms"],
        finished_at_ms=data["finished_at_ms"],
        cancel_requested=data["cancel_requested"],
        sandbox_id=data["sandbox_id"],
        commit=data.get("commit"),  # rows of the first days have none
        outcome=None if outcome is None else Outcome(outcome),
        verdict=None if verdict is None else Verdict(verdict),
        files_modified=data["files_modified"],
        usage=Usage.from_json(data["usage"]),
        error=data["error"],
        step_seq=data.get("step_seq"),  # rows of revision 0001 have neither of the two
        step_attempts=data.get("step_attempts", 0),
        epoch=epoch,
        parent_run_id=parent_run_id,
    )


def _state_json(run: Run) -> dict[str, JsonValue]:
    return {
        "step": run.step,
        "progress": run.progress,
        "last_seq": run.last_seq,
        "updated_at_ms": run.updated_at_ms,
        "started_at_ms": run.started_at_ms,
        "finished_at_ms": run.finished_at_ms,
        "cancel_requested": run.cancel_requested,
        "sandbox_id": run.sandbox_id,
        "commit": run.commit,
        "outcome": run.outcome,
        "verdict": run.verdict,
        "files_modified": run.files_modified,
        "usage": run.usage.as_json(),
        "error": run.error,
        "step_seq": run.step_seq,
        "step_attempts": run.step_attempts,
    }


def _request_json(request: RunRequest) -> dict[str, JsonValue]:
    return {
        "repo_url": request.repo_url,
        "repository": request.repository,
        "prompt": request.prompt,
        "ref": request.ref,
        "model": request.model,
        "agent": request.agent,
        "sandbox": request.sandbox,
        "checks": request.checks,
        "network": request.network,
        "limits": request.limits.as_json(),
        "clone_depth": request.clone_depth,
        "metadata": dict(request.metadata),
        "caller": request.caller,
    }


def _request_of(data: dict[str, Any]) -> RunRequest:
    checks = data["checks"]
    return RunRequest(
        repo_url=data["repo_url"],
        repository=data["repository"],
        prompt=data["prompt"],
        ref=data["ref"],
        model=data["model"],
        agent=data["agent"],
        sandbox=data["sandbox"],
        checks=None if checks is None else tuple(checks),
        network=tuple(data.get("network", ())),  # rows of the first days have none
        limits=Limits(**data["limits"]),
        clone_depth=data["clone_depth"],
        metadata=data["metadata"],
        caller=data["caller"],
    )


def _json(data: Mapping[str, JsonValue]) -> str:
    return json.dumps(data, separators=(",", ":"))
