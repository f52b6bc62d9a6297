"""The server itself: alive, ready, and a sample of what it streams. Open to everyone."""

from fastapi import APIRouter

from patchkiln import __version__
from patchkiln.api.answers import HealthAnswer, ReadyAnswer, ready_answer
from patchkiln.api.dependencies import ServedDep
from patchkiln.api.documented import problem, stream
from patchkiln.api.errors import NotReady
from patchkiln.api.exposition import Exposition, exposition
from patchkiln.api.sample import sample_batches
from patchkiln.api.stream import EventStream
from patchkiln.domain.event import JsonValue

router = APIRouter(tags=["server"])


@router.get("/health", summary="Is the server alive?")
async def health() -> HealthAnswer:
    """Answer at once, whatever the state of its parts."""
    return HealthAnswer(status="ok", version=__version__)


@router.get(
    "/ready",
    summary="Could a run start now?",
    response_model=ReadyAnswer,
    responses=problem(503, "No; the same fields tell which part is missing"),
)
async def ready(served: ServedDep) -> dict[str, JsonValue]:
    """Look at the store and at the sandbox's self-test."""
    readiness = await served.engine.readiness()
    details = ready_answer(readiness)
    if not readiness.ready:
        broken = readiness.store != "ok"
        raise NotReady(
            readiness.store if broken else readiness.isolation.reason,
            remedy="Look at the data directory." if broken else readiness.isolation.remedy,
            details=details,
        )
    return details


@router.get("/metrics", summary="What has been counted", response_class=Exposition)
async def metrics(served: ServedDep) -> Exposition:
    """Tell Prometheus how many runs, streams and events there are; no word of what is in them."""
    return Exposition(exposition(served.engine.metrics))


@router.get(
    "/stream-dummy",
    summary="A sample stream",
    status_code=200,
    response_class=EventStream,
    responses=stream("Every step, every message type, one summary"),
)
async def stream_dummy(served: ServedDep) -> EventStream:
    """Stream a made-up run of two seconds, to try a client on; nothing happens on the server."""
    return EventStream(sample_batches(), heartbeat_s=served.config.heartbeat_s, coalesce=False)
