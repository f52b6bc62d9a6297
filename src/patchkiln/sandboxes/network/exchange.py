"""The requests of one connection, each of them checked anew, and the answers to those that fail."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from patchkiln.domain.network import NetworkRefusal
from patchkiln.sandboxes.network.forwarding import forward
from patchkiln.sandboxes.network.guard import Target, Unreachable
from patchkiln.sandboxes.network.passage import Passage
from patchkiln.sandboxes.network.refusals import OTHER_HOST_HEADER, Refused
from patchkiln.sandboxes.network.requests import (
    BadRequest,
    Request,
    plain_answer,
    read_request,
    split_absolute,
)
from patchkiln.sandboxes.network.streams import SocketStream, Stream

Secure: TypeAlias = Callable[[SocketStream], Awaitable[Stream]]


async def converse(
    passage: Passage, inside: Stream, act: Callable[[Request], Awaitable[None]]
) -> None:
    """Act on request after request; one that fails is answered in words, and is the last.

    Raises what cannot be answered: a failure behind the response's begin.
    """
    rest: bytes | None = b""
    while rest is not None:
        request = None
        try:
            request = await read_request(inside, rest)
            if request is None:
                return
            await act(request)
        except (BadRequest, Refused, Unreachable) as error:
            if request is not None and request.responded:
                raise
            await inside.send(_answer(passage, error))
            break
        rest = request.rest
    await passage.inside.linger()


async def serve_requests(
    passage: Passage,
    inside: Stream,
    target: Target,
    first: Stream,
    secure: Secure | None = None,
) -> None:
    """Pass on the requests of a connection to one target; ``first`` leads there already."""
    dialled: list[Stream] = [first]

    async def act(request: Request) -> None:
        path = _path(request, target)
        if dialled:
            outside = dialled.pop()
        else:
            plain = await passage.dial(target)
            outside = plain if secure is None else await secure(plain)
        if secure is None:
            passage.check_secrecy()
        try:
            await forward(request, path, target, outside)
        except Unreachable as error:
            # As if the program had the host itself at the other end.
            raise ConnectionResetError from error

    await converse(passage, inside, act)


def check_host(request: Request, target: Target) -> None:
    """Hold the Host header against the target. Raises `Refused` and `BadRequest`."""
    host = request.host
    if host is not None and (host[0] != target.name or host[1] not in {None, target.port}):
        raise Refused(target.name, target.port, OTHER_HOST_HEADER)


def _path(request: Request, target: Target) -> str:
    """Return the path of a request that came straight to its host. Raises as `check_host`."""
    check_host(request, target)
    if request.method == "CONNECT":
        raise BadRequest("This is no proxy; the proxy is at 127.0.0.1:3128.")
    if request.target.startswith("/") or request.target == "*":
        return request.target
    absolute = split_absolute(request.target)
    if absolute is None:
        raise BadRequest("The request's target is malformed.")
    _, name, port, path = absolute
    if (name, port) != target[:2]:
        raise Refused(target.name, target.port, OTHER_HOST_HEADER)
    return path


def _answer(passage: Passage, error: BadRequest | Refused | Unreachable) -> bytes:
    if isinstance(error, Refused):
        passage.guard.refusals.note(error.refusal)
        return plain_answer(403, "Forbidden", _sentence(error.refusal))
    if isinstance(error, Unreachable):
        return plain_answer(502, "Bad Gateway", error.reason)
    return plain_answer(400, "Bad Request", error.reason)


def _sentence(refusal: NetworkRefusal) -> str:
    where = f"{refusal.host}:{refusal.port}"
    return (
        f"{where} was not reached: {refusal.rule}. "
        "The operator's list of hosts decides what this sandbox may reach."
    )
