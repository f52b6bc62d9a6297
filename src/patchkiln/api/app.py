"""Puts the HTTP edge together."""

from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import Lifespan

from patchkiln import __version__
from patchkiln.api import probes, routes
from patchkiln.api.auth import ApiKeys
from patchkiln.api.body_limit import BodyLimit
from patchkiln.api.config import ApiConfig
from patchkiln.api.dependencies import Served
from patchkiln.api.errors import install
from patchkiln.api.unforeseen import LastResort
from patchkiln.engine import RunEngine

DESCRIPTION = """
A prompt and a repository go in; a patch that was made and checked inside a sandbox comes out, and
everything in between is told live.

**Streams.** Every frame is `id: SEQ`, one line `data: {json}` and a blank line; there is no
`event:` line, so `EventSource.onmessage` sees all of them, and heartbeats are comments. The last
frame of every run is its one `summary`. A run belongs to the server: leave and come back with
`Last-Event-ID`, nothing is lost or doubled.

**Keys.** Where the server has keys, send `Authorization: Bearer KEY`. A browser's `EventSource`
can send no header, and a key in a URL is not taken, because URLs end up in logs: read the stream
with `fetch` instead, as `examples/clients/browser.html` does.

**Errors.** A wrong request is `422` with `{"detail": [{loc, msg, type}]}`; every other error is
`application/problem+json` with `code`, `retryable` and `remedy`. With
`Accept: text/event-stream` the same status comes as a stream of one `error` frame.
"""
TAGS = [
    {"name": "runs", "description": "Start a run, follow it, take its patch."},
    {"name": "server", "description": "The server itself; open to everyone."},
]
EXPOSED_HEADERS = ("X-Run-Id", "Location", "Idempotent-Replay", "Retry-After")
ALLOWED_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID")
ALLOWED_METHODS = ("GET", "POST", "DELETE")


def create_app(
    engine: RunEngine, config: ApiConfig, *, lifespan: Lifespan[FastAPI] | None = None
) -> FastAPI:
    """Return the application over an engine that is already there; closing it is not its work."""
    app = FastAPI(
        title="Patchkiln",
        summary="A coding agent as a service of your own.",
        description=DESCRIPTION,
        version=__version__,
        license_info={"name": "MIT", "identifier": "MIT"},
        openapi_tags=TAGS,
        lifespan=lifespan,
    )
    app.state.served = Served(engine=engine, config=config)
    install(app)
    app.add_middleware(LastResort)
    # The last one added is the outermost: a browser must be able to read a 401 too.
    app.add_middleware(BodyLimit)
    app.add_middleware(ApiKeys, keys=config.api_keys)
    app.add_middleware(CORSMiddleware, **_cors(config.cors_origins))
    app.include_router(routes.router)
    app.include_router(probes.router)
    return app


def _cors(origins: tuple[str, ...]) -> dict[str, Any]:
    """Return the rules for browsers; never with credentials, since keys are sent by hand."""
    permissive = "*" in origins
    return {
        "allow_origins": origins,
        "allow_methods": ("*",) if permissive else ALLOWED_METHODS,
        "allow_headers": ("*",) if permissive else ALLOWED_HEADERS,
        "expose_headers": EXPOSED_HEADERS,
    }
