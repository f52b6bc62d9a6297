"""How an error looks on the wire, in each of its forms."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from fastapi import Response
from starlette.datastructures import Headers

from patchkiln.api.accept import EVENT_STREAM, JSON, asks_for
from patchkiln.api.invalid import Fault
from patchkiln.domain.event import EventType, JsonObject, JsonValue

PROBLEM_JSON = "application/problem+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error as it goes out. ``faults`` are there for 422 alone, ``details`` are its own."""

    status: int
    code: str
    message: str
    remedy: str
    retryable: bool = False
    faults: tuple[Fault, ...] = ()
    details: JsonObject = field(default_factory=dict[str, JsonValue])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def body(self) -> JsonObject:
        """Return the JSON object of the answer."""
        if self.faults:
            return {"detail": [fault.as_json() for fault in self.faults]}
        return {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.message,
            "code": self.code,
            "retryable": self.retryable,
            "remedy": self.remedy,
            **self.details,
        }

    def frame(self) -> JsonObject:
        """Return the one frame of the answer as a stream; no run exists, so it has no ``seq``."""
        return {
            "type": EventType.ERROR.value,
            "message": self.message,
            "step": "validation",
            "progress": 0,
            "timestamp": time.time_ns() // 1_000_000,
            "event": "request.rejected",
            "data": {
                "status": self.status,
                "code": self.code,
                "retryable": self.retryable,
                "remedy": self.remedy,
                **self.body(),
            },
        }


def answer(headers: Headers, problem: Problem) -> Response:
    """Return a problem in the form that the request's ``headers`` ask for."""
    if asks_for(headers, EVENT_STREAM):
        media_type, content = EVENT_STREAM, f"data: {_dumps(problem.frame())}\n\n"
    else:
        media_type = JSON if problem.faults else PROBLEM_JSON
        content = _dumps(problem.body())
    return Response(
        content,
        status_code=problem.status,
        media_type=media_type,
        headers={"cache-control": "no-store", **problem.headers},
    )


def _dumps(value: JsonObject) -> str:
    """Encode as ASCII: what a request is answered with may hold half a surrogate pair."""
    return json.dumps(value, separators=(",", ":"))
