"""The contract of running commands."""

import asyncio
import errno
from collections.abc import AsyncIterator

import pytest

from patchkiln.errors import SandboxFileError
from patchkiln.ports.execution import ExitReason, capture
from patchkiln.ports.sandbox import Sandbox, SandboxProvider
from tests.contract.sandbox.making import make, run, sh, text

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.one_provider]


async def count(box: Sandbox, word: str) -> int:
    """Count the processes with a word in their arguments, which the shell here spells apart."""
    script = (
        'n=0; for f in /proc/[0-9]*/cmdline; do tr "\\0" " " <"$f" 2>/dev/null '
        '| grep -q "^sleep $1" && n=$((n + 1)); done; echo $n'
    )
    output = await run(box, "/bin/sh", "-c", script, "count", word)
    return int(output.stdout)


@pytest.mark.every_provider
async def test_streams_and_exit_code_come_back_apart(box: Sandbox) -> None:
    """Stdout, stderr and the exit code each arrive as the command gave them."""
    output = await sh(box, "echo out; echo err >&2; exit 7")
    assert (output.stdout, output.stderr) == (b"out\n", b"err\n")
    assert (output.status.exit_code, output.status.reason) == (7, ExitReason.EXITED)
    assert output.status.duration_ms >= 0
    assert output.status.max_rss_bytes > 0


@pytest.mark.every_provider
async def test_commands_start_in_the_workspace_or_where_they_are_told(box: Sandbox) -> None:
    """The default directory is the workspace; a relative one is below it."""
    await box.make_directory("sub/dir")
    assert await text(box, "pwd") == "/workspace"
    assert await text(box, "pwd", cwd="sub/dir") == "/workspace/sub/dir"
    assert await text(box, "pwd", cwd="/tmp") == "/tmp"


async def test_a_missing_directory_is_told_as_a_file_error(box: Sandbox) -> None:
    """A working directory that does not exist fails the call, not the command."""
    with pytest.raises(SandboxFileError) as caught:
        await box.exec(["true"], cwd="nowhere")
    assert caught.value.errno == errno.ENOENT


async def test_a_workspace_that_locks_itself_hangs_nothing(box: Sandbox) -> None:
    """A command that can no longer enter the workspace fails, and says why."""
    await text(box, "chmod 0 /workspace")
    output = await run(box, "true")
    assert output.status.exit_code == 126
    assert b"Permission denied" in output.stderr
    assert await text(box, "chmod 755 /workspace; echo again", cwd="/") == "again"
    assert await text(box, "pwd") == "/workspace"


async def test_arguments_arrive_byte_for_byte(box: Sandbox) -> None:
    """No shell looks at arguments: blanks, quotes, globs and foreign bytes pass unchanged."""
    arguments = [
        "",
        " a  b ",
        "$HOME",
        "*",
        "'\"\\",
        "ä→",
        b"\xff\xfe".decode(errors="surrogateescape"),
    ]
    output = await run(box, "printf", "%s|", *arguments)
    assert output.stdout == b"| a  b |$HOME|*|'\"\\|" + "ä→|".encode() + b"\xff\xfe|"


@pytest.mark.every_provider
async def test_the_environment_is_the_sandboxes_own(provider: SandboxProvider) -> None:
    """A spec's and a command's variables are seen, the command's winning, and no host's."""
    box = await make(provider, env={"ONE": "spec", "TWO": "spec"})
    try:
        names = await text(box, "env | cut -d= -f1 | sort", env={"TWO": "command"})
        values = await text(box, "echo $ONE $TWO $HOME", env={"TWO": "command"})
    finally:
        await box.destroy()
    assert values == "spec command /home/user"
    known = {"HOME", "LANG", "LOGNAME", "ONE", "PATH", "PWD", "PYTHONDONTWRITEBYTECODE", "SHELL"}
    assert set(names.split()) == known | {"TERM", "TMPDIR", "TWO", "USER"}


@pytest.mark.every_provider
async def test_a_missing_program_exits_127_and_an_unfit_one_126(box: Sandbox) -> None:
    """As in a shell; stderr names the program."""
    await box.write("text", b"words\n", mode=0o644)
    missing = await run(box, "no-such-program")
    missing_path = await run(box, "./no-such-program")
    unfit = await run(box, "./text")
    directory = await run(box, "/usr")
    assert (missing.status.exit_code, missing_path.status.exit_code) == (127, 127)
    assert (unfit.status.exit_code, directory.status.exit_code) == (126, 126)
    assert b"no-such-program" in missing.stderr
    assert b"./text" in unfit.stderr


async def test_a_program_is_found_on_the_path_of_the_command(box: Sandbox) -> None:
    """PATH of the command's own environment decides, relative entries included."""
    await box.write("bin/hello", b"#!/bin/sh\necho hello\n", mode=0o755)
    output = await run(box, "hello", env={"PATH": "/nowhere:bin:/usr/bin:/bin"})
    assert output.stdout == b"hello\n"


@pytest.mark.every_provider
async def test_stdin_is_written_and_closed(box: Sandbox) -> None:
    """Small, large and no stdin at all: the command reads all of it, then its end."""
    large = bytes(range(256)) * 8192
    assert (await run(box, "cat", stdin=b"abc")).stdout == b"abc"
    assert (await run(box, "cat")).stdout == b""
    output = await run(box, "wc", "-c", stdin=large)
    assert int(output.stdout) == len(large)


async def test_stdin_may_be_a_stream(box: Sandbox) -> None:
    """An iterable is read as the command takes it, and no further once the command is over."""
    taken = 0

    async def blocks() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 65536

    output = await run(box, "head", "-c", "100000", stdin=blocks())
    after = taken
    await run(box, "true")
    assert len(output.stdout) == 100_000
    assert taken == after


async def test_stdin_that_nobody_reads_hinders_nothing(box: Sandbox) -> None:
    """A command may leave its input alone."""
    output = await run(box, "echo", "done", stdin=b"x" * 1_000_000)
    assert (output.stdout, output.status.exit_code) == (b"done\n", 0)


async def test_output_comes_while_the_command_runs(box: Sandbox) -> None:
    """The first line is there before the command ends, which waits for an answer to it."""
    script = "echo first; while [ ! -e answer ]; do sleep 0.01; done; echo second"
    execution = await box.exec(["sh", "-c", script], timeout_s=60)
    chunks: list[bytes] = []
    async for chunk in execution:
        chunks.append(chunk.data)
        if len(chunks) == 1:
            await box.write("answer", b"")
    assert chunks == [b"first\n", b"second\n"]


@pytest.mark.every_provider
async def test_back_pressure_reaches_the_command(box: Sandbox) -> None:
    """A command whose output nobody takes waits, and goes on when somebody does."""
    execution = await box.exec(["sh", "-c", "head -c 5000000 /dev/zero; echo >done"], timeout_s=60)
    stream = aiter(execution)
    size = len((await anext(stream)).data)
    with pytest.raises(SandboxFileError):
        await box.stat("done")
    async for chunk in stream:
        size += len(chunk.data)
    assert size == 5_000_000
    assert (await box.stat("done")).kind == "file"


async def test_waiting_drops_the_output(box: Sandbox) -> None:
    """Who only waits gets the status of a command that prints much."""
    execution = await box.exec(["sh", "-c", "head -c 5000000 /dev/zero; exit 3"], timeout_s=60)
    assert (await execution.wait()).exit_code == 3


async def test_a_time_limit_kills_what_ignores_signals(box: Sandbox) -> None:
    """Past its time a command is killed with its children, whatever they ignore."""
    script = "trap '' TERM INT HUP; sleep 1111 & (sleep 2222 & sleep 3333); wait"
    output = await sh(box, script, timeout_s=0.5)
    assert output.status.reason is ExitReason.TIMED_OUT
    assert output.status.exit_code == 137
    assert [await count(box, word) for word in ("1111", "2222", "3333")] == [0, 0, 0]


@pytest.mark.every_provider
async def test_a_time_limit_kills_a_child_that_left_the_session(box: Sandbox) -> None:
    """A child in a session of its own is killed with its parent."""
    output = await sh(box, "setsid -w sleep 1111 & sleep 2222", timeout_s=0.5)
    assert output.status.reason is ExitReason.TIMED_OUT
    assert [await count(box, word) for word in ("1111", "2222")] == [0, 0]


@pytest.mark.every_provider
async def test_what_double_forked_away_dies_with_the_sandbox(provider: SandboxProvider) -> None:
    """A daemon may outlive its command's time limit, but not delay it, nor outlive the sandbox."""
    box = await make(provider)
    script = "setsid sh -c 'sleep 1111 & exit' >/dev/null 2>&1; sleep 2222"
    output = await sh(box, script, timeout_s=0.5)
    assert output.status.reason is ExitReason.TIMED_OUT
    assert await count(box, "2222") == 0
    await box.destroy()


@pytest.mark.every_provider
async def test_an_output_limit_kills_and_cuts(box: Sandbox) -> None:
    """Past the bound of both streams the command is killed, and no byte more is handed out."""
    execution = await box.exec(
        ["sh", "-c", "yes & yes >&2"], timeout_s=60, max_output_bytes=300_000
    )
    size = 0
    async for chunk in execution:
        size += len(chunk.data)
    assert size == 300_000
    assert (await execution.wait()).reason is ExitReason.OUTPUT_LIMIT


async def test_output_past_the_limit_is_told_though_the_command_has_ended(box: Sandbox) -> None:
    """Who reads late is told all the same that there was more."""
    execution = await box.exec(["printf", "12345"], max_output_bytes=4)
    # A command that began later has ended, so this one has, long before it is read.
    await run(box, "sleep", "0.2")
    output = await capture(execution)
    assert output.stdout == b"1234"
    assert output.status.reason is ExitReason.OUTPUT_LIMIT


async def test_endless_output_is_kept_in_bounded_memory(box: Sandbox) -> None:
    """`capture` keeps both ends of what a command prints until its limit."""
    execution = await box.exec(["yes"], timeout_s=60, max_output_bytes=20_000_000)
    output = await capture(execution, max_bytes=10_000)
    assert output.status.reason is ExitReason.OUTPUT_LIMIT
    assert len(output.stdout) < 11_000
    assert output.dropped_bytes == 20_000_000 - 10_000


async def test_odd_bytes_pass_through(box: Sandbox) -> None:
    """NULs, escapes and what is no UTF-8 arrive as they are."""
    output = await run(box, "printf", r"\000\377\033[31m")
    assert output.stdout == b"\0\xff\x1b[31m"


async def test_a_command_is_over_when_its_main_process_is(box: Sandbox) -> None:
    """A child that holds the pipe open delays nothing, and lives on."""
    output = await sh(box, "echo hi; sleep 1111 & exit 0")
    assert (output.stdout, output.status.exit_code) == (b"hi\n", 0)
    assert await count(box, "1111") == 1


async def test_late_readers_get_all_that_was_printed(box: Sandbox) -> None:
    """Output that waited in the pipe when the command ended is delivered, however late."""
    execution = await box.exec(["sh", "-c", "sleep 1111 & head -c 60000 /dev/zero; echo >done"])
    await text(box, "while [ ! -e done ]; do sleep 0.01; done; sleep 0.2")
    assert len((await capture(execution)).stdout) == 60_000


async def test_background_processes_serve_later_commands(box: Sandbox) -> None:
    """A server that one command starts answers the next."""
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', 8123)); open('ready', 'w');\n"
        "c, _ = s.accept(); c.sendall(b'hello')"
    )
    await box.write("server.py", code.encode())
    await sh(box, "python3 server.py >/dev/null 2>&1 & while [ ! -e ready ]; do sleep 0.01; done")
    client = "import socket; print(socket.create_connection(('127.0.0.1', 8123)).recv(9))"
    assert await text(box, f'python3 -c "{client}"') == "b'hello'"


@pytest.mark.every_provider
async def test_kill_ends_a_command_and_its_session(box: Sandbox) -> None:
    """Killing is told as such, may be repeated, and takes the children too."""
    execution = await box.exec(["sh", "-c", "sleep 1111 & sleep 2222"])
    await execution.kill()
    await execution.kill()
    status = await execution.wait()
    assert (status.reason, status.exit_code) == (ExitReason.KILLED, 137)
    assert [await count(box, word) for word in ("1111", "2222")] == [0, 0]


async def test_kill_after_the_end_takes_what_is_left_of_the_session(box: Sandbox) -> None:
    """A finished command's background processes can still be killed by it."""
    execution = await box.exec(["sh", "-c", "sleep 1111 >/dev/null 2>&1 & exit 0"])
    assert (await execution.wait()).exit_code == 0
    assert await count(box, "1111") == 1
    await execution.kill()
    assert await count(box, "1111") == 0


async def test_a_signal_shows_in_the_exit_code(box: Sandbox) -> None:
    """A command that dies of a signal exits with 128 and its number."""
    output = await sh(box, "kill -TERM $$")
    assert (output.status.exit_code, output.status.reason) == (143, ExitReason.EXITED)


async def test_large_arguments_work_and_too_large_ones_are_told(box: Sandbox) -> None:
    """A megabyte of arguments passes; what the kernel refuses exits 126 and says why."""
    large = ["x" * 100_000] * 10
    output = await run(
        box, "sh", "-c", "n=0; for a; do n=$((n + ${#a})); done; echo $n", "sh", *large
    )
    assert output.stdout == b"1000000\n"
    refused = await run(box, "echo", "x" * 3_000_000)
    assert refused.status.exit_code == 126
    assert b"too long" in refused.stderr


async def test_a_nul_in_an_argument_is_told(box: Sandbox) -> None:
    """What no program can be given exits 126, and the sandbox lives."""
    output = await run(box, "echo", "a\0b")
    assert output.status.exit_code == 126
    assert await text(box, "echo alive") == "alive"


async def test_names_that_no_program_has_are_told(box: Sandbox) -> None:
    """Empty names and ones that no file can have exit 127 or 126; an empty command is a mistake."""
    for name in ("", "a\ud800b", "x" * 5000, "a\0b"):
        assert (await run(box, name)).status.exit_code in {126, 127}
    with pytest.raises(ValueError, match="needs the name"):
        await box.exec([])
    assert await text(box, "echo alive") == "alive"


async def test_a_command_may_steal_its_own_output(box: Sandbox) -> None:
    """What the sandbox reads from its own pipe is lost to the reader, who is not kept waiting."""
    code = (
        "import os, time; r = os.open('/proc/self/fd/1', os.O_RDONLY | os.O_NONBLOCK)\n"
        "os.write(1, b'x' * 60000)\n"
        "if not os.fork():\n"
        " while os.getppid() != 1: time.sleep(0.01)\n"
        " time.sleep(0.2); os.read(r, 60000); open('stolen', 'w'); time.sleep(1000)"
    )
    execution = await box.exec(["python3", "-c", code])
    await text(box, "while [ ! -e stolen ]; do sleep 0.01; done")
    async with asyncio.timeout(60):
        assert (await capture(execution)).stdout == b""


@pytest.mark.every_provider
async def test_many_commands_run_side_by_side(box: Sandbox) -> None:
    """Each gets its own output, however many run."""
    outputs = await asyncio.gather(
        *(
            run(box, "sh", "-c", "head -c 100000 /dev/zero; echo $1", "sh", str(n))
            for n in range(20)
        )
    )
    assert [output.stdout[100_000:] for output in outputs] == [f"{n}\n".encode() for n in range(20)]


async def test_a_cancelled_reader_leaves_the_sandbox_whole(box: Sandbox) -> None:
    """A task that is cancelled while it reads output can kill the command, and others go on."""
    execution = await box.exec(["sleep", "1111"])
    task = asyncio.create_task(capture(execution))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await execution.kill()
    assert await count(box, "1111") == 0


@pytest.mark.every_provider
async def test_commands_have_the_tools_of_the_trade(box: Sandbox) -> None:
    """Git, a shell, Python, its venv and pytest work in the workspace, and /dev/stderr opens."""
    script = """
    set -e
    git init -q && echo a >a && git add a && git commit -qm first && git log --oneline | wc -l
    printf 'def test_it():\\n    assert True\\n' >test_it.py
    python3 -m pytest -q -p no:cacheprovider >report && tail -n 1 report | cut -d' ' -f1-2
    pytest --version >/dev/stderr
    """
    output = await sh(box, script)
    assert output.status.exit_code == 0, output
    assert output.stdout.decode().split("\n")[:2] == ["1", "1 passed"]
    assert b"pytest" in output.stderr


@pytest.mark.every_provider
async def test_a_virtual_environment_does_not_see_the_lent_packages(box: Sandbox) -> None:
    """A repository's own environment has what the repository put there, and nothing lent."""
    await text(box, "python3 -m venv --without-pip .venv")
    output = await sh(box, ".venv/bin/python -c 'import pytest'")
    assert b"ModuleNotFoundError" in output.stderr
