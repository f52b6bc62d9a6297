"""The HTTP proxy inside a sandbox: requests with a whole URL, and CONNECT (RFC 9110, 9.3.6)."""

import h11

from patchkiln.sandboxes.network.authority import Authority
from patchkiln.sandboxes.network.exchange import check_host, converse
from patchkiln.sandboxes.network.forwarding import forward
from patchkiln.sandboxes.network.names import split_authority
from patchkiln.sandboxes.network.passage import Passage
from patchkiln.sandboxes.network.refusals import NOT_A_HOST, NOT_TLS, Refused
from patchkiln.sandboxes.network.requests import BadRequest, Request, split_absolute
from patchkiln.sandboxes.network.tunnels import serve_tunnel

_TLS_PORT = 443


async def serve_proxy(passage: Passage, authority: Authority) -> None:
    """Serve a program that uses the proxy."""

    async def act(request: Request) -> None:
        if request.method == "CONNECT":
            await _connect(passage, request, authority)
        else:
            await _pass_on(passage, request)

    await converse(passage, passage.inside, act)


async def _connect(passage: Passage, request: Request, authority: Authority) -> None:
    wanted = split_authority(request.target)
    if wanted is None or wanted[1] is None:
        raise Refused(request.target, 0, NOT_A_HOST)
    target = passage.guard.admit(wanted[0], wanted[1])
    check_host(request, target)
    outside = await passage.dial(target)
    await request.respond(
        h11.Response(status_code=200, headers=[], reason="Connection established")
    )
    passage.inside.give_back(request.early)
    await serve_tunnel(passage, target, outside, authority)


async def _pass_on(passage: Passage, request: Request) -> None:
    absolute = split_absolute(request.target)
    if absolute is None:
        raise BadRequest("This is a proxy: it takes whole URLs, and CONNECT.")
    scheme, name, port, path = absolute
    if scheme != "http":
        raise BadRequest("This proxy takes https with CONNECT only.")
    target = passage.guard.admit(name, port)
    if port == _TLS_PORT:
        raise Refused(name, port, NOT_TLS)
    check_host(request, target)
    outside = await passage.dial(target)
    passage.check_secrecy()
    await forward(request, path, target, outside)
