"""The network of a run: what its request names, and nothing else; told as it happens."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

from patchkiln.domain.network import parse_allowed_address
from patchkiln.domain.run import Outcome, RunRequest
from patchkiln.ports.agent import AgentResult, AgentUpdate
from patchkiln.ports.execution import capture
from patchkiln.ports.sandbox import Sandbox
from tests.support.engine import engine_over, events_named, follow
from tests.support.repositories import make_repository
from tests.support.scripted_agent import DONE, ScriptedAgent


async def _answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nopen")
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def test_a_run_reaches_what_its_request_names(tmp_path: Path) -> None:
    """The named host answers; another is refused, and told live by host and rule."""
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    got: list[bytes] = []

    async def work(sandbox: Sandbox) -> AsyncGenerator[AgentUpdate | AgentResult]:
        for url in (f"http://127.0.0.1:{port}/", "http://evil.example/"):
            command = ["curl", "--silent", "--max-time", "20", url]
            got.append((await capture(await sandbox.exec(command))).stdout)
        await sandbox.write("answer.txt", got[0])
        yield DONE

    repository = make_repository(tmp_path / "repository", {"README": "a\n"})
    request = RunRequest(
        repo_url=f"file://{repository}",
        repository="repository",
        prompt="Fetch",
        agent="scripted",
        network=(f"127.0.0.1:{port}",),
        checks=(),
    )
    async with (
        server,
        engine_over(
            tmp_path / "data",
            ScriptedAgent(work),
            allow=(f"file://{repository}",),
            network_allow=(parse_allowed_address(f"127.0.0.1:{port}"),),
        ) as engine,
    ):
        run, _ = await engine.submit(request)
        events = await follow(engine, run)
        finished = await engine.store.get_run(run.id)
    assert got[0] == b"open"
    assert finished.outcome is Outcome.CHANGED
    (refused,) = events_named(events, "network.refused")
    assert refused["data"]["host"] == "evil.example"
    assert refused["data"]["rule"] in refused["message"]
    assert (refused["type"], refused["step"]) == ("warning", "implementation")


async def test_without_a_list_a_run_reaches_nothing(tmp_path: Path) -> None:
    """The operator's addresses open nothing by themselves."""
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    codes: list[int] = []

    async def work(sandbox: Sandbox) -> AsyncGenerator[AgentUpdate | AgentResult]:
        command = ["curl", "--silent", "--max-time", "20", f"http://127.0.0.1:{port}/"]
        codes.append((await capture(await sandbox.exec(command))).status.exit_code)
        yield DONE

    repository = make_repository(tmp_path / "repository", {"README": "a\n"})
    request = RunRequest(
        repo_url=f"file://{repository}",
        repository="repository",
        prompt="Fetch",
        agent="scripted",
        checks=(),
    )
    async with (
        server,
        engine_over(
            tmp_path / "data",
            ScriptedAgent(work),
            allow=(f"file://{repository}",),
            network_allow=(parse_allowed_address("127.0.0.1"),),
        ) as engine,
    ):
        run, _ = await engine.submit(request)
        await follow(engine, run)
    assert codes == [7]  # curl: connection refused
