"""Tells from a connection's first bytes whether they begin a request of HTTP/1."""

import re

# As loose as the most lenient server: what is then read is read strictly. HTTP/2 begins with a
# line of its own, which names no host, and passes where the port is not for the web.
_BEFORE = rb"[\r\n]{0,8}[!#-'*+.^_`|~0-9A-Za-z-]{1,40} +"
_REQUEST_LINE = re.compile(rb"(?!PRI )" + _BEFORE + rb"[^\s\x00]+ +HTTP/[0-9.]*\s", re.IGNORECASE)
# As far as a connection can go and still begin with a request.
_MAYBE_REQUEST = re.compile(
    rb"[\r\n]{0,8}[!#-'*+.^_`|~0-9A-Za-z-]{0,40}|"
    + _BEFORE
    + rb"[^\s\x00]*( +[HTP]{0,4}(/[0-9.]*)?)?",
    re.IGNORECASE,
)
_MAX_REQUEST_LINE_BYTES = 1 << 13


def begins_request(data: bytes) -> bool | None:
    """Return None while it cannot be told yet."""
    if _REQUEST_LINE.match(data):
        return True
    if not _MAYBE_REQUEST.fullmatch(data):
        return False
    # One that is too long to wait for is left to the reader of requests, which refuses it.
    return None if len(data) < _MAX_REQUEST_LINE_BYTES else True
