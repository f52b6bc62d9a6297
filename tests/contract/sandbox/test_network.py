"""The contract of a sandbox's network: nothing but what its spec names."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from patchkiln.domain.network import NetworkPolicy, NetworkRule
from patchkiln.ports.sandbox import Sandbox, SandboxProvider
from tests.contract.sandbox.making import make, run, sh

pytestmark = pytest.mark.asyncio(loop_scope="package")

# Sends its first argument's bytes, half-closes, and prints what comes back.
CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30) as s:
    s.sendall(sys.stdin.buffer.read())
    s.shutdown(socket.SHUT_WR)
    while block := s.recv(65536):
        sys.stdout.buffer.write(block)
"""


def only(host: str, port: int, *, trusted: bool = False) -> NetworkPolicy:
    """Return the policy that admits one host and port."""
    return NetworkPolicy(rules=(NetworkRule(host=host, port=port, trusted=trusted),))


async def _echo_upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer only after the other side has closed its half."""
    data = await reader.read()
    writer.write(b"<" + data.upper() + b">")
    await writer.drain()
    writer.close()
    await writer.wait_closed()


@pytest_asyncio.fixture(loop_scope="package")
async def port() -> AsyncGenerator[int]:
    """Serve on the host's loopback and return the port."""
    server = await asyncio.start_server(_echo_upper, "127.0.0.1", 0, limit=1 << 26)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def talk(box: Sandbox, host: str, port: int, data: bytes = b"abc") -> bytes:
    """Return what a server answers to a client in the sandbox; nothing when it is cut off."""
    output = await run(box, "python3", "-c", CLIENT, host, str(port), stdin=data)
    return output.stdout


async def test_a_named_target_is_reached_and_no_other(provider: SandboxProvider, port: int) -> None:
    """The host's own address answers where the spec trusts it; other ports and hosts do not."""
    box = await make(
        provider,
        network=only("127.0.0.1", port, trusted=True),
    )
    try:
        assert await talk(box, "127.0.0.1", port) == b"<ABC>"
        assert await talk(box, "127.0.0.1", port + 1) == b""
        assert await talk(box, "192.0.2.1", port) == b""
    finally:
        await box.destroy()


async def test_a_target_is_reached_by_its_name(provider: SandboxProvider, port: int) -> None:
    """The name resolves inside, in any case, and leads to the host that it names outside."""
    box = await make(
        provider,
        network=only("localhost", port, trusted=True),
    )
    try:
        assert await talk(box, "localhost", port) == b"<ABC>"
    finally:
        await box.destroy()


async def test_names_do_not_wait_for_other_work(provider: SandboxProvider, port: int) -> None:
    """Names have threads of their own, so that slow ones and the server's files do not meet."""
    box = await make(
        provider,
        network=only("localhost", port, trusted=True),
    )
    loop, over = asyncio.get_running_loop(), threading.Event()
    count = len(os.sched_getaffinity(0)) + 32  # more than the loop has threads
    works = [loop.run_in_executor(None, over.wait) for _ in range(count)]
    try:
        async with asyncio.timeout(30):
            assert await talk(box, "localhost", port) == b"<ABC>"
    finally:
        over.set()
        await asyncio.gather(*works)
        await box.destroy()


async def test_large_and_many_transfers_arrive_whole(provider: SandboxProvider, port: int) -> None:
    """Bytes pass unchanged both ways, on connections side by side."""
    box = await make(
        provider,
        network=only("127.0.0.1", port, trusted=True),
    )
    data = b"payload " * 110_000
    try:
        answers = await asyncio.gather(*(talk(box, "127.0.0.1", port, data) for _ in range(4)))
        assert answers == [b"<" + data.upper() + b">"] * 4
    finally:
        await box.destroy()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_private_address_needs_trust(
    provider: SandboxProvider, port: int, host: str
) -> None:
    """A target that nobody trusts and that leads to a private address is cut off."""
    box = await make(provider, network=only(host, port))
    try:
        assert await talk(box, host, port) == b""
    finally:
        await box.destroy()


async def test_without_targets_there_is_no_network(box: Sandbox, port: int) -> None:
    """Neither the host's services nor any name nor the metadata address can be reached."""
    assert await talk(box, "127.0.0.1", port) == b""
    assert await talk(box, "169.254.169.254", 80) == b""
    output = await sh(box, "getent hosts example.org")
    assert output.status.exit_code != 0


async def test_two_sandboxes_do_not_meet(provider: SandboxProvider) -> None:
    """What listens in one cannot be reached from another."""
    code = "import socket, time; s = socket.create_server(('0.0.0.0', 8123)); time.sleep(1000)"
    one, two = await make(provider), await make(provider)
    try:
        execution = await one.exec(["python3", "-c", code])
        assert await talk(two, "127.0.0.1", 8123) == b""
        await execution.kill()
    finally:
        await asyncio.gather(one.destroy(), two.destroy())
