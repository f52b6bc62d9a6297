"""What the server says of itself: the API documentation and the sample stream."""

import asyncio
import json
import re
from typing import Any

import pytest

from patchkiln.api.sample import sample_batches
from patchkiln.domain.event import EventType
from patchkiln.pipeline.steps import STEPS
from tests.support.sse import RawStream, frames
from tests.support.stage import StagedServer

PATHS = {
    ("post", "/code"),
    ("post", "/runs"),
    ("get", "/runs"),
    ("get", "/runs/{run_id}"),
    ("delete", "/runs/{run_id}"),
    ("get", "/runs/{run_id}/events"),
    ("get", "/runs/{run_id}/patch"),
    ("post", "/runs/{run_id}/cancel"),
    ("post", "/runs/{run_id}/retry"),
    ("post", "/runs/{run_id}/messages"),
    ("post", "/runs/{run_id}/approve"),
    ("post", "/runs/{run_id}/reject"),
    ("post", "/runs/{run_id}/deliver"),
    ("get", "/health"),
    ("get", "/ready"),
    ("get", "/metrics"),
    ("get", "/stream-dummy"),
}


async def document_of(server: StagedServer) -> dict[str, Any]:
    """Return the OpenAPI document."""
    document: dict[str, Any] = (await server.client.get("/openapi.json")).json()
    return document


def references(node: object) -> list[str]:
    """Return every ``$ref`` of a document."""
    return re.findall(r'"\$ref": "([^"]+)"', json.dumps(node))


async def test_every_call_is_documented(server: StagedServer) -> None:
    """Each has a summary, a tag, an id of its own and answers that are described."""
    document = await document_of(server)
    calls = {
        (method, path): call
        for path, methods in document["paths"].items()
        for method, call in methods.items()
    }
    assert set(calls) == PATHS
    assert len({call["operationId"] for call in calls.values()}) == len(calls)
    for call in calls.values():
        assert call["summary"]
        assert call["description"]
        assert call["tags"]
        assert all(answer["description"] for answer in call["responses"].values())


async def test_the_document_is_whole(server: StagedServer) -> None:
    """Every reference leads somewhere, every path parameter is declared."""
    document = await document_of(server)
    assert document["openapi"].startswith("3.1")
    assert references(document)
    for reference in references(document):
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
    for path, methods in document["paths"].items():
        for call in methods.values():
            declared = {p["name"] for p in call.get("parameters", []) if p["in"] == "path"}
            assert declared == ({"run_id"} if "{run_id}" in path else set())


async def test_streams_and_errors_are_documented_in_their_own_forms(server: StagedServer) -> None:
    """A stream is `text/event-stream` with an example, an error `application/problem+json`."""
    document = await document_of(server)
    answers = document["paths"]["/code"]["post"]["responses"]
    assert set(answers) == {"200", "401", "409", "413", "422", "429"}
    example = answers["200"]["content"]["text/event-stream"]["example"]
    assert [frame["seq"] for frame in frames(example)] == [17, 18]
    assert {"X-Run-Id", "Location"} <= set(answers["200"]["headers"])
    assert list(answers["429"]["content"]) == ["application/problem+json"]
    assert list(answers["422"]["content"]) == ["application/json"]
    events = document["paths"]["/runs/{run_id}/events"]["get"]["responses"]
    assert set(events["200"]["content"]) == {"text/event-stream", "application/json"}
    assert "204" in events
    assert (
        "text/x-diff"
        in document["paths"]["/runs/{run_id}/patch"]["get"]["responses"]["200"]["content"]
    )


async def test_fields_of_requests_are_camel_case_and_of_answers_snake_case(
    server: StagedServer,
) -> None:
    """As the first specification's `repoUrl` and its summary are."""
    schemas = (await document_of(server))["components"]["schemas"]
    assert {"repoUrl", "prompt", "requireApproval"} <= set(schemas["CodeRequest"]["properties"])
    assert schemas["CodeRequest"]["required"] == ["repoUrl", "prompt"]
    assert {"repo_url", "files_modified", "last_seq"} <= set(schemas["RunAnswer"]["properties"])


async def test_the_document_says_how_keys_are_sent(server: StagedServer) -> None:
    """A bearer token for runs, none for the server's own calls, and no key in a URL."""
    document = await document_of(server)
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert document["paths"]["/code"]["post"]["security"]
    assert "security" not in document["paths"]["/health"]["get"]
    assert "EventSource" in document["info"]["description"]
    assert "key in a URL is not taken" in document["info"]["description"]


async def test_the_pages_of_the_documentation_are_served(server: StagedServer) -> None:
    """`/docs` shows the document."""
    answer = await server.client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "/openapi.json" in answer.text


async def test_the_sample_is_a_complete_run(server: StagedServer) -> None:
    """Every step, every type, gapless ids, rising progress, one summary as the last frame."""
    answer = await server.client.get("/stream-dummy")
    told = frames(answer.text)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert list(dict.fromkeys(frame["step"] for frame in told)) == [step.name for step in STEPS]
    assert {frame["type"] for frame in told} == {kind.value for kind in EventType}
    assert [frame["seq"] for frame in told] == list(range(1, len(told) + 1))
    ids = [line for line in answer.text.split("\n") if line.startswith("id: ")]
    assert ids == [f"id: {frame['seq']}" for frame in told]
    progress = [frame["progress"] for frame in told]
    assert progress == sorted(progress)
    assert (progress[0] <= 10, progress[-1]) == (True, 100)
    completed = {
        frame["step"]: frame["progress"] for frame in told if frame["event"] == "step.completed"
    }
    assert completed["clone"] == 50
    assert [frame["type"] for frame in told].index("summary") == len(told) - 1
    summary = told[-1]["summary"]
    assert {"repository", "prompt", "files_modified", "sandbox_id", "duration_ms"} <= set(summary)
    assert len({frame["run_id"] for frame in told}) == 1


async def test_the_sample_is_paced_as_a_run_is() -> None:
    """A client's progress can be watched: what comes next takes its time."""
    batches = sample_batches(pause_s=3600)
    assert [event.seq for event in await anext(batches)] == [1]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(batches)


async def test_the_sample_comes_piece_by_piece_and_leaves_nothing(server: StagedServer) -> None:
    """Each frame is one write, two readers have samples of their own, and no run is created."""
    async with (
        RawStream(server.url, "/stream-dummy") as first,
        RawStream(server.url, "/stream-dummy") as second,
    ):
        pieces = await asyncio.gather(first.chunks(3), second.chunks(3))
        assert all(piece.count(b"data: ") == 1 for read in pieces for piece in read)
        ids = {json.loads(read[0].split(b"data: ")[1])["run_id"] for read in pieces}
        assert len(ids) == 2
    assert (await server.client.get("/runs")).json()["runs"] == []
