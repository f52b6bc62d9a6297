"""Answers that the OpenAPI document describes in the same words wherever they occur."""

from typing import Any, TypeAlias

from patchkiln.api.accept import EVENT_STREAM, JSON
from patchkiln.api.answers import EventsAnswer, FaultAnswer, ProblemAnswer
from patchkiln.api.problem import PROBLEM_JSON

Responses: TypeAlias = dict[int | str, dict[str, Any]]

EXAMPLE_FRAMES = (
    'id: 17\ndata: {"type":"success","message":"Repository cloned: fastapi","step":"clone",'
    '"progress":50,"timestamp":1704067205000,"run_id":"run_018c","seq":17,'
    '"event":"repository.cloned","data":{}}\n\n'
    'id: 18\ndata: {"type":"info","message":"Step analysis","step":"analysis",'
    '"progress":50,"timestamp":1704067205004,"run_id":"run_018c","seq":18,'
    '"event":"step.started","data":{}}\n\n'
)
RUN_HEADERS = {
    "Location": {"description": "The run, `/runs/{id}`.", "schema": {"type": "string"}},
    "Idempotent-Replay": {
        "description": "`true` where the key had been used: this is the earlier run.",
        "schema": {"type": "string"},
    },
}
STREAM_HEADERS = {
    "X-Run-Id": {"description": "The run's id.", "schema": {"type": "string"}},
    **RUN_HEADERS,
}


def invalid(description: str = "The request is wrong; nothing was created") -> Responses:
    """Describe the refusal of a request."""
    faults = {"type": "array", "items": FaultAnswer.model_json_schema()}
    schema = {"type": "object", "properties": {"detail": faults}, "required": ["detail"]}
    return {422: {"description": description, "content": {JSON: {"schema": schema}}}}


def problem(status: int, description: str) -> Responses:
    """Describe an error of one status."""
    schema = ProblemAnswer.model_json_schema()
    return {status: {"description": description, "content": {PROBLEM_JSON: {"schema": schema}}}}


def stream(description: str, headers: dict[str, Any] | None = None) -> Responses:
    """Describe an event stream."""
    content = {EVENT_STREAM: {"schema": {"type": "string"}, "example": EXAMPLE_FRAMES}}
    return {200: {"description": description, "content": content, "headers": headers or {}}}


def events_or_page() -> Responses:
    """Describe an event stream that can be had as a page of JSON too."""
    answer = stream("What has happened after `after`, then what happens")
    page = {"schema": EventsAnswer.model_json_schema()}
    answer[200]["content"][JSON] = page
    return answer
