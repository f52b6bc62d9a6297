"""The commands that speak to a server, against a real one whose runs follow the test's script."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest

from patchkiln.domain.run import Outcome
from patchkiln.errors import RefNotFound
from tests.support.command_line import command, environment
from tests.support.stage import BODY, DIFF, End, StagedServer, note, staged_server

KEY = "k-3141592653"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How a command ended."""

    code: int
    out: bytes
    told: str


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[StagedServer]:
    """Serve a stage."""
    async with staged_server(monkeypatch) as staged:
        yield staged


async def start(server: StagedServer, *arguments: str, **extra: str) -> asyncio.subprocess.Process:
    """Start a command that finds the server by its environment."""
    env = {**environment(Path(os.devnull)), "PATCHKILN_SERVER": server.url, **extra}
    return await asyncio.create_subprocess_exec(
        *command(*arguments),
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


async def run(server: StagedServer, *arguments: str, **extra: str) -> Done:
    """Run a command to its end."""
    return await end(await start(server, *arguments, **extra))


async def end(process: asyncio.subprocess.Process) -> Done:
    """Wait for a command."""
    async with asyncio.timeout(60):
        out, told = await process.communicate()
    assert process.returncode is not None
    return Done(code=process.returncode, out=out, told=told.decode())


async def until(process: asyncio.subprocess.Process, words: str) -> None:
    """Return when a command has said something on stderr."""
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while words not in (line := await process.stderr.readline()).decode():
            assert line, "it ended without saying so"


async def test_runs_are_listed(server: StagedServer) -> None:
    """Newest first, each with its state and its prompt; filters are passed on."""
    empty = await run(server, "runs")
    assert b"No runs yet" in empty.out
    first = await server.play()
    second = await server.start(prompt="Say goodbye\nto everyone")
    listed = (await run(server, "runs")).out.decode().splitlines()
    assert listed[0].split() == ["RUN", "AGE", "REPOSITORY", "STATE", "PROMPT"]
    assert listed[1].split()[0] == second
    assert "running" in listed[1]
    assert listed[2].split()[0] == first
    assert "changed" in listed[2]
    answer = json.loads((await run(server, "runs", "--json", "--status", "running")).out)
    assert [each["id"] for each in answer["runs"]] == [second]


async def test_a_run_is_shown(server: StagedServer) -> None:
    """What was asked, where it stands, and for a failure the fix."""
    done = await run(server, "show", await server.play())
    assert done.code == 0
    assert b"Say hello" in done.out
    assert b"no language model used" in done.out
    failed = await server.start()
    server.stage.cue(failed, End(error=RefNotFound("No such branch."), diff=None))
    await server.finished(failed)
    shown = (await run(server, "show", failed)).out.decode()
    assert "failed" in shown.splitlines()[0]
    assert RefNotFound.default_remedy in " ".join(shown.split())
    assert json.loads((await run(server, "show", failed, "--json")).out)["id"] == failed


async def test_an_unknown_run_is_exit_code_1(server: StagedServer) -> None:
    """The server's words and its remedy are passed on, whatever was typed as an id."""
    for words in (["show", "run_0"], ["logs", "run_0"], ["logs", "-f", "../x"], ["patch", "run_0"]):
        done = await run(server, *words)
        assert done.code == 1, words
        assert "fix: " in done.told
        assert "Traceback" not in done.told


async def test_logs_show_what_is_there(server: StagedServer) -> None:
    """Without ``-f`` the command ends with the last event, though the run goes on."""
    run_id = await server.start()
    server.stage.cue(run_id, note("Thinking"))
    async with asyncio.timeout(20):
        async for batch in server.stage.engine.follow(run_id):
            if "Thinking" in batch[-1].payload:
                break
    assert "Thinking" in (await run(server, "logs", run_id)).told
    events = (await run(server, "logs", run_id, "--json", "--after", "2")).out.splitlines()
    assert json.loads(events[0])["seq"] == 3


async def test_logs_follow_to_the_end(server: StagedServer) -> None:
    """With ``-f`` what happens is shown as it happens, and the summary ends the command."""
    run_id = await server.start()
    process = await start(server, "logs", "-f", run_id)
    server.stage.cue(run_id, note("First"))
    await until(process, "First")
    server.stage.cue(run_id, note("Second"), End())
    done = await end(process)
    assert done.code == 0
    assert "Second" in done.told
    assert "✓ changed" in done.told


async def test_a_run_is_cancelled(server: StagedServer) -> None:
    """It ends as cancelled; to cancel it again is no error."""
    run_id = await server.start()
    done = await run(server, "cancel", run_id)
    assert (done.code, done.told) == (0, "")
    await server.finished(run_id)
    assert b"ended already: cancelled" in (await run(server, "cancel", run_id)).out


async def test_a_patch_comes_out_byte_for_byte(server: StagedServer, tmp_path: Path) -> None:
    """Bytes that are no UTF-8 included, to stdout or to a file."""
    run_id = await server.play()
    assert (await run(server, "patch", run_id)).out == DIFF
    out = tmp_path / "x.patch"
    assert (await run(server, "patch", run_id, "--output", str(out))).out == b""
    assert out.read_bytes() == DIFF


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (End(), 0),
        (End(outcome=Outcome.REFUSED, diff=None), 1),
        (End(outcome=Outcome.BUDGET_EXHAUSTED), 3),
    ],
)
async def test_a_run_on_a_server_looks_like_one_here(
    server: StagedServer, last: End, code: int
) -> None:
    """Progress on stderr, the patch on stdout, the outcome as the exit code."""
    server.stage.script(note("Working"), last)
    url = server.url
    done = await run(server, "run", "--server", url, BODY["repoUrl"], BODY["prompt"])
    assert done.code == code, done.told
    assert "Working" in done.told
    assert done.out == (last.diff or b"")


async def test_options_reach_the_server(server: StagedServer) -> None:
    """Ref, agent and checks are sent as they were given."""
    server.stage.script(End())
    options = ["--ref", "v1", "--agent", "builtin", "--checks", "make test", "--checks", "tox"]
    await run(server, "run", "--server", server.url, *options, BODY["repoUrl"], "Say hello")
    request = (await server.stage.store.list_runs()).runs[0].request
    assert (request.ref, request.agent, request.checks) == ("v1", "builtin", ("make test", "tox"))


async def test_ctrl_c_cancels_the_run_on_the_server(server: StagedServer) -> None:
    """The run there ends as cancelled, and the command shows its end with 130."""
    server.stage.script(note("Working"))
    process = await start(server, "run", "--server", server.url, BODY["repoUrl"], "Say hello")
    await until(process, "Working")
    process.send_signal(signal.SIGINT)
    done = await end(process)
    assert done.code == 130, done.told
    assert "cancelled" in done.told.splitlines()[-1]
    assert (await server.stage.store.list_runs()).runs[0].outcome is Outcome.CANCELLED


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("https://127.0.0.1/a/b", "loopback address"),
        ("https://example.org", "names a host but no repository"),
    ],
)
async def test_a_request_that_the_server_refuses_is_wrong_usage(
    server: StagedServer, url: str, sentence: str
) -> None:
    """The policy is the server's; its words are passed on, with one remedy for who sent it."""
    done = await run(server, "run", "--server", server.url, url, "Say hello")
    assert done.code == 2
    assert sentence in done.told
    assert done.told.count("Correct the named field") == 1
    assert "server's log" not in done.told


async def test_keys_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """``PATCHKILN_KEY`` opens a server that wants a key; without it the refusal says what to do."""
    async with staged_server(monkeypatch, api_keys={"ci": KEY}) as server:
        closed = await run(server, "runs")
        assert closed.code == 1
        assert "API key" in closed.told
        assert (await run(server, "runs", PATCHKILN_KEY=KEY)).code == 0


async def test_no_server_at_all_is_exit_code_1(server: StagedServer) -> None:
    """The URL that was asked and how to start a server are told."""
    done = await run(server, "runs", "--server", "http://127.0.0.1:9")
    assert done.code == 1
    assert "http://127.0.0.1:9" in done.told
    assert "patchkiln serve" in done.told
    assert sys.executable not in done.told
