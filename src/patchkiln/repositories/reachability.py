"""Why a host could not be reached, looked up after the fact: git only sees a connection that broke.

The sandbox's network is what refuses; this only tells a person the reason.
"""

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from patchkiln.domain.addresses import forbidden_address
from patchkiln.domain.repository import RepositoryUrl
from patchkiln.errors import RemoteUnreachable

LOOKUP_S = 10.0
# Their own, because a slow name server holds a thread for long, and nothing else may wait for it.
_RESOLVERS = ThreadPoolExecutor(2, thread_name_prefix="resolver")
_FORBIDDEN_REMEDY = (
    "Use a public host, or ask the operator to add the URL's prefix to PATCHKILN_GIT_ALLOW."
)


async def explained(error: RemoteUnreachable, url: RepositoryUrl) -> RemoteUnreachable:
    """Return the error with the reason where one can be found: no such name, or a rule."""
    if not url.host:
        return error
    try:
        async with asyncio.timeout(LOOKUP_S):
            addresses = await _addresses(url)
    except TimeoutError:  # nothing better is known
        return error
    except OSError:
        return _because(error, f"The host name '{url.host}' does not resolve.", None)
    rules = [forbidden_address(ipaddress.ip_address(address)) for address in addresses]
    if url.trusted or None in rules:
        return error
    return _because(
        error, f"The host '{url.host}' is a {rules[0]}, which is forbidden.", _FORBIDDEN_REMEDY
    )


async def _addresses(url: RepositoryUrl) -> list[str]:
    look_up = partial(socket.getaddrinfo, url.host, url.port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_RESOLVERS, look_up)
    return [str(entry[4][0]).partition("%")[0] for entry in found]


def _because(error: RemoteUnreachable, message: str, remedy: str | None) -> RemoteUnreachable:
    return RemoteUnreachable(
        message, remedy=remedy, exit_code=error.exit_code, stderr_tail=error.stderr_tail
    )
