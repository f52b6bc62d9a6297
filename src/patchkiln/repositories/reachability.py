"""Why a host could not be reached, looked up after the fact: git only sees a connection that broke.

The sandbox's network is what refuses; this only tells a person the reason.
"""

import asyncio
import ipaddress
import socket

from patchkiln.domain.network import forbidden_address
from patchkiln.domain.repository import RepositoryUrl
from patchkiln.errors import RemoteUnreachable

_FORBIDDEN_REMEDY = (
    "Use a public host, or ask the operator to add the URL's prefix to PATCHKILN_GIT_ALLOW."
)


async def explained(error: RemoteUnreachable, url: RepositoryUrl) -> RemoteUnreachable:
    """Return the error with the reason where one can be found: no such name, or a rule."""
    if not url.host:
        return error
    try:
        addresses = await _addresses(url)
    except OSError:
        return _because(error, f"The host name '{url.host}' does not resolve.", None)
    rules = [forbidden_address(ipaddress.ip_address(address)) for address in addresses]
    if url.trusted or None in rules:
        return error
    return _because(
        error, f"The host '{url.host}' is a {rules[0]}, which is forbidden.", _FORBIDDEN_REMEDY
    )


async def _addresses(url: RepositoryUrl) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]).partition("%")[0] for entry in found]


def _because(error: RemoteUnreachable, message: str, remedy: str | None) -> RemoteUnreachable:
    return RemoteUnreachable(
        message, remedy=remedy, exit_code=error.exit_code, stderr_tail=error.stderr_tail
    )
