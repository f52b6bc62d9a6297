"""Connections as the proxy sees them: bytes in, bytes out, back-pressure, an end of each side."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeVar

BLOCK_BYTES = 1 << 16
_LINGER_BYTES = 1 << 20
_LINGER_S = 2.0
_RESET = struct.pack("ii", 1, 0)

T = TypeVar("T")


class Stream(Protocol):
    """A connection. Its methods raise `OSError` once it is broken."""

    async def receive(self) -> bytes:
        """Return what came next; nothing at the end."""
        ...

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        ...

    async def send_end(self) -> None:
        """Say that nothing more will be sent."""
        ...


class SocketStream:
    """A non-blocking socket."""

    def __init__(self, connection: socket.socket, touch: Callable[[], None]) -> None:
        """Take the socket, and what to call whenever bytes have moved."""
        connection.settimeout(0.0)
        self._socket = connection
        self._touch = touch
        self._returned = b""

    async def receive(self) -> bytes:
        """Return what came next."""
        if self._returned:
            data, self._returned = self._returned, b""
            return data
        # What is there already is returned at once, on and on: others must have their turn.
        await asyncio.sleep(0)
        data = await asyncio.get_running_loop().sock_recv(self._socket, BLOCK_BYTES)
        self._touch()
        return data

    def give_back(self, data: bytes) -> None:
        """Let bytes that were looked at be received again."""
        self._returned = data + self._returned

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await asyncio.get_running_loop().sock_sendall(self._socket, data)
        self._touch()

    async def send_end(self) -> None:
        """Shut the sending half."""
        self._socket.shutdown(socket.SHUT_WR)

    async def linger(self) -> None:
        """Let the other side read a last answer: what it still sends would break the connection."""
        await self.send_end()
        left = _LINGER_BYTES
        try:
            async with asyncio.timeout(_LINGER_S):
                while left > 0 and (data := await self.receive()):
                    left -= len(data)
        except TimeoutError:
            return

    def reset(self) -> None:
        """Break the connection, so that the other side does not take it for a good end."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._socket.close()

    def close(self) -> None:
        """Close it. Idempotent."""
        self._socket.close()


class TlsStream:
    """TLS over another stream; `handshake` comes first."""

    def __init__(
        self, under: Stream, context: ssl.SSLContext, *, server_name: str | None = None
    ) -> None:
        """Take the stream below; with a server's name this is the client's side."""
        self._under = under
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_name is None,
            server_hostname=server_name,
        )
        self._flushing = asyncio.Lock()

    async def handshake(self) -> None:
        """Agree on keys and check certificates. Raises `ssl.SSLError`, which is an `OSError`."""
        await self._until_done(self._tls.do_handshake)

    async def receive(self) -> bytes:
        """Return what came next."""
        try:
            return await self._until_done(partial(self._tls.read, BLOCK_BYTES))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        if data:
            self._tls.write(data)
            await self._flush()

    async def send_end(self) -> None:
        """Say goodbye, without waiting for the other side's."""
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            await self._flush()
        await self._under.send_end()

    async def _until_done(self, action: Callable[[], T]) -> T:
        while True:
            try:
                result = action()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            else:
                await self._flush()
                return result

    async def _feed(self) -> None:
        data = await self._under.receive()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        async with self._flushing:
            if data := self._outgoing.read():
                await self._under.send(data)


async def splice(one: Stream, other: Stream) -> None:
    """Pass bytes both ways until both sides have ended, unchanged."""
    await together(pump(one, other), pump(other, one))


async def pump(source: Stream, sink: Stream) -> None:
    """Pass bytes one way until the source ends."""
    while data := await source.receive():
        await sink.send(data)
    await sink.send_end()


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Do all side by side; the first that fails ends the others, and its error is raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
