"""The contract of an input that stays open."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from patchkiln.errors import SandboxError
from patchkiln.ports.execution import Chunk, Execution, Stdin, capture
from patchkiln.ports.sandbox import Sandbox
from tests.contract.sandbox.making import run

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.one_provider]


async def line(stream: AsyncIterator[Chunk]) -> bytes:
    """Return output up to a line's end."""
    shown = b""
    async with asyncio.timeout(60):
        while not shown.endswith(b"\n"):
            shown += (await anext(stream)).data
    return shown


async def converse(box: Sandbox, *argv: str) -> Execution:
    """Start a command with an open input."""
    return await box.exec(argv, stdin=Stdin.OPEN, timeout_s=60)


@pytest.mark.every_provider
async def test_a_dialog(box: Sandbox) -> None:
    """What is written is answered, again and again, until the input is closed; twice is fine."""
    execution = await converse(box, "cat")
    stream = aiter(execution)
    for said in (b"one\n", b"two\n", b"three\n"):
        await execution.write(said)
        assert await line(stream) == said
    await execution.close_stdin()
    await execution.close_stdin()
    assert [chunk async for chunk in stream] == []
    assert (await execution.wait()).exit_code == 0
    with pytest.raises(SandboxError, match="closed"):
        await execution.write(b"late")


async def test_writing_waits_for_the_command(box: Sandbox) -> None:
    """A command that reads nothing holds the writer back; then all of it arrives, in order."""
    execution = await converse(box, "sh", "-c", "echo up; while [ ! -e go ]; do :; done; cksum")
    stream = aiter(execution)
    await line(stream)
    first = asyncio.create_task(execution.write(b"x" * 3_000_000))
    second = asyncio.create_task(execution.write(b"y" * 3_000_000))
    await run(box, "true")
    assert not first.done()
    await box.write("go", b"")
    await asyncio.gather(first, second)
    await execution.close_stdin()
    expected = await run(box, "sh", "-c", "(yes x; :) | tr -d '\\n' | head -c 3000000 >a; cat a")
    assert len(expected.stdout) > 0
    sums = await run(box, "sh", "-c", "tr x y <a >b; cat a b | cksum")
    assert await line(stream) == sums.stdout


@pytest.mark.every_provider
async def test_a_writer_is_told_of_the_commands_end(box: Sandbox) -> None:
    """A command that ends, or closes its input, ends the wait of who writes to it."""
    for script in ("echo up; sleep 0.2", "exec <&-; echo up; sleep 1111", "sleep 1111 & sleep 0.2"):
        execution = await converse(box, "sh", "-c", script)
        async with asyncio.timeout(60):
            with pytest.raises(SandboxError):
                await execution.write(b"x" * 10_000_000)
        await execution.kill()
        await execution.wait()


async def test_a_writer_that_gives_up_blocks_no_other(box: Sandbox) -> None:
    """A cancelled write may have been done in part; the next one goes on behind it."""
    execution = await converse(box, "sh", "-c", "while [ ! -e go ]; do :; done; tail -c 4")
    write = asyncio.create_task(execution.write(b"x" * 1_000_000))
    await run(box, "true")
    write.cancel()
    await asyncio.gather(write, return_exceptions=True)
    await box.write("go", b"")
    await execution.write(b"last")
    await execution.close_stdin()
    assert (await capture(execution)).stdout == b"last"


async def test_a_whole_input_is_not_added_to(box: Sandbox) -> None:
    """Who gave bytes at the start, or nothing, has said all."""
    for stdin in (b"", b"all of it"):
        execution = await box.exec(["cat"], stdin=stdin, timeout_s=60)
        with pytest.raises(SandboxError, match="whole input"):
            await execution.write(b"more")
        await execution.close_stdin()
        assert (await capture(execution)).stdout == stdin


async def test_a_reader_and_a_waiter(box: Sandbox) -> None:
    """Who waits takes nothing from who reads at the same time."""
    execution = await box.exec(["sh", "-c", "seq 100000; exit 5"], timeout_s=60)
    stream = aiter(execution)
    shown = (await anext(stream)).data
    waiting = asyncio.create_task(execution.wait())
    async for chunk in stream:
        shown += chunk.data
    assert shown.split() == [b"%d" % number for number in range(1, 100_001)]
    assert (await waiting).exit_code == 5


async def test_an_input_that_breaks_off_ends_its_command(box: Sandbox) -> None:
    """What gives the input raises: the command must not take a part for the whole, nor wait on."""

    async def breaking(error: Exception) -> AsyncIterator[bytes]:
        yield b"a part"
        raise error

    for error in (RuntimeError("the caller's"), SandboxError("of another sandbox")):
        script = "cat >/dev/null; echo all"
        execution = await box.exec(("sh", "-c", script), stdin=breaking(error))
        async with asyncio.timeout(60):
            with pytest.raises(type(error), match=str(error)):
                await anext(aiter(execution))  # nothing was shown before
            with pytest.raises(type(error), match=str(error)):
                await execution.wait()
    assert (await run(box, "cat", stdin=b"whole")).stdout == b"whole"
