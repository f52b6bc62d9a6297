"""What is taken for a request of HTTP, and what passes as something else."""

import pytest

from patchkiln.sandboxes.network.sniffing import begins_request


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r\n",
        b"get http://a/ http/1.0\n",
        b"\r\n\nM-SEARCH  *  HTTP/1.1\r\n",
        b"GET /\xff HTTP/1.1\r\n",
        b"POST / HTTP/9.9 \r\n",
        b"\r\n" * 50 + b"GET / HTTP/1.1\r\n",
        b"GET /a b HTTP/1.1\r\n",
        b"GET\t/\tHTTP/1.1\r\n",
        b"GET\x0b/\x0c HTTP/1.1\r\n",
        b"A" * 200 + b" / HTTP/1.1\r\n",
    ],
)
def test_a_request_is_seen_once_its_line_is_there(line: bytes) -> None:
    """However a lenient server would still read it, and in whatever pieces it comes."""
    assert begins_request(line + b"Host: a") is True
    assert begins_request(b"GET /" + b"x" * 10_000) is True
    assert begins_request(b"\r\n" * 10_000) is True
    first = len(line.rstrip(b" \r\n"))
    assert {begins_request(line[:end]) for end in range(first)} == {None}


@pytest.mark.parametrize(
    "data",
    [
        b"003agit-upload-pack /project.git\0host=a\0",
        b"PRI * HTTP/2.0\r\n\r\nSM",
        b"AMQP\0\0\x09\x01",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"OPTIONS rtsp://a/ RTSP/1.0\r\n",
        b"GET key\r\n",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"x" * 10_000,
        b"some words " * 1_000,
    ],
)
def test_other_protocols_are_told_apart(data: bytes) -> None:
    """At once, as soon as no request can come of it."""
    assert begins_request(data) is False
