"""A real server for tests: uvicorn on a free port of loopback, in the test's own event loop.

    async with serving(create_app(engine, config), engine) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            ...

The test and the server share the loop, so a test may call the engine directly between requests.
What blocks the loop blocks the server: start programs with ``asyncio.create_subprocess_exec``.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI

from patchkiln.engine import RunEngine

STOP_TIMEOUT_S = 10


class TestServer(uvicorn.Server):
    """Ends the streams before it stops, as the real one does, and leaves signals to pytest."""

    __test__ = False

    def __init__(self, config: uvicorn.Config, engine: RunEngine) -> None:
        """Take the engine whose streams must end at the stop."""
        super().__init__(config)
        self._engine = engine
        self.stopping = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture none."""
        yield

    async def main_loop(self) -> None:
        """Wait for the stop, without the tenth of a second that uvicorn takes to notice it."""
        await self.on_tick(0)
        await self.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain the streams, then stop."""
        self._engine.drain()
        await super().shutdown(sockets)


@asynccontextmanager
async def serving(app: FastAPI, engine: RunEngine) -> AsyncGenerator[str]:
    """Serve an application and lend its base URL; stop it at the end. The engine stays open."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False)
    server = TestServer(config, engine)
    serve = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not (server.started or serve.done()):  # noqa: ASYNC110 - uvicorn has but this flag
            await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.stopping.set()
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await serve
        listener.close()
