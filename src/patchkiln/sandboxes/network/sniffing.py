"""Tells from a connection's first bytes whether they begin a request of HTTP/1."""

import re

# As loose as the most lenient server, which skips any number of empty lines, and takes any white
# space between the words and in the target; what is then read is read strictly. HTTP/2 begins with
# a line of its own, which names no host, and passes where the port is not for the web.
_BEGIN = rb"[\r\n]*[!#-'*+.^_`|~0-9A-Za-z-]"
_SPACE = rb"[^\S\n]"
_LINE = rb"[^\n\x00]*"
_REQUEST_LINE = re.compile(
    rb"(?!PRI )" + _BEGIN + rb"{1,255}" + _SPACE + _LINE + _SPACE + rb"HTTP/[0-9.]*\s",
    re.IGNORECASE,
)
# As far as a connection can go and still begin with a request.
_MAYBE_REQUEST = re.compile(_BEGIN + rb"{0,255}(" + _SPACE + _LINE + rb")?")
# Servers that take spaces in the target read no line as long as this; empty ones have no end.
_LONG_REQUEST = re.compile(_BEGIN + rb"{0,255}(" + _SPACE + rb"+[^\s\x00]*)?")
_MAX_REQUEST_LINE_BYTES = 1 << 13


def begins_request(data: bytes) -> bool | None:
    """Return None while it cannot be told yet."""
    if _REQUEST_LINE.match(data):
        return True
    if not _MAYBE_REQUEST.fullmatch(data):
        return False
    if len(data) < _MAX_REQUEST_LINE_BYTES:
        return None
    # One that is too long to wait for is left to the reader of requests, which refuses it.
    return _LONG_REQUEST.fullmatch(data) is not None
