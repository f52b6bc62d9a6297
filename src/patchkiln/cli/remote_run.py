"""Follows a run of a server: the stream, and again after every interruption of it."""

import http.client
import time
from collections.abc import Iterator
from http.client import HTTPResponse

from patchkiln.cli.event_source import payloads
from patchkiln.cli.frame import Frame
from patchkiln.cli.server import Server, ServerUnreachable, run_path

RETRY_DELAYS_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
EVENT_STREAM = "text/event-stream"


def follow(
    server: Server, run_id: str, *, after: int = 0, stream: HTTPResponse | None = None
) -> Iterator[Frame]:
    """Yield a run's events after ``after`` until its summary.

    ``stream`` is an open answer to begin with. A connection that ends early is made again from
    the last event. Raises `ServerUnreachable` when that fails seven times in a row, and
    `ServerRefused`.
    """
    failures = 0
    while True:
        try:
            answer = stream or _open(server, run_id, after)
            stream = None
            with answer:
                for frame in _frames(answer):
                    yield frame
                    after, failures = max(after, frame.seq), 0
                    if frame.summary is not None:
                        return
                if answer.status == http.HTTPStatus.NO_CONTENT:
                    return
        except ServerUnreachable:
            if failures == len(RETRY_DELAYS_S):
                raise
        if failures == len(RETRY_DELAYS_S):
            raise ServerUnreachable(
                "The stream was cut off and cannot be had again.",
                remedy=f"The run goes on. Follow it with 'patchkiln logs -f {run_id}'.",
            )
        time.sleep(RETRY_DELAYS_S[failures])
        failures += 1


def _open(server: Server, run_id: str, after: int) -> HTTPResponse:
    path = f"{run_path(run_id)}/events?after={after}"
    return server.open("GET", path, headers={"Accept": EVENT_STREAM})


def _frames(answer: HTTPResponse) -> Iterator[Frame]:
    try:
        for payload in payloads(answer):
            yield Frame.parse(payload)
    except (OSError, http.client.HTTPException) as error:
        raise ServerUnreachable("The connection to the server was lost.") from error
