"""A connection to one host and port: captured, or asked for with CONNECT.

The first bytes tell what it is. TLS must name the host that was asked for, a request of HTTP too,
and each request anew; anything else passes unread, where the port is for neither.
"""

import asyncio
from enum import Enum, auto

from patchkiln.sandboxes.network.authority import Authority, upstream_context
from patchkiln.sandboxes.network.exchange import serve_requests
from patchkiln.sandboxes.network.guard import Target
from patchkiln.sandboxes.network.hello import Hello, NotTls, looks_like_tls, read_hello
from patchkiln.sandboxes.network.names import host_name, is_address
from patchkiln.sandboxes.network.passage import Passage
from patchkiln.sandboxes.network.refusals import (
    HIDDEN_TLS_NAME,
    NO_TLS_NAME,
    NOT_HTTP,
    NOT_TLS,
    OTHER_TLS_NAME,
    Refused,
)
from patchkiln.sandboxes.network.sniffing import begins_request
from patchkiln.sandboxes.network.streams import SocketStream, Stream, TlsStream, pump, together

GREETING_S = 30.0


class _Kind(Enum):
    TLS = auto()
    HTTP = auto()
    OTHER = auto()


_REQUIRED = {443: (_Kind.TLS, NOT_TLS), 80: (_Kind.HTTP, NOT_HTTP)}


async def serve_tunnel(
    passage: Passage, target: Target, outside: SocketStream, authority: Authority
) -> None:
    """Join the sandbox's end to a dialled host. Raises `Refused`, and `OSError` at a break."""
    # A host that speaks first is heard at once.
    listening = asyncio.create_task(pump(outside, passage.inside))
    try:
        kind = await _kind(passage, target)
        if kind is _Kind.OTHER or (kind is _Kind.TLS and target.rule.credential is None):
            await together(pump(passage.inside, outside), _finished(listening))
            return
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    if kind is _Kind.HTTP:
        await serve_requests(passage, passage.inside, target, outside)
    else:
        await _serve_inside_tls(passage, target, outside, authority)


async def _finished(task: "asyncio.Task[None]") -> None:
    await task


async def _kind(passage: Passage, target: Target) -> _Kind:
    """Look at the first bytes without taking them. Raises `Refused`."""
    data = await passage.inside.receive()
    kind = _Kind.TLS if looks_like_tls(data) else None
    if kind is _Kind.TLS:
        data = await _check_greeting(passage.inside, data, target)
    elif data:
        data, kind = await _recognised(passage.inside, data)
    passage.inside.give_back(data)
    required, rule = _REQUIRED.get(target.port, (kind, ""))
    if data and kind is not required:
        raise Refused(target.name, target.port, rule)
    return kind or _Kind.OTHER


async def _recognised(inside: Stream, data: bytes) -> tuple[bytes, _Kind]:
    async with asyncio.timeout(GREETING_S):
        while (is_request := begins_request(data)) is None:
            block = await inside.receive()
            if not block:
                break
            data += block
    return data, _Kind.HTTP if is_request else _Kind.OTHER


async def _check_greeting(inside: Stream, data: bytes, target: Target) -> bytes:
    """Read on until the greeting is whole, and judge the name in it. Raises `Refused`."""
    try:
        async with asyncio.timeout(GREETING_S):
            while (hello := read_hello(data)) is None:
                block = await inside.receive()
                if not block:
                    raise Refused(target.name, target.port, NOT_TLS)
                data += block
    except NotTls as error:
        raise Refused(target.name, target.port, NOT_TLS) from error
    rule = _judge(hello, target.name)
    if rule is not None:
        raise Refused(target.name, target.port, rule)
    return data


def _judge(hello: Hello, name: str) -> str | None:
    if hello.hidden:
        return HIDDEN_TLS_NAME
    if hello.name is None:
        # Addresses are not sent (RFC 6066, 3).
        return None if is_address(name) else NO_TLS_NAME
    return None if host_name(hello.name) == name else OTHER_TLS_NAME


async def _serve_inside_tls(
    passage: Passage, target: Target, outside: SocketStream, authority: Authority
) -> None:
    """Stand between program and host, to set the host's credential."""
    context = await asyncio.to_thread(upstream_context)

    async def secured(plain: SocketStream) -> Stream:
        stream = TlsStream(plain, context, server_name=target.name)
        await stream.handshake()
        return stream

    checked = await secured(outside)
    inside = TlsStream(passage.inside, authority.context(target.name))
    await inside.handshake()
    await serve_requests(passage, inside, target, checked, secured)
