"""Errors on the wire; the only place that knows which HTTP status an error has.

Everything but 422 is a problem body (RFC 9457); 422 keeps FastAPI's ``{"detail": [...]}``. Who
sends ``Accept: text/event-stream`` is given the same status as a stream of one ``error`` frame:
the first clients of this API look at ``data: `` lines alone.
"""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from patchkiln.api.invalid import Fault, faults_of
from patchkiln.api.problem import Problem, answer
from patchkiln.domain.event import JsonObject
from patchkiln.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    PatchkilnError,
    SandboxUnavailable,
    StoreError,
    TooManyRuns,
    Unauthorized,
)

CHALLENGE = 'Bearer realm="patchkiln"'


class NotServed(PatchkilnError):
    """A call that the contract knows and this server does not serve yet."""

    code = "not_implemented"
    default_remedy = "GET /docs lists the calls that this server serves."


class NotReady(PatchkilnError):
    """No run could start now. ``details`` tells which part is missing."""

    code = "not_ready"
    retryable = True
    default_remedy = "Run 'patchkiln doctor' on the server."

    def __init__(self, message: str, *, remedy: str, details: JsonObject) -> None:
        """Take the sentence, the fix and the state of each part."""
        super().__init__(message, remedy=remedy)
        self.details = details


_STATUS: Mapping[type[BaseException], int] = {
    Unauthorized: 401,
    NotFound: 404,
    Conflict: 409,
    TooManyRuns: 429,
    NotServed: 501,
    NotReady: 503,
    SandboxUnavailable: 503,
    StoreError: 503,
}
# What the framework itself answers: a code, a sentence (empty: its own) and a remedy by status.
_FRAMEWORK: Mapping[int, tuple[str, str, str]] = {
    404: ("not_found", "There is nothing at this path.", "GET /docs lists the calls."),
    405: ("method_not_allowed", "This path has no such method.", "GET /docs lists the calls."),
    413: ("body_too_large", "", "Shorten the prompt or the commands."),
}


def problem_of(error: PatchkilnError) -> Problem:
    """Return how one of our own errors looks on the wire; `InvalidRequest` has its own form."""
    kinds = (kind for kind in type(error).__mro__ if kind in _STATUS)
    status = _STATUS.get(next(kinds, PatchkilnError), 500)
    return Problem(
        status=status,
        code=error.code,
        message=error.message,
        remedy=error.remedy,
        retryable=error.retryable,
        details=error.details if isinstance(error, NotReady) else {},
        headers=_headers_of(error),
    )


def body_too_large(max_bytes: int) -> HTTPException:
    """Return what ends the reading of a body; FastAPI lets no other error through from there."""
    return HTTPException(413, f"The body is larger than {max_bytes >> 20} MiB.")


def install(app: FastAPI) -> None:
    """Have the application answer every error in this module's way."""
    app.exception_handlers |= {
        PatchkilnError: _on_own,
        HTTPException: _on_framework,
        RequestValidationError: _on_invalid,
    }


async def _on_own(request: Request, error: PatchkilnError) -> Response:
    if isinstance(error, InvalidRequest):
        return answer(request.headers, _invalid((Fault.of(error, request.method),), error.code))
    return answer(request.headers, problem_of(error))


async def _on_framework(request: Request, error: HTTPException) -> Response:
    if error.status_code == HTTPStatus.BAD_REQUEST:
        # FastAPI's word for a body that is no UTF-8, or nested beyond measure.
        return answer(request.headers, _invalid((Fault.unreadable(),)))
    code, message, remedy = _FRAMEWORK.get(
        error.status_code, ("http_error", "", "GET /docs lists the calls.")
    )
    problem = Problem(
        status=error.status_code,
        code=code,
        message=message or error.detail,
        remedy=remedy,
        headers=error.headers or {},
    )
    return answer(request.headers, problem)


async def _on_invalid(request: Request, error: RequestValidationError) -> Response:
    return answer(request.headers, _invalid(faults_of(error, request.headers)))


def _invalid(faults: tuple[Fault, ...], code: str = InvalidRequest.code) -> Problem:
    return Problem(
        status=422,
        code=code,
        message=faults[0].sentence(),
        remedy=InvalidRequest.default_remedy,
        faults=faults,
    )


def _headers_of(error: PatchkilnError) -> dict[str, str]:
    if isinstance(error, TooManyRuns):
        return {"retry-after": str(error.retry_after_s)}
    if isinstance(error, Unauthorized):
        return {"www-authenticate": CHALLENGE}
    return {}
