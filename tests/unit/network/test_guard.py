"""Judging and connecting, when something changes in between."""

import asyncio
import socket
import threading
from typing import Any

import pytest

from patchkiln.domain.network import NetworkPolicy, NetworkRule
from patchkiln.sandboxes.network.guard import Guard, Unreachable
from patchkiln.sandboxes.network.refusals import NOT_LISTED, Refusals, Refused
from patchkiln.sandboxes.network.resolving import NotFound


@pytest.fixture
def port(unused_tcp_port_factory: Any) -> int:
    """Return a port of loopback where nothing listens."""
    return int(unused_tcp_port_factory())


def listed(port: int) -> NetworkPolicy:
    """Return the policy that admits one name."""
    rule = NetworkRule(host="slow.example", port=port, trusted=True)
    return NetworkPolicy(rules=(rule,))


async def test_a_policy_that_changes_meanwhile_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it no longer admits is hung up, though it was admitted when it was asked for."""
    asked, answer = threading.Event(), threading.Event()

    def look_up(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        asked.set()
        assert answer.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        guard = Guard(Refusals(None))
        guard.policy = listed(port)
        connecting = asyncio.create_task(guard.connect(guard.admit("slow.example", port)))
        assert await asyncio.to_thread(asked.wait, 20)
        guard.policy = NetworkPolicy()
        answer.set()
        with pytest.raises(Refused) as caught:
            await connecting
        assert caught.value.refusal.rule == NOT_LISTED
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1) == b""
    await guard.close()


async def test_what_does_not_answer_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    """A name without an address, and an address where nothing listens, are no refusals."""
    guard = Guard(Refusals(None))
    guard.policy = NetworkPolicy(rules=(NetworkRule(host="127.0.0.1", port=port, trusted=True),))
    with pytest.raises(Unreachable, match=f"127.0.0.1 does not answer on port {port}"):
        await guard.connect(guard.admit("127.0.0.1", port))
    guard.policy = listed(port)
    monkeypatch.setattr(guard, "_resolver", _Nowhere())
    with pytest.raises(Unreachable, match=r"slow\.example was not found"):
        await guard.connect(guard.admit("slow.example", port))


class _Nowhere:
    async def addresses(self, name: str) -> None:
        raise NotFound(name)
