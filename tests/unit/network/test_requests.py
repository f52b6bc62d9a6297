"""Requests that two readers could take for different ones are read by nobody."""

import pytest

from patchkiln.sandboxes.network.requests import (
    MAX_HEAD_BYTES,
    BadRequest,
    read_request,
    split_absolute,
)

POST = b"POST / HTTP/1.1\r\nHost: a.example\r\n"


class Fed:
    """A stream that gives some bytes, in blocks of a size."""

    def __init__(self, data: bytes, size: int = 1 << 16) -> None:
        """Take the bytes."""
        self._blocks = [data[place : place + size] for place in range(0, len(data), size)]

    async def receive(self) -> bytes:
        """Return the next block."""
        return self._blocks.pop(0) if self._blocks else b""

    async def send(self, data: bytes) -> None:
        """Take nothing: only reading is under test."""
        raise AssertionError(data)

    async def send_end(self) -> None:
        """As `send`."""
        raise AssertionError


SMUGGLED = {
    "both lengths": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "two lengths in one": POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "other lengths": POST + b"Content-Length: 5\r\nContent-length: 6\r\n\r\nhello!",
    "signed length": POST + b"Content-Length: +5\r\n\r\nhello",
    "space in front": POST + b"Content-Length : 5\r\n\r\nhello",
    "other coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "coding in 1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded": POST + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: a.example\n\n",
    "bare LF in a header": POST + b"X: a\nTransfer-Encoding: chunked\r\n\r\n",
    "bare CR": POST + b"X: a\rY: b\r\n\r\n",
    "NUL": POST + b"X: a\0b\r\n\r\n",
    "two hosts": POST + b"Host: b.example\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "other version": b"GET / HTTP/2.0\r\nHost: a.example\r\n\r\n",
    "no version": b"GET /\r\nHost: a.example\r\n\r\n",
    "echo": b"TRACE / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "cut": b"GET / HTTP/1.1\r\nHost: a.exa",
    "many headers": POST + b"X: y\r\n" * 300 + b"\r\n",
    "long header": POST + b"X: " + b"y" * MAX_HEAD_BYTES + b"\r\n\r\n",
    "endless": b"GET /" + b"y" * (2 * MAX_HEAD_BYTES),
}


@pytest.mark.parametrize("size", [1 << 16, 1000])
@pytest.mark.parametrize("data", SMUGGLED.values(), ids=SMUGGLED)
async def test_an_ambiguous_request_is_refused(data: bytes, size: int) -> None:
    """In one piece or in several."""
    with pytest.raises(BadRequest):
        await read_request(Fed(data, size), b"")


async def test_an_honest_request_is_read_whole() -> None:
    """Byte by byte; and what follows it is kept for the next."""
    data = POST + b"Content-Length: 5\r\n\r\nhelloGET /next"
    request = await read_request(Fed(data, 1), b"")
    assert request is not None
    assert (request.method, request.target, request.host) == ("POST", "/", ("a.example", None))
    assert b"".join([block async for block in request.body()]) == b"hello"
    assert await read_request(Fed(b""), b"") is None


@pytest.mark.parametrize("chunk", [b"5\nhello\r\n", b"5\r\nhelloX0\r\n", b"-5\r\n", b"zz\r\n"])
async def test_a_malformed_body_is_refused(chunk: bytes) -> None:
    """Chunks are read as strictly as heads."""
    request = await read_request(Fed(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk), b"")
    assert request is not None
    with pytest.raises(BadRequest):
        [block async for block in request.body()]


def test_an_absolute_url_is_taken_apart() -> None:
    """Host, port and path; a user's name is no part of it."""
    assert split_absolute("http://A.example") == ("http", "a.example", 80, "/")
    assert split_absolute("HTTP://a.example:81?x=1") == ("http", "a.example", 81, "/?x=1")
    assert split_absolute("https://a.example/b#c") is None
    assert split_absolute("/a") is None
    for url in ("http://a@b.example/", "http://a.example:x/", "http://2130706433/", "http://[a]/"):
        with pytest.raises(BadRequest):
            split_absolute(url)
