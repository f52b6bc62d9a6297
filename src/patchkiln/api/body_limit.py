"""How large a request may be."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from patchkiln.api.errors import body_too_large

MAX_BODY_BYTES = 1 << 20


class BodyLimit:
    """ASGI middleware: reading more than the limit of a body ends the request with 413.

    FastAPI's own ``max_body_size`` answers in plain text past every exception handler.
    """

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES) -> None:
        """Take the limit in bytes."""
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_bytes:
                raise body_too_large(self._max_bytes)
            return message

        await self._app(scope, bounded if scope["type"] == "http" else receive, send)
