"""Passes one checked HTTP request on to its host, and the response back.

Both are written anew, header by header: nothing that is meant for the next hop alone goes further,
and a credential is set on the way out.
"""

import asyncio
import contextlib
from collections.abc import Sequence

import h11

from patchkiln.domain.network import Credential
from patchkiln.sandboxes.network.guard import Target, Unreachable
from patchkiln.sandboxes.network.requests import Request
from patchkiln.sandboxes.network.streams import Stream

MAX_RESPONSE_HEAD_BYTES = 1 << 18
_USUAL_PORTS = {80, 443}
# RFC 9110, 7.6.1, and what older programs send; framing is set anew.
_NEXT_HOP_ONLY = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
    }
)
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"host"})
_Headers = list[tuple[bytes, bytes]]


async def forward(request: Request, path: str, target: Target, outside: Stream) -> None:
    """Pass a request on, and its response back.

    Raises `OSError` for a connection that breaks, `BadRequest` for a malformed body, `Unreachable`
    for a response that cannot be read and a credential that is no header.
    """
    try:
        await _exchange(request, path, target, outside)
    except h11.LocalProtocolError:
        # Without its cause, which may quote a credential that is no header's value.
        raise Unreachable(f"The request to {target.name} cannot be written.") from None


async def _exchange(request: Request, path: str, target: Target, outside: Stream) -> None:
    protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_RESPONSE_HEAD_BYTES)
    head = h11.Request(
        method=request.head.method, target=path, headers=_request_headers(request, target)
    )
    await outside.send(protocol.send(head) or b"")
    sending = asyncio.create_task(_send_body(request, protocol, outside))
    receiving = asyncio.create_task(_pass_back(request, protocol, outside))
    try:
        await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        if not receiving.done():
            sending.result()
        await receiving
    finally:
        for task in (sending, receiving):
            task.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)


async def _send_body(request: Request, protocol: h11.Connection, outside: Stream) -> None:
    async for block in request.body():
        data = protocol.send(h11.Data(data=block)) or b""
        try:
            await outside.send(data)
        except OSError:
            return  # it has heard enough; its response tells why
    with contextlib.suppress(OSError):
        await outside.send(protocol.send(h11.EndOfMessage()) or b"")


async def _pass_back(request: Request, protocol: h11.Connection, outside: Stream) -> None:
    while True:
        try:
            event = protocol.next_event()
        except h11.RemoteProtocolError as error:
            raise Unreachable("The host's response is malformed.") from error
        if event is h11.NEED_DATA:
            protocol.receive_data(await outside.receive())
            continue
        if isinstance(event, h11.Response | h11.InformationalResponse):
            event = type(event)(
                status_code=event.status_code,
                headers=_onward(event.headers.raw_items()),
                reason=event.reason,
            )
        elif isinstance(event, h11.EndOfMessage):
            event = h11.EndOfMessage()
        elif not isinstance(event, h11.Data):
            raise Unreachable("The host ended the connection without a response.")
        await request.respond(event)
        if isinstance(event, h11.EndOfMessage):
            return


def _request_headers(request: Request, target: Target) -> _Headers:
    credential = target.rule.credential
    headers = _without(_onward(request.head.headers.raw_items()), b"host")
    if credential is not None:
        headers = [*_without(headers, credential.header.lower().encode()), _header(credential)]
    return [(b"Host", _authority(target).encode()), *headers, (b"Connection", b"close")]


def _header(credential: Credential) -> tuple[bytes, bytes]:
    return credential.header.encode(), credential.value.encode()


def _authority(target: Target) -> str:
    host = f"[{target.name}]" if ":" in target.name else target.name
    return host if target.port in _USUAL_PORTS else f"{host}:{target.port}"


def _onward(headers: Sequence[tuple[bytes, bytes]]) -> _Headers:
    """Leave out what is meant for the next hop, by its nature or by the Connection header."""
    named = {
        token.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for token in value.split(b",")
    }
    dropped = (_NEXT_HOP_ONLY | named) - _FRAMING
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def _without(headers: _Headers, dropped: bytes) -> _Headers:
    return [(name, value) for name, value in headers if name.lower() != dropped]
