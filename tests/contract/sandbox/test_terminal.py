"""The contract of commands on a terminal."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from patchkiln.domain.network import NetworkPolicy, NetworkRule
from patchkiln.errors import SandboxError, SandboxUnsupported
from patchkiln.ports.execution import Execution, ExitReason, TerminalSize, capture
from patchkiln.ports.sandbox import Capability, Sandbox, SandboxProvider
from tests.contract.sandbox.making import lacks, make, run

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.one_provider]

WAIT_S = 30
# Editors of lines write more than text before their prompt.
PROMPT = "(?s:.)*?histurn"
SIZE = TerminalSize(rows=33, columns=111)


class Screen:
    """Reads a terminal until it shows what is waited for."""

    def __init__(self, execution: Execution) -> None:
        """Take the command."""
        self.execution = execution
        self._shown = ""
        self._stream = aiter(execution)

    async def until(self, pattern: str) -> str:
        """Return what matches; what stood before it is gone from the screen."""
        while (match := re.search(pattern, self._shown)) is None:
            try:
                chunk = await asyncio.wait_for(anext(self._stream), WAIT_S)
            except TimeoutError:
                pytest.fail(f"waited for {pattern!r} before {self._shown!r}")
            assert chunk.stream == "stdout"
            self._shown += chunk.data.decode()
        self._shown = self._shown[match.end() :]
        return match[0]

    async def type(self, keys: str) -> None:
        """Type."""
        await self.execution.write(keys.encode())

    async def leave(self) -> None:
        """Look no further."""
        await self._stream.aclose()  # type: ignore[attr-defined] # a generator, as every stream here

    async def rest(self) -> str:
        """Return all that comes until the end."""
        async for chunk in self._stream:
            self._shown += chunk.data.decode()
        return self._shown


@asynccontextmanager
async def on_terminal(provider: SandboxProvider, *argv: str) -> AsyncGenerator[Screen]:
    """Run a command on a terminal; where there are none, that is what is refused."""
    box = await make(provider)
    try:
        if Capability.TERMINAL not in provider.capabilities:
            with pytest.raises(SandboxUnsupported):
                await box.exec(argv, terminal=SIZE)
            pytest.xfail("declared as a gap")
        yield Screen(await box.exec(argv, terminal=SIZE, timeout_s=120))
    finally:
        await box.destroy()


@pytest.mark.every_provider
async def test_a_shell_has_job_control(provider: SandboxProvider) -> None:
    """An interactive shell leads jobs; control and C, or Z, reach the one in front and not it."""
    async with on_terminal(provider, "bash", "--norc", "-i") as screen:
        await screen.type("PS1='his''turn'; tty; stty size\n")
        assert await screen.until(r"/dev/pts/\d+\r\n33 111\r\n") != ""
        await screen.until(PROMPT)
        await screen.type("sh -c 'echo begin; exec sleep 1111'\n")
        await screen.until("begin\r\n")
        await screen.type("\x03")
        await screen.until(r"\^C" + PROMPT)
        await screen.type("echo 'still 'here\n")
        await screen.until("still here\r\n" + PROMPT)
        await screen.type("sh -c 'echo next; exec sleep 1111'\n")
        await screen.until("next\r\n")
        await screen.type("\x1a")
        await screen.until(r"\[1\]\+\s+Stopped" + PROMPT)
        await screen.type("kill %1; wait; jobs; exit 7\n")
        await screen.rest()
        assert (await screen.execution.wait()).exit_code == 7


@pytest.mark.every_provider
async def test_a_resize_is_told_to_the_command(provider: SandboxProvider) -> None:
    """The command gets SIGWINCH and finds the new size."""
    script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done"
    async with on_terminal(provider, "bash", "-c", script) as screen:
        await screen.until("ready\r\n")
        await screen.execution.resize(TerminalSize(rows=50, columns=100))
        assert "50 100\r\n" in await screen.rest()
        assert (await screen.execution.wait()).exit_code == 0
        await screen.execution.resize(SIZE)


async def test_an_interpreter_converses(provider: SandboxProvider) -> None:
    """Python's prompt answers, and ends at the end of its input."""
    async with on_terminal(provider, "python3", "-q") as screen:
        await screen.until(">>> ")
        await screen.type("print(6 * 7)\n")
        await screen.until("42\r\n")
        await screen.type("import sys; sys.stdin.isatty(), sys.stderr.isatty()\n")
        await screen.until(r"\(True, True\)")
        await screen.until(">>> ")
        await screen.execution.close_stdin()
        await screen.rest()
        assert (await screen.execution.wait()).exit_code == 0
        with pytest.raises(SandboxError, match="closed"):
            await screen.type("too late\n")


@pytest.mark.every_provider
async def test_killing_a_terminal_kills_its_jobs(provider: SandboxProvider) -> None:
    """Jobs in groups of their own die with the session, whatever they ignore."""
    script = "set -m; trap '' HUP; sleep 1111 & sleep 2222 & echo up; wait"
    async with on_terminal(provider, "bash", "-c", script) as screen:
        await screen.until("up\r\n")
        await screen.execution.kill()
        await screen.rest()
        assert (await screen.execution.wait()).reason is ExitReason.KILLED


@pytest.mark.every_provider
async def test_a_terminal_is_private_and_the_box_owns_it(provider: SandboxProvider) -> None:
    """It can be opened by name, is the controlling one, and takes no typing for someone else."""
    script = (
        "set -e; test -O $(tty); echo named >$(tty); echo controlled >/dev/tty\n"
        'python3 -c "\n'
        "import fcntl\n"
        "for number in (0x5412, 0x541C):\n"
        "    try: fcntl.ioctl(0, number, b'x')\n"
        "    except OSError as error: print(error.errno)\n"
        '"; ls /dev/pts'
    )
    async with on_terminal(provider, "bash", "-c", script) as screen:
        lines = (await screen.rest()).split()
    assert lines == ["named", "controlled", "1", "1", "0", "ptmx"]


async def test_all_that_was_shown_arrives(provider: SandboxProvider) -> None:
    """More than a terminal holds, to a slow reader, though the command has ended by then."""
    async with on_terminal(provider, "sh", "-c", "seq 1 20000; echo x >/dev/tty") as screen:
        await asyncio.sleep(0.2)
        lines = (await screen.rest()).split("\r\n")
    assert lines == [*map(str, range(1, 20001)), "x", ""]


@pytest.mark.parametrize("argv", [["no-such-program"], ["/etc/passwd"], ["/nowhere/x"]])
async def test_a_program_that_cannot_start_says_so(
    provider: SandboxProvider, argv: list[str]
) -> None:
    """The reason stands on the terminal, and the exit code is a shell's."""
    async with on_terminal(provider, *argv) as screen:
        assert argv[0] in await screen.rest()
        assert (await screen.execution.wait()).exit_code in {126, 127}


async def test_input_given_at_the_start_comes_first(provider: SandboxProvider) -> None:
    """Bytes or a stream are typed before what is written later, and the input stays open."""
    if Capability.TERMINAL not in provider.capabilities:
        return
    box = await make(provider)
    try:
        execution = await box.exec(
            ["sh", "-c", "stty -echo; echo ready; read a; read b; echo $b $a"],
            terminal=SIZE,
            stdin=b"one\n",
            timeout_s=60,
        )
        await execution.write(b"two\n")
        assert "two one\r\n" in (await capture(execution)).stdout.decode()
    finally:
        await box.destroy()


async def test_much_typing_waits_for_the_command(provider: SandboxProvider) -> None:
    """Megabytes written to a raw terminal arrive whole, as fast as they are read."""
    script = "stty raw -echo; echo ready; head -c 1000000 | cksum"
    async with on_terminal(provider, "sh", "-c", script) as screen:
        await screen.until("ready")
        data = b"0123456789" * 100_000
        async with asyncio.timeout(60):
            await screen.execution.write(data)
        assert "1000000" in await screen.rest()


async def test_what_has_no_terminal_cannot_be_resized(box: Sandbox) -> None:
    """The mistake is told."""
    execution = await box.exec(["true"])
    with pytest.raises(SandboxError):
        await execution.resize(SIZE)
    await execution.wait()


async def test_many_terminals_live_side_by_side(provider: SandboxProvider) -> None:
    """Each has its own number and its own output."""
    if Capability.TERMINAL not in provider.capabilities:
        return
    box = await make(provider)
    try:
        script = "tty; read answer; echo $answer"
        sessions = [
            await box.exec(["sh", "-c", script], terminal=SIZE, timeout_s=60) for _ in range(10)
        ]
        for number, session in enumerate(sessions):
            await session.write(f"answer-{number}\n".encode())
        outputs = [(await capture(session)).stdout.decode() for session in sessions]
    finally:
        await box.destroy()
    assert len({output.split()[0] for output in outputs} | {o.split()[1] for o in outputs}) >= 10
    assert all(output.rstrip().endswith(f"answer-{n}") for n, output in enumerate(outputs))


async def test_who_leaves_a_terminal_hangs_up(provider: SandboxProvider) -> None:
    """A reader that stops ends the session, as closing a window does."""
    async with on_terminal(provider, "sh", "-c", "echo hi; sleep 1111") as screen:
        await screen.until("hi")
        await screen.leave()
        assert (await screen.execution.wait()).exit_code != 0


async def test_an_open_network_takes_no_terminal_away(provider: SandboxProvider) -> None:
    """A sandbox with a network has terminals too, or the provider declares that it has none."""
    policy = NetworkPolicy(rules=(NetworkRule(host="example.com", port=443),))
    box = await make(provider, network=policy)
    try:
        if await lacks(
            provider,
            Capability.TERMINAL_WITH_NETWORK,
            lambda: box.exec(["tty"], terminal=SIZE),
        ):
            return
        assert (await run(box, "tty", terminal=SIZE)).stdout.startswith(b"/dev/pts/")
    finally:
        await box.destroy()
