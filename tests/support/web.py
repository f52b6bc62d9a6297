"""Web servers for tests, on loopback: plain and TLS, with what hosts do that proxies must bear."""

import asyncio
import datetime as dt
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_ENDLESS_BLOCK = b"x" * 65536


class WebServer:
    """Answers every request with its path, and remembers the heads that it was sent."""

    def __init__(self, port: int) -> None:
        """Take the port that it serves on."""
        self.port = port
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.sent_bytes = 0
        self.begun = asyncio.Event()
        self.gone = asyncio.Event()

    def headers(self, number: int = -1) -> dict[str, str]:
        """Return the headers of a request, by lower-case name."""
        lines = self.heads[number].split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer_one(head.decode("latin-1").strip(), reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            writer.close()

    async def _answer_one(
        self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.heads.append(head)
        size = int(self.headers().get("content-length", "0"))
        body = await reader.readexactly(size)
        while self.headers().get("transfer-encoding") == "chunked":
            line = await reader.readline()
            body += (await reader.readexactly(int(line, 16) + 2))[:-2]
            if line == b"0\r\n":
                break
        self.bodies.append(body)
        path = head.split(" ")[1]
        if path == "/endless":
            await self._send_endlessly(writer)
        elif path.startswith("/to?"):
            location = path.removeprefix("/to?")
            head_only = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
            writer.write(head_only.encode())
        else:
            text = f"reached {path}".encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
        await writer.drain()

    async def _send_endlessly(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while True:
            writer.write(_ENDLESS_BLOCK)
            await writer.drain()
            self.sent_bytes += len(_ENDLESS_BLOCK)
            self.begun.set()


@asynccontextmanager
async def web_server(**options: Any) -> AsyncGenerator[WebServer]:
    """Serve on a free port of loopback; options as of `asyncio.start_server`."""
    with socket.create_server((options.pop("address", "127.0.0.1"), options.pop("port", 0))) as own:
        web = WebServer(own.getsockname()[1])
        server = await asyncio.start_server(web.answer, sock=own, limit=1 << 20, **options)
        try:
            yield web
        finally:
            server.close()


def make_certificate(directory: Path, *names: str) -> tuple[Path, ssl.SSLContext]:
    """Return the file of an authority's certificate, and a server's context for some names."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _sign("test authority", authority_key, "test authority", authority_key, ())
    certificate = _sign("server", key, "test authority", authority_key, names)
    pem = serialization.Encoding.PEM
    file, own = directory / "authority.pem", directory / "server.pem"
    file.write_bytes(authority.public_bytes(pem))
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    own.write_bytes(secret + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    return file, context


def _sign(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...],
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(
        subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
        issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - dt.timedelta(days=1),
        not_valid_after=now + dt.timedelta(days=1),
    ).add_extension(x509.BasicConstraints(ca=not names, path_length=None), critical=True)
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
