"""Errors that nobody foresaw, answered without their details."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from patchkiln.api.errors import problem_of
from patchkiln.api.problem import answer
from patchkiln.engine.unforeseen import log_unforeseen
from patchkiln.errors import PatchkilnError


class LastResort:
    """ASGI middleware: an error that nobody foresaw is logged and answered with 500.

    FastAPI's own way stands outside of CORS, so that a browser could not read the answer, and
    raises again for the server to log with its stack trace.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Take what may fail."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        started = False

        async def noticed(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noticed)
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            log_unforeseen(error, f"{scope.get('method')} {scope.get('path')}")
            if not started and scope["type"] == "http":
                told = problem_of(PatchkilnError("The server failed in an unforeseen way."))
                await answer(Headers(scope=scope), told)(scope, receive, send)
