"""The container engine: the HTTP interface of Docker, which Podman serves as well.

One connection a request, in a thread: an engine takes longer to answer than a thread to start, and
no more than a few requests are ever under way.
"""

import asyncio
import http.client
import json
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import quote, urlencode

from patchkiln.errors import SandboxUnavailable

# Docker 20.10 (December 2020) and Podman 4.0 speak it; it brings private cgroup namespaces.
API_VERSION = "v1.41"
_TIMEOUT_S = 60.0
_MAX_ANSWER_BYTES = 8 << 20
_MAX_MESSAGE_CHARS = 300
_FIRST_ERROR = 400
_REMOVALS = 20
_PAUSE_S = 0.05
_START = (
    "Start Podman's service as the server's user with 'systemctl --user enable --now "
    "podman.socket', or Docker's with 'sudo systemctl enable --now docker'; a socket elsewhere is "
    "named by PATCHKILN_CONTAINER_SOCKET."
)


class EngineError(Exception):
    """The engine refused a request: its status (0: no answer) and what it said, bounded."""

    def __init__(self, status: int, message: str) -> None:
        """Take both."""
        super().__init__(message)
        self.status = status
        self.message = message

    @property
    def is_missing(self) -> bool:
        """Tell whether what the request named is not there."""
        return self.status == http.client.NOT_FOUND


class _Connection(http.client.HTTPConnection):
    def __init__(self, place: str) -> None:
        super().__init__("engine", timeout=_TIMEOUT_S)
        self._place = place

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(self._place)


class _Request(NamedTuple):
    method: str
    path: str
    query: Mapping[str, str]
    body: bytes | None
    kind: str


class Engine:
    """Asks one engine, over its socket."""

    def __init__(self, place: str) -> None:
        """Take the path of the socket."""
        self.place = place

    async def get(self, path: str, **query: str) -> Any:
        """Return what the engine tells. Raises `EngineError`."""
        return await self._ask(_Request("GET", path, query, None, ""))

    async def post(self, path: str, body: Any = None, **query: str) -> Any:
        """Ask the engine to do something. Raises `EngineError`."""
        data = None if body is None else json.dumps(body).encode()
        return await self._ask(_Request("POST", path, query, data, "application/json"))

    async def load(self, archive: bytes, name: str) -> None:
        """Make an image of the files of a tar archive. Raises `EngineError`."""
        # Podman heeds no "tag" of its own; both take one in the name.
        query = {"fromSrc": "-", "repo": name}
        await self._ask(_Request("POST", "/images/create", query, archive, "application/x-tar"))

    async def delete(self, path: str, **query: str) -> None:
        """Remove something; what is gone, or on its way, is no error. Raises `EngineError`."""
        refusal = EngineError(0, "no answer")
        for _ in range(_REMOVALS):
            try:
                await self._ask(_Request("DELETE", path, query, None, ""))
            except EngineError as error:
                if error.is_missing or error.status == http.client.CONFLICT:
                    return
                if error.status != http.client.INTERNAL_SERVER_ERROR:
                    raise
                # Podman stumbles over a container that ends at the same moment.
                refusal = error
                await asyncio.sleep(_PAUSE_S)
            else:
                return
        raise refusal

    async def _ask(self, request: _Request) -> Any:
        return await asyncio.to_thread(self._exchange, request)

    def _exchange(self, request: _Request) -> Any:
        connection = _Connection(self.place)
        path = f"/{API_VERSION}{quote(request.path)}?{urlencode(request.query)}"
        headers = {"Content-Type": request.kind} if request.kind else {}
        try:
            connection.request(request.method, path, request.body, headers)
            answer = connection.getresponse()
            body = answer.read(_MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(0, _cause(error)) from error
        finally:
            connection.close()
        if answer.status >= _FIRST_ERROR:
            raise EngineError(answer.status, _message(body))
        return _last_document(body)


def find_engine(named: str | None) -> Engine:
    """Return the engine that a setting names, or the first that listens on this machine.

    Raises `SandboxUnavailable` with the cause and the fix.
    """
    places = [_path(named)] if named else _usual_places()
    causes = {place: _why_not(place) for place in places}
    for place, cause in causes.items():
        if cause is None:
            return Engine(place)
    closed = [place for place, cause in causes.items() if isinstance(cause, PermissionError)]
    if closed:
        raise SandboxUnavailable(
            "A container engine is there, and the server's user may not use its socket.",
            remedy="Use rootless Podman: run 'systemctl --user enable --now podman.socket' as the "
            "server's user; or let that user use Docker, which makes it as mighty as root: "
            "'sudo usermod -aG docker USER'.",
        )
    if named:
        raise SandboxUnavailable(
            "No container engine listens at the socket that PATCHKILN_CONTAINER_SOCKET names.",
            remedy=_START,
        )
    raise SandboxUnavailable("No container engine runs on this machine.", remedy=_START)


def _usual_places() -> list[str]:
    """Return where engines listen: what is the user's own first."""
    own = f"/run/user/{os.getuid()}/podman/podman.sock"
    return [own, "/run/podman/podman.sock", "/var/run/docker.sock"]


def _path(named: str) -> str:
    return named.removeprefix("unix://")


def _why_not(place: str) -> OSError | None:
    """Return why nobody can be reached at a socket, None where somebody can."""
    try:
        if not stat.S_ISSOCK(Path(place).stat().st_mode):
            return FileNotFoundError()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_TIMEOUT_S)
            probe.connect(place)
    except OSError as error:
        return error
    return None


def _cause(error: Exception) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "no answer"


def _message(body: bytes) -> str:
    document = _last_document(body)
    if isinstance(document, dict):
        text = str(cast("dict[str, Any]", document).get("message", ""))
    else:
        text = body.decode(errors="replace")
    return " ".join(text.split())[:_MAX_MESSAGE_CHARS]


def _last_document(body: bytes) -> Any:
    """Read an answer; of a stream of progress, its last line."""
    for text in (body, body.strip().rpartition(b"\n")[2]):
        try:
            return json.loads(text)
        except ValueError:
            continue
    return None
