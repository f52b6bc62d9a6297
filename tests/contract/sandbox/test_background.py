"""The contract of commands in the background."""

import asyncio
import contextlib
from typing import Any

import pytest

from patchkiln.errors import SandboxLost, SandboxUnsupported
from patchkiln.ports.execution import Execution, ExitReason, TerminalSize, capture
from patchkiln.ports.sandbox import Capability, Sandbox, SandboxProvider
from tests.contract.sandbox.losing import lose
from tests.contract.sandbox.making import make, text

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.one_provider]

SERVER = (
    "import http.server as h\n"
    "class H(h.BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        self.send_response(200); self.end_headers(); self.wfile.write(b'served ' + %r)\n"
    "print('hello', flush=True)\n"
    "h.HTTPServer(('127.0.0.1', %d), H).serve_forever()\n"
)


def able(provider: SandboxProvider) -> bool:
    """Tell whether the provider declares commands in the background."""
    return Capability.BACKGROUND in provider.capabilities


async def begin(box: Sandbox, *argv: str, **options: Any) -> Execution:
    """Start a command in the background."""
    return await box.exec(argv, background=True, timeout_s=120, **options)


@pytest.mark.every_provider
async def test_what_is_not_declared_is_refused(box: Sandbox, provider: SandboxProvider) -> None:
    """Where the provider declares none, starting one is refused by name."""
    refused = contextlib.nullcontext() if able(provider) else pytest.raises(SandboxUnsupported)
    with refused:
        assert (await (await begin(box, "true")).wait()).exit_code == 0


@pytest.mark.every_provider
async def test_servers_live_between_commands(box: Sandbox, provider: SandboxProvider) -> None:
    """Several servers answer the commands that follow, and are killed one by one."""
    if not able(provider):
        return
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:%d').read().decode())"
    servers = [
        await begin(box, "python3", "-c", SERVER % (b"%d" % port, port))
        for port in range(8000, 8004)
    ]
    for port in range(8000, 8004):
        knock = f"while ! (echo >/dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep 0.02; done"
        answer = await text(box, f'bash -c "{knock}"; python3 -c "{ask % port}"')
        assert answer == f"served {port}"
    for server in servers:
        await server.kill()
        output = await capture(server)
        assert output.stdout == b"hello\n"
        assert b'"GET / HTTP/1.1" 200' in output.stderr
        assert output.status.reason is ExitReason.KILLED


async def test_nobody_reads_and_nothing_waits(box: Sandbox, provider: SandboxProvider) -> None:
    """The command runs to its end, and the last of its output is found later, and just that."""
    if not able(provider):
        return
    execution = await begin(box, "sh", "-c", "seq 1000000; echo end >&2", max_output_bytes=10_000)
    assert (await execution.wait()).exit_code == 0
    output = await capture(execution)
    whole = b"".join(b"%d\n" % number for number in range(1, 1_000_001))
    assert len(output.stdout) + len(output.stderr) == 10_000
    assert output.stderr == b"end\n"
    assert whole.endswith(output.stdout)
    assert output.status.reason is ExitReason.EXITED


async def test_a_late_reader_gets_what_was_kept_and_then_what_comes(
    box: Sandbox, provider: SandboxProvider
) -> None:
    """The kept output comes first, the live output after it, with no gap between."""
    if not able(provider):
        return
    script = "echo one; echo two; touch said; while [ ! -e go ]; do sleep 0.01; done; echo three"
    execution = await begin(box, "sh", "-c", script)
    await text(box, "while [ ! -e said ]; do sleep 0.01; done; sleep 0.1")
    stream = aiter(execution)
    assert (await anext(stream)).data == b"one\ntwo\n"
    await box.write("go", b"")
    assert [chunk.data async for chunk in stream] == [b"three\n"]


async def test_a_background_command_has_input_and_terminal_too(
    provider: SandboxProvider, box: Sandbox
) -> None:
    """Both are as in the foreground."""
    if not able(provider) or Capability.TERMINAL not in provider.capabilities:
        return
    execution = await box.exec(
        ["sh", "-c", "stty -echo; read a; echo got $a; tty -s && stty size"],
        terminal=TerminalSize(rows=5, columns=50),
        background=True,
        timeout_s=60,
    )
    await execution.write(b"it\n")
    await execution.wait()
    assert (await capture(execution)).stdout.endswith(b"got it\r\n5 50\r\n")


@pytest.mark.every_provider
async def test_a_lost_sandbox_ends_its_background_commands(provider: SandboxProvider) -> None:
    """Who reads or waits is told; what had been shown before is handed out."""
    if not able(provider):
        return
    box = await make(provider)
    try:
        execution = await begin(box, "sh", "-c", "echo up; touch said; sleep 1111")
        await text(box, "while [ ! -e said ]; do sleep 0.01; done; sleep 0.1")
        await lose(box)
        async with asyncio.timeout(60):
            with pytest.raises(SandboxLost):
                await execution.wait()
            stream = aiter(execution)
            assert (await anext(stream)).data == b"up\n"
            with pytest.raises(SandboxLost):
                await anext(stream)
    finally:
        await box.destroy()


@pytest.mark.every_provider
async def test_destroying_ends_the_wait(provider: SandboxProvider) -> None:
    """Readers of background commands do not outlive the sandbox."""
    if not able(provider):
        return
    box = await make(provider)
    execution = await begin(box, "sleep", "1111")
    reading = asyncio.create_task(capture(execution))
    await text(box, "true")
    await box.destroy()
    async with asyncio.timeout(60):
        with pytest.raises(SandboxLost):
            await reading


async def test_endless_output_keeps_nobody_from_working(
    box: Sandbox, provider: SandboxProvider
) -> None:
    """Others are served beside commands that print without end, in bounded memory."""
    if not able(provider):
        return
    noisy = [await begin(box, "yes", max_output_bytes=100_000) for _ in range(2)]
    for _ in range(10):
        assert await text(box, "echo ready") == "ready"
    for execution in noisy:
        await execution.kill()
        assert len((await capture(execution)).stdout) <= 100_000
