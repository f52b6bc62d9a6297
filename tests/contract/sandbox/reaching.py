"""What tests of the network share: names that lead where a test says, rules, and refusals."""

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from patchkiln.domain.network import Credential, NetworkPolicy, NetworkRefusal, NetworkRule
from patchkiln.ports.execution import CapturedOutput
from patchkiln.ports.sandbox import Sandbox, SandboxProvider
from tests.contract.sandbox.making import make, run

PROXY = ("127.0.0.1", 3128)
# Connects, sends its input as it is, and prints what comes back until the end, or the error's name.
CLIENT = """
import errno, socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20) as s:
        s.sendall(sys.stdin.buffer.read())
        while block := s.recv(65536):
            sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()
except OSError as error:
    print(errno.errorcode.get(error.errno, type(error).__name__))
"""


class Names:
    """The server's resolver, with names of a test's own; it notes what it is asked."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        """Stand before the real one."""
        self.asked: list[str] = []
        # The addresses of each name, by the turn of asking; the last stays.
        self.known: dict[str, list[str]] = {}
        self._resolve = socket.getaddrinfo
        patch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: Any, *arguments: Any, **options: Any) -> Any:
        if not str(host).endswith(".example"):
            return self._resolve(host, *arguments, **options)
        self.asked.append(host)
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        turns = self.known[host]
        address = turns.pop(0) if len(turns) > 1 else turns[0]
        return self._resolve(address, *arguments, **options)


def rule(
    host: str, port: int | None, *, trusted: bool = True, credential: Credential | None = None
) -> NetworkRule:
    """Return a rule; trusted, because the tests' servers live on loopback."""
    return NetworkRule(host=host, port=port, trusted=trusted, credential=credential)


class Reaching:
    """A sandbox with a network, and what it was refused."""

    def __init__(self) -> None:
        """Begin without a sandbox."""
        self.box: Sandbox
        self.refused: list[NetworkRefusal] = []

    @property
    def rules(self) -> list[str]:
        """Return why, by turn."""
        return [refusal.rule for refusal in self.refused]

    async def curl(self, url: str, *options: str) -> str:
        """Return what curl complains about, the status and the body."""
        format_ = ("-sS", "-m", "20", "-o", "-", "-w", "%{stderr}%{http_code}")
        output = await run(self.box, "curl", *format_, *options, url)
        said = output.stderr.decode().splitlines()
        return " ".join((*said, output.stdout.decode())).strip()

    async def python(self, code: str, *arguments: str, **options: Any) -> CapturedOutput:
        """Run a program in a Python that has TLS, which a lent one may lack."""
        script = 'p=/usr/bin/python3; $p -c "import ssl" 2>/dev/null || p=python3; exec $p "$@"'
        return await run(self.box, "sh", "-c", script, "sh", "-c", code, *arguments, **options)

    async def talk(self, host: str, port: int, data: bytes) -> bytes:
        """Return what a raw connection gets."""
        output = await run(self.box, "python3", "-c", CLIENT, host, str(port), stdin=data)
        return output.stdout

    async def ask_proxy(self, *lines: str, body: bytes = b"") -> str:
        """Send the lines of a request to the proxy, and return the whole answer."""
        head = "".join(f"{line}\r\n" for line in (*lines, "")).encode()
        return (await self.talk(*PROXY, head + body)).decode("latin-1")


@asynccontextmanager
async def reaching(
    provider: SandboxProvider, *rules: NetworkRule, **policy: Any
) -> AsyncGenerator[Reaching]:
    """Lend a sandbox that may reach what the rules name."""
    lent = Reaching()
    network = NetworkPolicy(rules=rules, **policy)
    lent.box = await make(provider, network=network, on_refused=lent.refused.append)
    try:
        yield lent
    finally:
        await lent.box.destroy()
