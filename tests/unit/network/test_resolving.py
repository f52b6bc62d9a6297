"""Names are resolved once, and failures are not remembered."""

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import pytest

from patchkiln.sandboxes.network import resolving
from patchkiln.sandboxes.network.resolving import NotFound, Resolver


class Server:
    """Answers in the place of the machine's resolver, with another address each time."""

    def __init__(self) -> None:
        """Begin with nothing asked."""
        self.asked = 0
        self.broken = False

    def look_up(self, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        """Return an entry as `socket.getaddrinfo` does."""
        self.asked += 1
        if self.broken:
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{self.asked}", 0))]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """Stand in the resolver's place."""
    server = Server()
    monkeypatch.setattr(socket, "getaddrinfo", server.look_up)
    return server


async def test_a_name_is_asked_for_once(server: Server) -> None:
    """By however many at a time; anew only when it is forgotten."""
    resolver = Resolver()
    answers = await asyncio.gather(*(resolver.addresses("a.example") for _ in range(20)))
    assert set(answers) == {(ip_address("192.0.2.1"),)}
    resolver.forget("a.example")
    assert await resolver.addresses("a.example") == (ip_address("192.0.2.2"),)
    assert server.asked == 2
    await resolver.close()


async def test_an_address_is_not_asked_for(server: Server) -> None:
    """It is what it says."""
    resolver = Resolver()
    assert await resolver.addresses("2001:db8::1") == (ip_address("2001:db8::1"),)
    assert server.asked == 0


async def test_a_failure_is_not_remembered(server: Server) -> None:
    """The next who asks may find the name."""
    resolver = Resolver()
    server.broken = True
    with pytest.raises(NotFound):
        await resolver.addresses("a.example")
    server.broken = False
    assert await resolver.addresses("a.example") == (ip_address("192.0.2.2"),)
    await resolver.close()


async def test_what_is_remembered_is_bounded(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest name goes first."""
    monkeypatch.setattr(resolving, "_MAX_PINNED", 2)
    resolver = Resolver()
    for name in ("a.example", "b.example", "c.example", "b.example", "a.example"):
        await resolver.addresses(name)
    assert server.asked == 4
    await resolver.close()
