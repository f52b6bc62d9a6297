"""`POST /code`: the live stream of the whole run."""

import json
import re

import pytest

from patchkiln.domain.run import Outcome
from patchkiln.errors import ModelError
from tests.support.sse import RawStream, frames
from tests.support.stage import BODY, End, StagedServer, note, staged_server

FRAME = re.compile(rb"id: (\d+)\ndata: (\{[^\n]*\})\n\n")
STEPS = {"init", "validation", "clone", "analysis", "planning", "implementation", "complete"}
TYPES = {"info", "success", "warning", "error", "summary"}


def post_code(server: StagedServer) -> RawStream:
    """Return a request whose answer can be read as it comes."""
    headers = {"content-type": "application/json"}
    body = json.dumps(BODY).encode()
    return RawStream(server.url, "/code", method="POST", headers=headers, body=body)


def run_id_of(stream: RawStream) -> str:
    """Return the id that the head of the response names."""
    return stream.headers["x-run-id"]


async def test_the_head_comes_before_the_run_does_anything(server: StagedServer) -> None:
    """A client has the run's id and place while the run still waits for its first cue."""
    async with post_code(server) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].split(";")[0] == "text/event-stream"
        assert stream.headers["cache-control"] == "no-store"
        assert stream.headers["x-accel-buffering"] == "no"
        assert stream.headers["location"] == f"/runs/{run_id_of(stream)}"
        assert "idempotent-replay" not in stream.headers
        assert b'"event":"run.created"' in await stream.chunk()


async def test_each_frame_is_one_write_of_id_data_and_a_blank_line(server: StagedServer) -> None:
    """The first clients parse each piece that they read, so that a frame must be one piece."""
    async with post_code(server) as stream:
        await stream.until("step.started")
        server.stage.cue(run_id_of(stream), *(note(f"Message {n}") for n in range(20)), End())
        seqs: list[int] = []
        while chunk := await stream.chunk():
            found = FRAME.fullmatch(chunk)
            assert found, chunk
            seqs.append(int(found[1]))
            assert json.loads(found[2])["seq"] == seqs[-1]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


async def test_the_frames_are_what_the_contract_says(server: StagedServer) -> None:
    """Types, steps, progress, timestamps and seq of a whole run, and one summary at its end."""
    server.stage.script(note("Halfway", progress=60), note("Back", progress=20), End())
    answer = await server.client.post("/code", json=BODY)
    run_id = answer.headers["x-run-id"]
    told = frames(answer.text)
    assert [frame["seq"] for frame in told] == list(range(1, len(told) + 1))
    assert {frame["run_id"] for frame in told} == {run_id}
    assert {frame["type"] for frame in told} <= TYPES
    assert {frame["step"] for frame in told} <= STEPS
    assert all(isinstance(frame["message"], str) and frame["message"] for frame in told)
    assert all(re.fullmatch(r"[a-z_]+\.[a-z_]+", frame["event"]) for frame in told)
    assert all(isinstance(frame["data"], dict) for frame in told)
    progress = [frame["progress"] for frame in told]
    assert progress == sorted(progress)
    assert (progress[0], progress[-1]) == (0, 100)
    assert [frame["type"] for frame in told].count("summary") == 1
    summary = told[-1]["summary"]
    assert summary["repository"] == "name"
    assert summary["prompt"] == BODY["prompt"]
    assert (summary["files_modified"], summary["outcome"]) == (1, "changed")


async def test_text_of_any_script_stays_on_one_line(server: StagedServer) -> None:
    """Line breaks inside a message never break a frame, on whatever reader."""
    text = "one\ntwo\r\nthree\u2028four\u0085 data: {} \N{SNOWMAN} \U0001f600"
    server.stage.script(note(text), End())
    answer = await server.client.post("/code", json=BODY)
    assert [frame["message"] for frame in frames(answer.text)].count(text) == 1
    assert FRAME.sub(b"", answer.content) == b""


async def test_a_failure_is_told_by_an_error_frame_and_then_the_summary(
    server: StagedServer,
) -> None:
    """What goes wrong after the run exists is told in the stream, never by the status."""
    server.stage.script(End(error=ModelError("The model answered nothing.")))
    answer = await server.client.post("/code", json=BODY)
    *_, error, summary = frames(answer.text)
    assert answer.status_code == 200
    assert error["type"] == "error"
    assert error["data"]["code"] == "model_error"
    assert error["data"]["retryable"] is True
    assert error["data"]["remedy"]
    assert summary["summary"]["outcome"] == "failed"


async def test_a_client_that_leaves_does_not_stop_the_run(server: StagedServer) -> None:
    """The run belongs to the server; the same stream can be had again."""
    async with post_code(server) as stream:
        run_id = run_id_of(stream)
        before = await stream.until("step.started")
    server.stage.cue(run_id, note("Nobody listens"), End())
    await server.finished(run_id)
    again = await server.client.get(f"/runs/{run_id}/events")
    assert again.content.startswith(before)
    assert frames(again.text)[-1]["summary"]["outcome"] == "changed"


async def test_a_silent_stream_carries_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies keep a stream open that says something; clients pass comments over."""
    async with (
        staged_server(monkeypatch, heartbeat_s=0.05) as server,
        post_code(server) as stream,
    ):
        await stream.until("step.started")
        assert await stream.chunks(2) == [b": ping\n\n", b": ping\n\n"]
        server.stage.cue(run_id_of(stream), End())
        assert b'"summary"' in await stream.rest()


async def test_a_server_that_stops_ends_the_stream_without_a_summary(
    server: StagedServer,
) -> None:
    """A client sees a clean end, knows that it was not the run's, and comes back."""
    async with post_code(server) as stream:
        await stream.until("step.started")
        server.stage.engine.drain()
        assert b'"summary"' not in await stream.rest()
        run_id = run_id_of(stream)
    assert (await server.client.get(f"/runs/{run_id}")).json()["status"] == "running"


async def test_the_same_key_and_body_stream_the_same_run_from_its_start(
    server: StagedServer,
) -> None:
    """A client that lost the answer asks again and misses nothing; nothing runs twice."""
    key = {"Idempotency-Key": "key 1"}
    server.stage.script(End())
    first = await server.client.post("/code", json=BODY, headers=key)
    same = {"repo_url": BODY["repoUrl"], "prompt": BODY["prompt"], "candidates": 1}
    second = await server.client.post("/code", json=same, headers=key)
    assert second.headers["idempotent-replay"] == "true"
    assert second.headers["x-run-id"] == first.headers["x-run-id"]
    assert second.content == first.content
    assert len((await server.client.get("/runs")).json()["runs"]) == 1


async def test_the_fields_of_the_request_reach_the_run(server: StagedServer) -> None:
    """What is asked for is what the run shows; limits can only be lowered."""
    fields: dict[str, object] = {
        "ref": "release/1.2",
        "model": "openai:gpt-x",
        "agent": "recipes",
        "sandbox": "local",
        "checks": ["make test", "make lint"],
        "limits": {"usd": 1, "turns": 10_000, "minutes": 0.5},
        "metadata": {"ticket": "A-1"},
        "clone": {"depth": 0},
    }
    run_id = await server.play(**fields)
    run = await server.stage.store.get_run(run_id)
    assert run.request.checks == ("make test", "make lint")
    assert run.request.clone_depth == 0
    shown = (await server.client.get(f"/runs/{run_id}")).json()
    assert {name: shown[name] for name in ("ref", "model", "agent", "sandbox", "metadata")} == {
        name: fields[name] for name in ("ref", "model", "agent", "sandbox", "metadata")
    }
    assert shown["limits"] == {"usd": 1.0, "tokens": 2_000_000, "turns": 80, "minutes": 0.5}


@pytest.mark.parametrize(
    ("fields", "agent"),
    [
        ({}, "recipes"),
        ({"model": "openai:gpt-x"}, "builtin"),
        ({"model": "openai:gpt-x", "agent": "recipes"}, "recipes"),
        ({"agent": "builtin"}, "builtin"),
    ],
)
async def test_a_request_with_a_model_means_the_agent_that_uses_it(
    server: StagedServer, fields: dict[str, str], agent: str
) -> None:
    """Without a name, the server's default serves, or `builtin` where a model is asked for."""
    run_id = await server.play(**fields)
    assert (await server.client.get(f"/runs/{run_id}")).json()["agent"] == agent


@pytest.mark.parametrize(
    ("checks", "kept"), [("auto", None), ("off", ()), ([], ()), (["true"], ("true",))]
)
async def test_checks_are_automatic_off_or_the_given_commands(
    server: StagedServer, checks: object, kept: tuple[str, ...] | None
) -> None:
    """Each form of the field reaches the run."""
    run_id = await server.play(checks=checks)
    assert (await server.stage.store.get_run(run_id)).request.checks == kept


@pytest.mark.parametrize("outcome", [Outcome.NO_CHANGE, Outcome.REFUSED])
async def test_every_outcome_ends_in_one_summary(server: StagedServer, outcome: Outcome) -> None:
    """An end without a change is told like any other."""
    server.stage.script(End(outcome=outcome, diff=None))
    told = frames((await server.client.post("/code", json=BODY)).text)
    assert [frame["summary"]["outcome"] for frame in told if "summary" in frame] == [outcome.value]
