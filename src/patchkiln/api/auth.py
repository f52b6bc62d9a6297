"""Who calls: API keys, sent as ``Authorization: Bearer KEY`` (RFC 6750)."""

import hashlib
import hmac
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from patchkiln.api.errors import problem_of
from patchkiln.api.problem import answer
from patchkiln.errors import Unauthorized

ANONYMOUS = "anonymous"
OPEN_PATHS = frozenset(
    {
        "/health",
        "/ready",
        "/metrics",
        "/stream-dummy",
        "/docs",
        "/docs/oauth2-redirect",
        "/redoc",
        "/openapi.json",
    }
)


class ApiKeys:
    """ASGI middleware: lets a request in, with its caller's name, or answers 401.

    It guards every path that is not listed as open, so that a new route is closed by default. A
    key in a URL is never taken: URLs end up in logs, histories and referrers.
    """

    def __init__(self, app: ASGIApp, keys: Mapping[str, str]) -> None:
        """Take the keys by the names of their callers; none of them opens the server."""
        self._app = app
        self._digests = {name: _digest(key.encode()) for name, key in keys.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        caller = self._caller(headers.get("authorization", ""))
        if caller is None and scope["path"] not in OPEN_PATHS:
            await answer(headers, problem_of(_refusal(headers)))(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller or ANONYMOUS
        await self._app(scope, receive, send)

    def _caller(self, authorization: str) -> str | None:
        """Return the key's name; every key is compared, in constant time."""
        if not self._digests:
            return ANONYMOUS
        scheme, _, key = authorization.partition(" ")
        given = _digest(key.strip().encode("latin-1"))
        found = [name for name, known in self._digests.items() if hmac.compare_digest(given, known)]
        return found[0] if found and scheme.lower() == "bearer" else None


def _digest(key: bytes) -> bytes:
    """Make keys of any length comparable without telling their length."""
    return hashlib.sha256(key).digest()


def _refusal(headers: Headers) -> Unauthorized:
    if "authorization" in headers:
        return Unauthorized("The server does not know this API key.")
    return Unauthorized("The server wants an API key.")
