"""Reading event streams: as frames, and as the bytes that came over the socket."""

import asyncio
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

READ_TIMEOUT_S = 20


def frames(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects of a stream's frames; comments are left out."""
    lines = text.split("\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


class RawStream:
    """One HTTP/1.1 request on a socket of its own; shows the response's chunks as they came."""

    def __init__(
        self,
        url: str,
        target: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        """Take the request; it is sent on entering."""
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        fields = {"host": "localhost", "content-length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._request = f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body
        self.status = 0
        self.headers: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        """Send the request and read the response's head."""
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self._writer.write(self._request)
        async with asyncio.timeout(READ_TIMEOUT_S):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        first, *rest = head.strip().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)
        }
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Hang up."""
        self._writer.close()
        await self._writer.wait_closed()

    async def chunk(self) -> bytes:
        """Return the next chunk, which is one write of the server; empty at the end."""
        async with asyncio.timeout(READ_TIMEOUT_S):
            size = int(await self._reader.readline(), 16)
            chunk = await self._reader.readexactly(size + 2)
        return chunk[:-2]

    async def chunks(self, count: int) -> list[bytes]:
        """Return the next ``count`` chunks."""
        return [await self.chunk() for _ in range(count)]

    async def rest(self) -> bytes:
        """Return everything up to the end."""
        found = b""
        while piece := await self.chunk():
            found += piece
        return found

    async def until(self, text: str) -> bytes:
        """Return everything up to the chunk that holds a text."""
        found = b""
        while text.encode() not in found:
            piece = await self.chunk()
            assert piece, f"the stream ended before {text!r}"
            found += piece
        return found
