"""The first message of a TLS client, read for the host that it names (RFC 8446, 4.1.2).

Whatever the version: only the framing is used, which all since TLS 1.0 share.
"""

from typing import NamedTuple

MAX_HELLO_BYTES = 1 << 15
# A greeting needs one, of any size; fragments of a byte would make the reading dear.
_MAX_RECORDS = 32
_HANDSHAKE = 22
_CLIENT_HELLO = 1
_RECORD_HEAD_BYTES = 5
_MAX_RECORD_BYTES = (1 << 14) + 256
_MESSAGE_HEAD_BYTES = 4
_VERSION_AND_RANDOM_BYTES = 34
_SERVER_NAME = 0
_ENCRYPTED_CLIENT_HELLO = 0xFE0D
_HOST_NAME = 0


class NotTls(Exception):
    """The bytes are no client's greeting, or one that breaks the rules."""


class Hello(NamedTuple):
    """What a greeting tells: the host's name, and whether another one is hidden (RFC 9849)."""

    name: str | None
    hidden: bool


def looks_like_tls(data: bytes) -> bool:
    """Tell whether a connection's first bytes are those of a TLS handshake."""
    return data[:1] == bytes([_HANDSHAKE]) and data[1:2] in {b"", b"\x03"}


def read_hello(data: bytes) -> Hello | None:
    """Read a greeting; None while more bytes are needed. Raises `NotTls`."""
    message = _message(data)
    if message is None:
        if len(data) >= MAX_HELLO_BYTES:
            raise NotTls
        return None
    try:
        return _hello(message)
    except (IndexError, UnicodeDecodeError) as error:
        raise NotTls from error


def _message(data: bytes) -> bytes | None:
    """Put the message together from its records; None while it is not whole."""
    message = bytearray()
    place = records = 0
    while len(data) - place >= _RECORD_HEAD_BYTES:
        size = int.from_bytes(data[place + 3 : place + 5])
        records += 1
        sane = 0 < size <= _MAX_RECORD_BYTES and records <= _MAX_RECORDS
        if not sane or not looks_like_tls(data[place : place + 2]):
            raise NotTls
        place += _RECORD_HEAD_BYTES
        message += data[place : place + size]
        place += size
        whole = _whole(bytes(message))
        if whole is not None:  # what follows is not the greeting's: early data (RFC 8446, 2.3)
            return whole
    return None


def _whole(message: bytes) -> bytes | None:
    if message and message[0] != _CLIENT_HELLO:
        raise NotTls
    if len(message) < _MESSAGE_HEAD_BYTES:
        return None
    size = int.from_bytes(message[1:_MESSAGE_HEAD_BYTES])
    if size > MAX_HELLO_BYTES:
        raise NotTls
    body = message[_MESSAGE_HEAD_BYTES : _MESSAGE_HEAD_BYTES + size]
    return body if len(body) == size else None


class _Reader:
    """Takes vectors off the front of some bytes. Raises `IndexError` where they end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def more(self) -> bool:
        return self._place < len(self._data)

    def take(self, size: int) -> bytes:
        end = self._place + size
        if end > len(self._data):
            raise IndexError
        taken, self._place = self._data[self._place : end], end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, length_bytes: int) -> "_Reader":
        return _Reader(self.take(self.number(length_bytes)))


def _hello(message: bytes) -> Hello:
    reader = _Reader(message)
    reader.take(_VERSION_AND_RANDOM_BYTES)
    reader.vector(1)  # session
    reader.vector(2)  # cipher suites
    reader.vector(1)  # compression methods
    found: dict[int, _Reader] = {}
    extensions = reader.vector(2) if reader.more else _Reader(b"")
    while extensions.more:
        kind = extensions.number(2)
        if kind in found:  # RFC 8446, 4.2: one of each
            raise NotTls
        found[kind] = extensions.vector(2)
    if reader.more:
        raise NotTls
    name = _server_name(found[_SERVER_NAME]) if _SERVER_NAME in found else None
    return Hello(name, _ENCRYPTED_CLIENT_HELLO in found)


def _server_name(extension: _Reader) -> str:
    """Read the one name that the list may hold (RFC 6066, 3)."""
    names = extension.vector(2)
    kind, name = names.number(1), names.take(names.number(2))
    if kind != _HOST_NAME or not name or names.more or extension.more:
        raise NotTls
    return name.decode("ascii")
