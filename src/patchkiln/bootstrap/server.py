"""The server: one process, one data directory, one store."""

import asyncio
import fcntl
import logging
import os
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import uvicorn

from patchkiln.api import ApiConfig, create_app
from patchkiln.bootstrap.services import AGENTS, default_agent, durable_engine, open_engine
from patchkiln.bootstrap.storage import open_store
from patchkiln.engine import RunEngine
from patchkiln.engine.retention import retention
from patchkiln.errors import SettingsError, StoreError
from patchkiln.logging_config import configure_logging
from patchkiln.ports.sandbox import IsolationLevel
from patchkiln.settings import Settings

GRACEFUL_SHUTDOWN_S = 5
BACKLOG = 2048
STARTED_POLL_S = 0.01
FIRST_ANSWERS_S = 0.1

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """A uvicorn server that lets streams end before it waits for its connections."""

    def __init__(self, config: uvicorn.Config, engine: RunEngine) -> None:
        """Take the engine whose streams must end at shutdown."""
        super().__init__(config)
        self._engine = engine

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Take the signals without raising them again: the engine and the store close after us."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain the streams, then shut down as uvicorn does."""
        self._engine.drain()
        await super().shutdown(sockets)


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the process's exit code. Raises `SettingsError`."""
    configure_logging(settings.log_level)
    with data_directory(settings.data_dir), listener(settings) as sock:
        asyncio.run(_serve(settings, sock))
    return 0


@contextmanager
def data_directory(path: Path) -> Generator[None]:
    """Make the data directory and hold it, so that two servers never share one."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SettingsError(
            "Another server uses this data directory. Stop it, or set PATCHKILN_DATA_DIR."
        ) from error
    else:
        yield
    finally:
        os.close(lock)


@contextmanager
def listener(settings: Settings) -> Generator[socket.socket]:
    """Bind the address before anything else is done. Raises `SettingsError` where it is taken."""
    place = (settings.host, settings.port)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        sock = socket.create_server(place, family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"The server cannot listen on {settings.host}, port {settings.port}: "
            f"{(error.strerror or 'no such address').lower()}. Stop what listens there, or set "
            "PATCHKILN_HOST or PATCHKILN_PORT."
        ) from error
    with sock:
        yield sock


async def _serve(settings: Settings, sock: socket.socket) -> None:
    store = await open_store(settings)
    try:
        async with (
            open_engine(settings, store) as engine,
            retention(store, days=settings.retention_days),
        ):
            unfinished = await engine.recover()
            if unfinished:
                logger.warning("%d run(s) cut off by the last stop go on", unfinished)
            config = uvicorn.Config(
                create_app(engine, api_config(settings)),
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
            )
            address, port = sock.getsockname()[:2]
            logger.info(
                "serving on http://%s:%d", f"[{address}]" if ":" in address else address, port
            )
            server = Server(config, engine)
            preparing = asyncio.create_task(_prepare(settings, engine, server))
            await server.serve(sockets=[sock])
            preparing.cancel()
            with suppress(asyncio.CancelledError):
                await preparing
    finally:
        await store.close()


def api_config(settings: Settings) -> ApiConfig:
    """Return what the API needs to know of the settings."""
    return ApiConfig(
        api_keys={name: key.get_secret_value() for name, key in settings.api_keys.items()},
        git_allow=settings.git_allow,
        cors_origins=settings.cors_origins,
        default_agent=default_agent(settings),
        agents=AGENTS,
        sandboxes=settings.sandbox,
        limits=settings.limits,
    )


async def _prepare(settings: Settings, engine: RunEngine, server: Server) -> None:
    """Do before the first run asks for it what the server need not wait for to answer.

    A server that could not carry out a run stops. Raises `StoreError`.
    """
    while not server.started:  # noqa: ASYNC110 - uvicorn has but this flag
        await asyncio.sleep(STARTED_POLL_S)
    # Whoever waited for the server is answered before an import of half a second begins.
    await asyncio.sleep(FIRST_ANSWERS_S)
    try:
        await engine.open(await durable_engine(settings))
    except StoreError:
        server.should_exit = True
        raise
    await _tell_state(settings, engine)
    await engine.warm(default_agent(settings))


async def _tell_state(settings: Settings, engine: RunEngine) -> None:
    isolation = (await engine.readiness()).isolation
    if isolation.level is IsolationLevel.NONE:
        logger.error("runs will be refused: %s %s", isolation.reason, isolation.remedy)
    else:
        logger.info("sandbox: %s, %s", isolation.level.value, isolation.reason)
    if settings.e2b_api_key is not None:
        logger.warning("E2B_API_KEY is set, but this version serves the local sandbox only")
    if "*" in settings.cors_origins and settings.public:
        logger.warning(
            "CORS is open to every origin on a public address; set PATCHKILN_CORS_ORIGINS"
        )
