"""HTTP requests from inside a sandbox, read strictly, so that nobody can read them otherwise.

h11 parses; before it, the head is held to the letter of RFC 9112, where h11 and other readers are
lenient in different ways: that is what request smuggling lives on. What goes out is written anew.
"""

import asyncio
import re
from collections.abc import AsyncIterator

import h11

from patchkiln.sandboxes.network.names import split_authority
from patchkiln.sandboxes.network.streams import Stream

HEAD_S = 30.0
WAIT_S = 120.0
MAX_HEAD_BYTES = 1 << 16
MAX_HEADERS = 200
_END_OF_HEAD = b"\r\n\r\n"
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)|\x00")
_BARE_NEWLINE = re.compile(rb"(?<!\r)\n")
_FOLDED = re.compile(rb"\r\n[ \t]")
_LENGTH = re.compile(rb"\r\ncontent-length:([^\r]*)", re.IGNORECASE)
_ABSOLUTE = re.compile(r"(https?)://([^/?#]+)([^#]*)", re.IGNORECASE)
DEFAULT_PORT = 80


class BadRequest(Exception):
    """A request that nobody may see; ``reason`` is a sentence for the program inside."""

    def __init__(self, reason: str) -> None:
        """Take the sentence."""
        super().__init__(reason)
        self.reason = reason


class Request:
    """One request; its body is read once, then the connection may bring another one."""

    def __init__(self, protocol: h11.Connection, head: h11.Request, stream: Stream) -> None:
        """Take the parser, what it has read, and where more comes from."""
        self._protocol = protocol
        self._stream = stream
        self.head = head

    @property
    def method(self) -> str:
        """Return the method, as written."""
        return self.head.method.decode("ascii")

    @property
    def target(self) -> str:
        """Return the request's target, as written."""
        return self.head.target.decode("ascii")

    @property
    def host(self) -> tuple[str, int | None] | None:
        """Return what the Host header names; None where there is none. Raises `BadRequest`."""
        values = [value for name, value in self.head.headers if name == b"host"]
        if not values:
            return None
        host = split_authority(values[0].decode("latin-1"))
        if host is None:
            raise BadRequest("The Host header names no host.")
        return host

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises `BadRequest`."""
        while True:
            event = self._next_event()
            if event is h11.NEED_DATA:
                self._protocol.receive_data(await self._stream.receive())
            elif isinstance(event, h11.Data):
                yield bytes(event.data)
            else:
                return

    async def respond(self, event: h11.Event) -> None:
        """Send a part of the response."""
        data = self._protocol.send(event)
        if data:
            await self._stream.send(data)

    @property
    def responded(self) -> bool:
        """Tell whether the program inside has been sent a part of the final response."""
        return self._protocol.our_state not in {h11.IDLE, h11.SEND_RESPONSE}

    @property
    def early(self) -> bytes:
        """Return what came behind the head already, of a request without a body."""
        return self._protocol.trailing_data[0]

    @property
    def rest(self) -> bytes | None:
        """Return what came behind this request; None where the connection must end with it."""
        states = (self._protocol.our_state, self._protocol.their_state)
        return self._protocol.trailing_data[0] if states == (h11.DONE, h11.DONE) else None

    def _next_event(self) -> object:
        try:
            return self._protocol.next_event()
        except h11.RemoteProtocolError as error:
            raise BadRequest("The body of the request is malformed.") from error


async def read_request(stream: Stream, data: bytes) -> Request | None:
    """Read the next request, of which some bytes may be there already; None at the end.

    Raises `BadRequest`, and `TimeoutError` for one that does not come.
    """
    data = data.removeprefix(b"\r\n")  # RFC 9112, 2.2
    async with asyncio.timeout(WAIT_S):
        data = data or await stream.receive()
    if not data:
        return None
    async with asyncio.timeout(HEAD_S):
        data = await _read_head(stream, data)
    return parse_request(data, stream)


async def _read_head(stream: Stream, data: bytes) -> bytes:
    head, seen = bytearray(data), 0
    # Each byte is looked at once: a head may come in single ones.
    while head.find(_END_OF_HEAD, max(0, seen - len(_END_OF_HEAD) + 1)) < 0:
        if len(head) > MAX_HEAD_BYTES:
            raise BadRequest("The head of the request is too long.")
        if _BARE_NEWLINE.search(head, seen):
            raise BadRequest("A line of the request does not end as RFC 9112 says.")
        seen = len(head)
        block = await stream.receive()
        if not block:
            raise BadRequest("The request ends in its head.")
        head += block
    return bytes(head)


def parse_request(data: bytes, stream: Stream) -> Request:
    """Read a request whose whole head is there. Raises `BadRequest`."""
    head = data[: data.index(_END_OF_HEAD) + 2]
    _check(head)
    protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES * 2)
    protocol.receive_data(data)
    try:
        event = protocol.next_event()
    except h11.RemoteProtocolError as error:
        raise BadRequest("The head of the request is malformed.") from error
    if not isinstance(event, h11.Request):
        raise BadRequest("The head of the request is malformed.")
    _check_framing(event)
    return Request(protocol, event, stream)


def _check(head: bytes) -> None:
    if len(head) > MAX_HEAD_BYTES or head.count(b"\r\n") > MAX_HEADERS:
        raise BadRequest("The head of the request is too long.")
    if _BARE.search(head) or _FOLDED.search(head):
        raise BadRequest("A line of the request does not end as RFC 9112 says.")
    lengths = _LENGTH.findall(head)
    if len(lengths) > 1 or any(b"," in length for length in lengths):
        raise BadRequest("The request tells its length twice.")


def _check_framing(request: h11.Request) -> None:
    names = {name for name, _ in request.headers}
    if b"transfer-encoding" in names and (
        b"content-length" in names or request.http_version != b"1.1"
    ):
        raise BadRequest("The request tells its length twice.")
    if request.http_version not in {b"1.0", b"1.1"}:
        raise BadRequest("Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    if request.method.upper() in {b"TRACE", b"TRACK"}:
        raise BadRequest("Requests to be echoed are not passed on.")


def split_absolute(target: str) -> tuple[str, str, int, str] | None:
    """Read an absolute URL as scheme, host, port and path; None for any other form."""
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        return None
    authority = split_authority(match[2])
    if authority is None:
        raise BadRequest("The URL names no host.")
    scheme, rest = match[1].lower(), match[3]
    name, port = authority
    usual = 443 if scheme == "https" else DEFAULT_PORT
    return scheme, name, port or usual, rest if rest.startswith("/") else f"/{rest}"


def plain_answer(status: int, phrase: str, text: str) -> bytes:
    """Return a whole response that ends the connection."""
    body = f"{text}\n".encode()
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
