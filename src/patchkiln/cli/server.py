"""Speaks to a Patchkiln server over HTTP, with the standard library alone."""

import http.client
import json
import os
from argparse import Namespace
from collections.abc import Mapping
from http.client import HTTPResponse
from typing import ClassVar
from urllib.parse import quote, urlsplit

from patchkiln.cli.event_source import payloads
from patchkiln.cli.frame import Frame, items, text
from patchkiln.domain.event import JsonObject, JsonValue
from patchkiln.errors import InvalidRequest, PatchkilnError

DEFAULT_SERVER = "http://127.0.0.1:8000"
ANSWER_TIMEOUT_S = 60.0
ERRORS_FROM = 400
MAX_ANSWER_BYTES = 256 << 20


class ServerUnreachable(PatchkilnError):
    """No server answers at the URL."""

    code: ClassVar[str] = "server_unreachable"
    retryable: ClassVar[bool] = True
    default_remedy = "Start one with 'patchkiln serve', or name another with --server."


class ServerRefused(PatchkilnError):
    """The server answered with an error; ``status`` is HTTP's."""

    code: ClassVar[str] = "server_refused"
    default_remedy = "Look at the server's log."

    def __init__(self, message: str, *, status: int, remedy: str | None = None) -> None:
        """Take the server's words and HTTP's status."""
        super().__init__(message, remedy=remedy)
        self.status = status


class Server:
    """One server. Every request has a connection of its own; nothing is kept open."""

    def __init__(self, url: str, *, key: str | None = None) -> None:
        """Take its URL, ``http`` or ``https``. Raises `InvalidRequest` for anything else."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidRequest(
                f"'{url}' is no URL of a server.",
                field="--server",
                remedy=f"Write it as {DEFAULT_SERVER}.",
            )
        self.url = url.rstrip("/")
        self._secure = parts.scheme == "https"
        self._authority = parts.netloc.rpartition("@")[2]
        self._base = parts.path.rstrip("/")
        self._key = key

    def json(self, method: str, path: str, body: JsonObject | None = None) -> JsonObject:
        """Send a request and return the JSON object of the answer. Raises as `open` does."""
        with self.open(method, path, body) as answer:
            return _object(answer.read(MAX_ANSWER_BYTES))

    def bytes(self, path: str) -> bytes:
        """Return what a GET answers, as it is. Raises as `open` does."""
        with self.open("GET", path) as answer:
            return answer.read()

    def open(
        self,
        method: str,
        path: str,
        body: JsonObject | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HTTPResponse:
        """Send a request and return the open answer.

        Raises `ServerUnreachable` (retryable), and with the server's own words `InvalidRequest`
        for a wrong request and `ServerRefused` for all else.
        """
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._authority, timeout=ANSWER_TIMEOUT_S)
        content = None if body is None else json.dumps(body).encode()
        try:
            connection.request(
                method,
                self._base + path,
                body=content,
                headers={**self._headers(), **(headers or {})},
            )
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ServerUnreachable(f"No server answers at {self.url}.") from error
        if answer.status >= ERRORS_FROM:
            with answer:
                raise _refused(answer.status, answer.read(1 << 20))
        return answer

    def _headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Connection": "close",
        }
        return headers if self._key is None else {**headers, "Authorization": f"Bearer {self._key}"}


def server_of(arguments: Namespace) -> Server:
    """Return the server that the options name, or the environment (the command line is an edge)."""
    url = arguments.server or os.environ.get("PATCHKILN_SERVER") or DEFAULT_SERVER
    return Server(url, key=os.environ.get("PATCHKILN_KEY") or None)


def run_path(run_id: str) -> str:
    """Return where a run stands on a server; the id may be anything that a person typed."""
    return f"/runs/{quote(run_id, safe='')}"


def _object(content: bytes) -> JsonObject:
    try:
        body: JsonValue = json.loads(content)
    except ValueError as error:
        raise ServerRefused(
            "The answer is not JSON: this is no Patchkiln server.", status=0
        ) from error
    return body if isinstance(body, Mapping) else {"items": body}


def _refused(status: int, content: bytes) -> PatchkilnError:
    body = _error_body(content)
    faults = [_fault(entry) for entry in items(body, "detail") if isinstance(entry, Mapping)]
    message = "; ".join(faults) or text(body, "detail") or f"The server answered {status}."
    if status == http.HTTPStatus.UNPROCESSABLE_ENTITY:
        # Each fault ends with its own remedy; where that is the usual one, once is enough.
        return InvalidRequest(message.removesuffix(f" {InvalidRequest.default_remedy}"))
    return ServerRefused(message, status=status, remedy=text(body, "remedy") or None)


def _error_body(content: bytes) -> JsonObject:
    """Return the body of an error, which a stream carries in its one frame; empty for another's."""
    try:
        for payload in payloads(content.splitlines(keepends=True)):
            frame = Frame.parse(payload)
            return {"detail": frame.message, **frame.data}
        return _object(content)
    except (ServerRefused, ValueError):
        return {}


def _fault(entry: JsonObject) -> str:
    place = ".".join(str(part) for part in items(entry, "loc") if part != "body")
    said = text(entry, "msg")
    return f"{place}: {said}" if place else said
