"""The clients that we hand out, each run as its user would run it."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from patchkiln.domain.run import Outcome
from patchkiln.errors import ModelError
from tests.support.stage import DIFF, End, StagedServer, note, staged_server

ROOT = Path(__file__).parents[3]
CLIENTS: Mapping[str, list[str]] = {
    "test_client.py": [sys.executable, str(ROOT / "test_client.py")],
    "node_client.mjs": ["node", str(ROOT / "examples/clients/node_client.mjs")],
    "curl.sh": [str(ROOT / "examples/clients/curl.sh")],
}
# These come back when their connection breaks; the shell's client is too small for that.
LASTING = ["test_client.py", "node_client.mjs"]
REPO = "https://github.com/owner/name"
TIMEOUT_S = 60


@asynccontextmanager
async def client(
    name: str, url: str, *arguments: str, key: str = ""
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Start a client against a server; it is gone at the end."""
    process = await asyncio.create_subprocess_exec(
        *CLIENTS[name],
        *arguments,
        env={**os.environ, "PATCHKILN_SERVER": url, "PATCHKILN_KEY": key},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1 << 24,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def outcome(name: str, url: str, *arguments: str, key: str = "") -> tuple[int, str]:
    """Run a client to its end; return its exit code and all that it printed."""
    async with client(name, url, *arguments, key=key) as process:
        printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode(errors="replace")


async def printed_until(process: asyncio.subprocess.Process, text: str) -> str:
    """Return what a client printed, up to the line that holds a text."""
    assert process.stdout is not None
    printed = ""
    while text not in printed:
        line = await process.stdout.readline()
        assert line, f"the client ended before {text!r}: {printed}"
        printed += line.decode()
    return printed


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_client_shows_a_whole_run(server: StagedServer, name: str) -> None:
    """It starts the run that it was told, prints every message and ends with 0."""
    messages = [f"Message {number}: schöne Grüße" for number in range(5)]
    server.stage.script(*(note(message) for message in messages), End())
    code, printed = await outcome(name, server.url, REPO, 'Say "hello"\n$(or not)')
    (run,) = (await server.stage.store.list_runs()).runs
    assert code == 0, printed
    assert (run.request.repo_url, run.request.prompt) == (REPO, 'Say "hello"\n$(or not)')
    for text in ("Run created", *messages, "Processing completed", "changed"):
        assert text in printed


async def test_the_shell_client_prints_the_patch(server: StagedServer) -> None:
    """It ends with what `git apply` takes."""
    server.stage.script(End())
    _, printed = await outcome("curl.sh", server.url, REPO, "Say hello")
    assert printed.endswith(DIFF.decode(errors="replace"))


@pytest.mark.parametrize("name", LASTING)
async def test_a_client_shows_what_happens_when_it_happens(server: StagedServer, name: str) -> None:
    """A message is printed while the run still waits for its next cue."""
    async with client(name, server.url, REPO, "Say hello") as process:
        await printed_until(process, "Step implementation")
        (run,) = (await server.stage.store.list_runs()).runs
        server.stage.cue(run.id, note("First"))
        await printed_until(process, "First")
        server.stage.cue(run.id, note("Second"), End())
        await printed_until(process, "Second")
        assert await process.wait() == 0


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_client_reads_lines_that_come_in_many_pieces(
    server: StagedServer, name: str
) -> None:
    """No buffer's edge falls into a line or a character unnoticed."""
    messages = [f"begin {'ü€😀' * size} end" for size in (10_000, 30_000, 1, 60_000)]
    server.stage.script(*(note(message) for message in messages), End())
    code, printed = await outcome(name, server.url, REPO, "Say hello")
    assert code == 0, printed[-2000:]
    for message in messages:
        assert message in printed


@pytest.mark.parametrize("name", LASTING)
async def test_a_client_whose_connection_breaks_goes_on_after_its_last_frame(
    server: StagedServer, name: str
) -> None:
    """Nothing is shown twice, nothing is left out, and the end is the run's."""
    async with client(name, server.url, REPO, "Say hello") as process:
        before = await printed_until(process, "Step implementation")
        (run,) = (await server.stage.store.list_runs()).runs
        server.stage.engine.drain()
        server.stage.cue(run.id, *(note(f"Message {number}") for number in range(9)), End())
        assert process.stdout is not None
        printed = before + (await process.stdout.read()).decode()
        assert await process.wait() == 0
    for text in ("Run created", "Run started", *(f"Message {n}" for n in range(9))):
        assert printed.count(text) == 1


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (End(outcome=Outcome.NO_CHANGE, diff=b""), 0),
        (End(outcome=Outcome.REFUSED, diff=None), 1),
        (End(error=ModelError("The model answered nothing.")), 1),
    ],
)
async def test_the_exit_code_tells_how_the_run_ended(
    server: StagedServer, name: str, end: End, expected: int
) -> None:
    """0 for a change or none to make, 1 for all else."""
    server.stage.script(end)
    code, printed = await outcome(name, server.url, REPO, "Say hello")
    assert code == expected, printed
    assert end.error is None or end.error.remedy in printed


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_refused_request_is_shown_with_its_reason(server: StagedServer, name: str) -> None:
    """A client is never left with silence."""
    code, printed = await outcome(name, server.url, "http://10.0.0.1/x", "Say hello")
    assert code == 1
    assert "scheme 'http' is forbidden" in printed


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_client_sends_its_key(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """From the environment, so that it stands on no command line."""
    async with staged_server(monkeypatch, api_keys={"alice": "key-of-alice"}) as server:
        server.stage.script(End())
        assert (await outcome(name, server.url, REPO, "Hi", key="key-of-alice"))[0] == 0
        code, printed = await outcome(name, server.url, REPO, "Hi")
    assert code == 1
    assert "API key" in printed


@pytest.mark.parametrize("name", LASTING)
async def test_a_client_without_a_server_says_how_to_start_one(name: str) -> None:
    """One line that helps, no stack trace."""
    code, printed = await outcome(name, "http://127.0.0.1:9", REPO, "Say hello")
    assert code == 1
    assert "python run_server.py" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("name", LASTING)
async def test_a_message_does_not_steer_the_terminal(server: StagedServer, name: str) -> None:
    """Control characters of a hostile repository are not passed on."""
    server.stage.script(note("red \x1b[31m bell \x07"), End())
    _, printed = await outcome(name, server.url, REPO, "Say hello")
    assert "red  [31m bell" in printed
    assert "\x1b" not in printed


async def test_the_python_client_takes_the_server_on_its_command_line(
    server: StagedServer,
) -> None:
    """`--url` goes before the environment."""
    server.stage.script(End())
    url = f"{server.url}/"
    code, printed = await outcome("test_client.py", "http://127.0.0.1:9", REPO, "Hi", "--url", url)
    assert code == 0, printed


def test_the_python_client_is_no_test_of_pytest(request: pytest.FixtureRequest) -> None:
    """Its name is a promise of the first specification; collecting it would start runs."""
    assert request.config.getini("testpaths") == ["tests"]
