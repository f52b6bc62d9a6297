"""A language model that follows a script, on a real socket, speaking chat-completions.

    with ScriptedModel([Calls(Call("shell", command="pytest")), Say("Done.")]) as model:
        ...  # PATCHKILN_MODEL=openai:scripted, PATCHKILN_MODEL_BASE_URL=model.base_url

The script is a list of turns, taken one a request, or a function from the `Request` to a turn. A
request that offers no tools asks for a plan: it gets ``plan`` and takes nothing from the script.
Every request is kept in `requests`. Answers are streamed in several Server-Sent Events with the
usage at the end, as `POST {base_url}/chat/completions` of OpenAI's API reference has it, or given
whole where the request does not stream.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, TypeAlias

CHUNKS = 6
MAX_HANG_S = 60.0
PLAN_TEXT = json.dumps(
    {
        "intent": "Do what the task says",
        "steps": ["Read the code", "Change it", "Run the tests"],
        "files": [],
        "risks": [],
    }
)


class Call:
    """One tool call. ``Call("shell", command="ls")``, or its arguments as raw text."""

    def __init__(self, tool: str, raw: str | None = None, /, **arguments: Any) -> None:
        """Take the tool's name and its arguments."""
        self.tool = tool
        self.arguments = json.dumps(arguments) if raw is None else raw


@dataclass(frozen=True)
class Say:
    """An answer of text. ``tokens`` is what usage tells (input, output), None for no usage."""

    text: str
    tokens: tuple[int, int] | None = (100, 20)


@dataclass(frozen=True, init=False)
class Calls:
    """An answer of tool calls, after some text where ``text`` is given."""

    calls: tuple[Call, ...]
    text: str
    tokens: tuple[int, int] | None

    def __init__(
        self, *calls: Call, text: str = "", tokens: tuple[int, int] | None = (100, 20)
    ) -> None:
        """Take the calls in their order."""
        object.__setattr__(self, "calls", calls)
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "tokens", tokens)


@dataclass(frozen=True)
class Fail:
    """An HTTP error with the body of OpenAI's errors."""

    status: int
    message: str = "scripted failure"
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Cut:
    """Half of an answer, then the connection closes; ``politely`` ends the stream as if whole."""

    turn: Say | Calls
    politely: bool = False


@dataclass(frozen=True)
class Hang:
    """Half of an answer, then silence until the client leaves or the server closes."""

    turn: Say | Calls


@dataclass(frozen=True)
class Garbage:
    """A stream of what is no JSON."""


Turn: TypeAlias = Say | Calls | Fail | Cut | Hang | Garbage


@dataclass(frozen=True)
class Request:
    """What the model was asked. ``number`` counts all requests from 1."""

    number: int
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Return the conversation so far."""
        return list(self.body["messages"])

    @property
    def tools(self) -> list[str]:
        """Return the names of the tools that are offered."""
        tools: list[dict[str, Any]] = self.body.get("tools") or []
        return [tool["function"]["name"] for tool in tools]

    @property
    def planning(self) -> bool:
        """Tell whether a plan is asked for."""
        return not self.tools

    @property
    def tool_results(self) -> list[str]:
        """Return what the tools answered, in order."""
        return [str(m["content"]) for m in self.messages if m["role"] == "tool"]


Script: TypeAlias = Sequence[Turn] | Callable[[Request], Turn]


class ScriptedModel:
    """The server. A context manager; `base_url` is valid inside of it."""

    def __init__(self, script: Script, *, plan: Turn | None = None) -> None:
        """Take the script, and how requests for a plan are answered."""
        self.requests: list[Request] = []
        self._script = script
        self._turns = iter(()) if callable(script) else iter(script)
        self._plan = plan or Say(PLAN_TEXT)
        self._lock = threading.Lock()
        self.closed = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}
        )

    @property
    def base_url(self) -> str:
        """Return what an OpenAI client takes as its base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        """Serve on a free port of the loopback."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the port and every connection."""
        self.closed.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(
        self, path: str, headers: Mapping[str, str], body: Mapping[str, Any]
    ) -> tuple[Request, Turn]:
        """Keep a request; return it and its turn."""
        with self._lock:
            request = Request(len(self.requests) + 1, path, headers, body)
            self.requests.append(request)
            return request, self._turn(request)

    def _turn(self, request: Request) -> Turn:
        if request.planning:
            return self._plan
        if callable(self._script):
            return self._script(request)
        return next(self._turns, Fail(400, f"the script has no turn {request.number}"))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, model: ScriptedModel) -> None:
        self.model = model
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet where a client leaves early; tests do it on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def model(self) -> ScriptedModel:
        """Return whose handler this is."""
        assert isinstance(self.server, _Server)
        return self.server.model

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def do_GET(self) -> None:
        """List the one model."""
        self._json(200, {"object": "list", "data": [{"id": "scripted", "object": "model"}]})

    def do_POST(self) -> None:
        """Answer a completion."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        request, turn = self.model.answer(self.path, dict(self.headers), body)
        match turn:
            case Fail():
                self._fail(turn)
            case Say() | Calls() if not request.body.get("stream"):
                self._json(200, _completion(turn, request))
            case Say() | Calls():
                self._stream(_events(turn, request))
                self._write(b"0\r\n\r\n")
            case Cut(turn=half, politely=politely):
                self._stream(_half(half, request))
                if politely:
                    self._write(b"0\r\n\r\n")
                self.close_connection = True
            case Hang(turn=half):
                self._stream(_half(half, request))
                self.model.closed.wait(MAX_HANG_S)
                self.close_connection = True
            case Garbage():
                self._stream(["{no json at all", "neither is this"])
                self._write(b"0\r\n\r\n")

    def _fail(self, turn: Fail) -> None:
        error = {"message": turn.message, "type": "scripted", "code": turn.code}
        self._json(turn.status, {"error": error}, turn.headers)

    def _json(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self._write(data)

    def _stream(self, events: Iterable[str]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            frame = f"data: {event}\n\n".encode()
            self._write(b"%x\r\n%s\r\n" % (len(frame), frame))

    def _write(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()


def _events(turn: Say | Calls, request: Request) -> Iterator[str]:
    """Yield the chunks of a streamed answer."""
    yield from _content(turn, request)
    yield _chunk(request, {}, "tool_calls" if isinstance(turn, Calls) else "stop")
    if turn.tokens is not None:
        yield json.dumps({**_base(request), "choices": [], "usage": _usage(turn.tokens)})
    yield "[DONE]"


def _half(turn: Say | Calls, request: Request) -> Iterator[str]:
    events = list(_content(turn, request))
    yield from events[: max(2, len(events) // 2)]


def _content(turn: Say | Calls, request: Request) -> Iterator[str]:
    yield _chunk(request, {"role": "assistant", "content": ""})
    for piece in _pieces(turn.text):
        yield _chunk(request, {"content": piece})
    calls = turn.calls if isinstance(turn, Calls) else ()
    for index, call in enumerate(calls):
        function = {"name": call.tool, "arguments": ""}
        head = {
            "index": index,
            "id": _call_id(request, index),
            "type": "function",
            "function": function,
        }
        yield _chunk(request, {"tool_calls": [head]})
        for piece in _pieces(call.arguments):
            yield _chunk(
                request, {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            )


def _pieces(text: str) -> list[str]:
    size = max(1, -(-len(text) // CHUNKS))
    return [text[start : start + size] for start in range(0, len(text), size)]


def _completion(turn: Say | Calls, request: Request) -> dict[str, Any]:
    calls = turn.calls if isinstance(turn, Calls) else ()
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or None}
    if calls:
        message["tool_calls"] = [
            {
                "id": _call_id(request, index),
                "type": "function",
                "function": {"name": call.tool, "arguments": call.arguments},
            }
            for index, call in enumerate(calls)
        ]
    reason = "tool_calls" if calls else "stop"
    choice = {"index": 0, "message": message, "finish_reason": reason}
    usage = {} if turn.tokens is None else {"usage": _usage(turn.tokens)}
    return {**_base(request), "object": "chat.completion", "choices": [choice], **usage}


def _chunk(request: Request, delta: Mapping[str, Any], finish_reason: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return json.dumps({**_base(request), "choices": [choice]})


def _base(request: Request) -> dict[str, Any]:
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": request.body["model"],
    }


def _usage(tokens: tuple[int, int]) -> dict[str, int]:
    prompt, completion = tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _call_id(request: Request, index: int) -> str:
    return f"call_{request.number}_{index}"
