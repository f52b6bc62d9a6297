"""Runs over HTTP: start one, follow it, take its patch."""

import json
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response, Security
from starlette.datastructures import Headers

from patchkiln.api.accept import EVENT_STREAM, JSON, asks_for
from patchkiln.api.answers import RunAnswer, RunsAnswer, run_answer, run_path
from patchkiln.api.dependencies import Caller, IdempotencyHeader, Served, ServedDep, bearer
from patchkiln.api.documented import (
    RUN_HEADERS,
    STREAM_HEADERS,
    events_or_page,
    invalid,
    problem,
    stream,
)
from patchkiln.api.errors import NotServed
from patchkiln.api.requests import CodeRequest
from patchkiln.api.stream import EventStream, gap_data
from patchkiln.domain.run import Outcome, Run, RunStatus
from patchkiln.errors import Conflict, NotFound
from patchkiln.ports.store import IdempotencyKey

MAX_SEQ = 2**53 - 1
MAX_SEQ_DIGITS = 15
DEFAULT_EVENTS = 500
MAX_EVENTS = 1000
DEFAULT_RUNS = 50
MAX_RUNS = 200
MAX_TEXT_CHARS = 256
# What the contract will let a client do with a run.
NOT_SERVED = ("messages", "approve", "reject", "deliver")
PATCH_HEADERS = {
    # Without a charset: a patch may hold files of any encoding.
    "content-type": "text/x-diff",
    "x-content-type-options": "nosniff",
}

router = APIRouter(
    tags=["runs"],
    dependencies=[Security(bearer)],
    responses=problem(401, "No key, or an unknown one"),
)
REFUSALS = {
    **invalid(),
    **problem(409, "The `Idempotency-Key` was used with another body"),
    **problem(413, "The body is larger than 1 MiB"),
    **problem(429, "Too many runs of this caller are waiting; see `Retry-After`"),
}
UNKNOWN_RUN = problem(404, "There is no such run")


@router.post(
    "/code",
    summary="Start a run and stream it",
    status_code=200,
    response_class=EventStream,
    responses={**stream("The whole run, live", STREAM_HEADERS), **REFUSALS},
)
async def code(
    body: CodeRequest, served: ServedDep, caller: Caller, key: IdempotencyHeader = None
) -> EventStream:
    """Clone the repository, make the change, check it, and tell everything live.

    The run goes on when the client leaves; `GET /runs/{id}/events` has the same stream again.
    """
    run, created = await _submit(body, served, caller, key)
    return EventStream(
        served.engine.follow(run.id),
        heartbeat_s=served.config.heartbeat_s,
        coalesce=False,
        headers={"x-run-id": run.id, **_run_headers(run, created=created)},
    )


@router.post(
    "/runs",
    summary="Start a run",
    status_code=201,
    responses={
        201: {"headers": RUN_HEADERS},
        200: {"model": RunAnswer, "description": "The run of the same `Idempotency-Key`"},
        **REFUSALS,
    },
)
async def create_run(
    body: CodeRequest,
    response: Response,
    served: ServedDep,
    caller: Caller,
    key: IdempotencyHeader = None,
) -> RunAnswer:
    """Start a run and return at once."""
    run, created = await _submit(body, served, caller, key)
    response.headers.update(_run_headers(run, created=created))
    response.status_code = 201 if created else 200
    return run_answer(run)


@router.get("/runs", summary="List runs", responses=invalid("A filter or the cursor is wrong"))
async def list_runs(
    served: ServedDep,
    status: Annotated[RunStatus | None, Query(description="Where the run stands.")] = None,
    repository: Annotated[
        str | None, Query(max_length=MAX_TEXT_CHARS, description="The short name.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_RUNS)] = DEFAULT_RUNS,
    cursor: Annotated[
        str | None, Query(max_length=MAX_TEXT_CHARS, description="From the page before.")
    ] = None,
) -> RunsAnswer:
    """Return runs, newest first."""
    page = await served.engine.store.list_runs(
        status=status, repository=repository, limit=limit, cursor=cursor
    )
    return RunsAnswer(runs=[run_answer(run) for run in page.runs], cursor=page.cursor)


@router.get("/runs/{run_id}", summary="Look at a run", responses=UNKNOWN_RUN)
async def get_run(run_id: str, served: ServedDep) -> RunAnswer:
    """Return where the run stands, or how it ended."""
    return run_answer(await served.engine.store.get_run(run_id))


@router.get(
    "/runs/{run_id}/events",
    summary="Follow a run",
    status_code=200,
    response_class=EventStream,
    responses={
        **events_or_page(),
        204: {"description": "The run is finished and there is nothing after that `seq`"},
        **UNKNOWN_RUN,
    },
)
async def run_events(
    run_id: str,
    request: Request,
    served: ServedDep,
    after: Annotated[int, Query(ge=0, le=MAX_SEQ, description="Skip events up to this `seq`.")] = 0,
    limit: Annotated[
        int, Query(ge=1, le=MAX_EVENTS, description="Of a JSON page.")
    ] = DEFAULT_EVENTS,
) -> Response:
    """Stream the run's events: those that were, then those that come.

    A `Last-Event-ID` header goes before `after`: an `EventSource` that comes back repeats the
    URL of its first call. With `Accept: application/json` the answer is a page of events.
    """
    run = await served.engine.store.get_run(run_id)
    # Nobody can have seen what is not written yet.
    start = min(_last_event_id(request.headers, after), run.last_seq)
    if _wants_page(request.headers):
        return await _page(served, run, start, limit)
    if run.finished and start == run.last_seq:
        return Response(status_code=204)
    return EventStream(
        served.engine.follow(run_id, after=start),
        heartbeat_s=served.config.heartbeat_s,
        after=start,
    )


@router.get(
    "/runs/{run_id}/patch",
    summary="Take the patch",
    response_class=Response,
    responses={
        200: {
            "description": "A unified diff for `git apply`; empty where nothing was changed",
            "content": {"text/x-diff": {"schema": {"type": "string"}}},
        },
        **problem(404, "There is no such run, or it ended without a patch"),
        **problem(409, "There is no patch yet"),
    },
)
async def get_patch(run_id: str, served: ServedDep) -> Response:
    """Return the change; binary files, renames and modes included."""
    run = await served.engine.store.get_run(run_id)
    diff = await served.engine.store.get_patch(run_id)
    if diff is None:
        first = await served.engine.store.events(run_id, after=0, limit=1)
        diff = _patch_of(run, pruned=first[0].seq > 1)
    return Response(diff, headers=PATCH_HEADERS)


@router.post(
    "/runs/{run_id}/cancel", summary="Cancel a run", status_code=202, responses=UNKNOWN_RUN
)
async def cancel(run_id: str, served: ServedDep) -> RunAnswer:
    """Ask the run to end; what it had so far is kept as a patch. Once more does no harm."""
    return run_answer(await served.engine.cancel(run_id))


@router.post(
    "/runs/{run_id}/retry",
    summary="Retry a failed run",
    status_code=201,
    responses={
        201: {"headers": RUN_HEADERS},
        200: {"model": RunAnswer, "description": "The retry that was started before"},
        **UNKNOWN_RUN,
        **problem(409, "The run did not fail"),
        **problem(429, "Too many runs of this caller are waiting; see `Retry-After`"),
    },
)
async def retry(run_id: str, response: Response, served: ServedDep) -> RunAnswer:
    """Start the run again at the step that failed, as a new run that takes over the finished steps.

    A run is retried once: asked again, the answer is the same new run. If that one fails, retry it.
    """
    run, created = await served.engine.retry(run_id)
    response.headers.update(_run_headers(run, created=created))
    response.status_code = 201 if created else 200
    return run_answer(run)


@router.delete(
    "/runs/{run_id}",
    summary="Forget a run",
    status_code=204,
    responses={**UNKNOWN_RUN, **problem(409, "The run is not finished")},
)
async def delete_run(run_id: str, served: ServedDep) -> None:
    """Delete a finished run with its events and its patch."""
    await served.engine.delete(run_id)


async def not_served(run_id: str) -> Response:
    """Answer 501: the contract knows this call, this server does not serve it yet."""
    del run_id
    raise NotServed("This server does not serve this call yet.")


for action in NOT_SERVED:
    router.add_api_route(
        f"/runs/{{run_id}}/{action}",
        not_served,
        methods=["POST"],
        summary=f"Not served yet: {action}",
        status_code=501,
        responses=problem(501, "This server does not serve this yet"),
    )


async def _submit(
    body: CodeRequest, served: Served, caller: str, key: str | None
) -> tuple[Run, bool]:
    request = body.run_request(served.config, caller)
    if key is None:
        return await served.engine.submit(request)
    once = IdempotencyKey(caller=caller, key=key, fingerprint=body.fingerprint())
    return await served.engine.submit(request, idempotency=once)


def _run_headers(run: Run, *, created: bool) -> dict[str, str]:
    location = {"location": run_path(run.id)}
    return location if created else {**location, "idempotent-replay": "true"}


def _last_event_id(headers: Headers, after: int) -> int:
    """Return the last ``seq`` that the reader has.

    A header that is no ``seq`` is passed over, where a wrong ``after`` is refused: what an
    `EventSource` sends there is not the user's doing, and any error would end it for good (WHATWG
    HTML, section 9.2.3), while a replay from ``after`` costs it nothing.
    """
    text = headers.get("last-event-id", "")
    is_seq = text.isascii() and text.isdigit() and len(text) <= MAX_SEQ_DIGITS
    return int(text) if is_seq else after


def _wants_page(headers: Headers) -> bool:
    return asks_for(headers, JSON) and not asks_for(headers, EVENT_STREAM)


async def _page(served: Served, run: Run, after: int, limit: int) -> Response:
    """Return a page of events, spliced from the texts that the log keeps.

    ``gap`` has the same object as the event `stream.gap` where events before the page are gone.
    """
    events = await served.engine.store.events(run.id, after=after, limit=limit)
    last = events[-1].seq if events else after
    ended = events[-1].last if events else run.finished
    texts = ",".join(event.payload for event in events)
    next_after = "null" if ended else str(last)
    gone = events and events[0].seq > after + 1
    gap = json.dumps(gap_data(after, events[0])) if gone else "null"
    page = f'{{"events":[{texts}],"gap":{gap},"next_after":{next_after}}}'
    return Response(page, media_type=JSON)


def _patch_of(run: Run, *, pruned: bool) -> bytes:
    """Return the patch of a run of which none is held."""
    if not run.finished:
        raise Conflict("This run has no patch yet.", remedy="Wait for the event 'patch.made'.")
    if pruned and run.files_modified:
        raise NotFound(
            "The patch of this run is no longer held.",
            remedy="Ask the operator how long patches are kept (PATCHKILN_RETENTION_DAYS).",
        )
    if run.outcome is not Outcome.NO_CHANGE:
        raise NotFound(
            "This run ended without a patch.", remedy="Read its last events for the reason."
        )
    return b""
