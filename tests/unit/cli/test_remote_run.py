"""Following a run whose connection does not hold."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from patchkiln.cli import remote_run
from patchkiln.cli.remote_run import follow
from patchkiln.cli.server import Server, ServerRefused, ServerUnreachable
from patchkiln.errors import InvalidRequest
from tests.unit.cli import recorded

EVENTS = recorded.changed()


class FlakyHandler(BaseHTTPRequestHandler):
    """Serves at most ``held`` events a connection and then hangs up."""

    held: ClassVar[int]
    asked: ClassVar[list[str]]

    def do_GET(self) -> None:
        """Answer with the events after the one that the query names."""
        self.asked.append(self.path)
        after = int(self.path.partition("after=")[2] or 0)
        self.send_response(200 if after < len(EVENTS) else 204)
        self.end_headers()
        for event in EVENTS[after : after + self.held]:
            self.wfile.write(frame(event))
        self.wfile.write(b'id: 99\ndata: {"message":"cut o')

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


def flaky(held: int = 7) -> type[FlakyHandler]:
    """Return a handler of one test's own."""

    class Handler(FlakyHandler):
        asked: ClassVar[list[str]] = []

    Handler.held = held
    return Handler


def frame(event: dict[str, Any]) -> bytes:
    """Return an event as it goes over the wire."""
    return f"id: {event['seq']}\ndata: {json.dumps(event)}\n\n".encode()


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Generator[str]:
    """Serve on a free port of loopback and lend the URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(remote_run, "RETRY_DELAYS_S", (0.0, 0.0, 0.0))


@pytest.mark.usefixtures("quick")
def test_a_cut_stream_is_taken_up_where_it_ended() -> None:
    """Every event is seen once and in order, however often the connection breaks."""
    handler = flaky()
    with serving(handler) as url:
        frames = list(follow(Server(url), "run_1"))
    assert [frame.seq for frame in frames] == [event["seq"] for event in EVENTS]
    assert handler.asked[:2] == ["/runs/run_1/events?after=0", "/runs/run_1/events?after=7"]


@pytest.mark.usefixtures("quick")
def test_a_stream_that_brings_nothing_is_given_up() -> None:
    """A server that only ever hangs up is not asked for ever; the user is told how to go on."""
    handler = flaky(held=0)
    with serving(handler) as url, pytest.raises(ServerUnreachable) as caught:
        list(follow(Server(url), "run_1"))
    assert "patchkiln logs -f run_1" in caught.value.remedy
    assert len(handler.asked) == 4


@pytest.mark.usefixtures("quick")
def test_a_server_that_is_gone_is_given_up() -> None:
    """Nothing listens: the error names the URL."""
    with serving(FlakyHandler) as url:
        pass
    with pytest.raises(ServerUnreachable, match="No server answers"):
        list(follow(Server(url), "run_1"))


def test_there_is_nothing_after_the_end() -> None:
    """A finished run that is asked for more answers 204, which ends the following."""
    handler = flaky()
    with serving(handler) as url:
        assert list(follow(Server(url), "run_1", after=len(EVENTS))) == []
    assert len(handler.asked) == 1


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://127.0.0.1", "http://", "server"])
def test_a_wrong_url_shows_the_form(url: str) -> None:
    """What is no URL of a server is refused before anything is sent."""
    with pytest.raises(InvalidRequest, match="no URL of a server"):
        Server(url)


class RefusingHandler(BaseHTTPRequestHandler):
    """Answers every request with one error."""

    content = b""

    def do_GET(self) -> None:
        """Answer 418."""
        self.send_response(418)
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


@pytest.mark.parametrize(
    ("content", "message", "remedy"),
    [
        (b'{"detail":"No such run.","remedy":"Check the id."}', "No such run.", "Check the id."),
        (
            b'{"detail":[{"loc":["body","repoUrl"],"msg":"is wrong"},{"loc":["body"],"msg":"x"}]}',
            "repoUrl: is wrong; x",
            ServerRefused.default_remedy,
        ),
        (b'data: {"message":"No.","data":{"detail":"No.","remedy":"Do."}}\n\n', "No.", "Do."),
        (b"<html>", "The server answered 418.", ServerRefused.default_remedy),
        (b"[1]", "The server answered 418.", ServerRefused.default_remedy),
    ],
)
def test_a_refusal_is_told_in_the_servers_words(content: bytes, message: str, remedy: str) -> None:
    """Problem bodies, lists of faults, frames, and whatever a proxy answers."""
    handler = type("Handler", (RefusingHandler,), {"content": content})
    with serving(handler) as url, pytest.raises(ServerRefused) as caught:
        Server(url).json("GET", "/runs/x")
    assert (caught.value.message, caught.value.remedy) == (message, remedy)
    assert caught.value.status == 418


def test_an_answer_that_is_no_json_is_no_patchkiln() -> None:
    """Another program on the port is told as such."""
    handler = flaky(held=0)
    with serving(handler) as url, pytest.raises(ServerRefused, match="no Patchkiln server"):
        Server(url).json("GET", "/runs")
