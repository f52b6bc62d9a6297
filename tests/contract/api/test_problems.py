"""Every error beside 422: a problem body, or the same status as a stream of one frame."""

import logging

import pytest

from patchkiln.errors import PatchError, SandboxUnavailable, StoreError
from patchkiln.ports.sandbox import Isolation, IsolationLevel
from tests.support.sse import RawStream, frames
from tests.support.stage import BODY, StagedServer, note

SSE = {"Accept": "text/event-stream"}
MEMBERS = {"type", "title", "status", "detail", "code", "retryable", "remedy"}
CASES = [
    ("GET", "/nowhere", 404, "not_found"),
    ("GET", "/runs/run_none", 404, "not_found"),
    ("GET", "/runs/run_none/events", 404, "not_found"),
    ("GET", "/runs/run_none/patch", 404, "not_found"),
    ("POST", "/runs/run_none/cancel", 404, "not_found"),
    ("DELETE", "/runs/run_none", 404, "not_found"),
    ("POST", "/runs/run_none/nothing", 404, "not_found"),
    ("GET", "/code", 405, "method_not_allowed"),
    ("POST", "/runs/run_none/messages", 501, "not_implemented"),
    ("POST", "/runs/run_none/approve", 501, "not_implemented"),
    ("POST", "/runs/run_none/reject", 501, "not_implemented"),
    ("POST", "/runs/run_none/deliver", 501, "not_implemented"),
]


@pytest.mark.parametrize(("method", "path", "status", "code"), CASES)
async def test_an_error_is_a_problem_that_says_what_to_do(
    server: StagedServer, method: str, path: str, status: int, code: str
) -> None:
    """Status, code and a remedy, in the form of RFC 9457."""
    answer = await server.client.request(method, path)
    body = answer.json()
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(body) == MEMBERS
    assert (body["status"], body["code"], body["retryable"]) == (status, code, False)
    assert body["remedy"].endswith(".")


@pytest.mark.parametrize(("method", "path", "status", "code"), CASES)
async def test_a_client_of_streams_gets_the_same_status_as_one_frame(
    server: StagedServer, method: str, path: str, status: int, code: str
) -> None:
    """Who looks at `data: ` lines alone is not left with silence."""
    answer = await server.client.request(method, path, headers=SSE)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/event-stream")
    (frame,) = frames(answer.text)
    assert (frame["type"], frame["step"], frame["progress"]) == ("error", "validation", 0)
    assert frame["data"]["code"] == code
    assert frame["data"]["remedy"]


async def test_a_wrong_method_names_the_right_ones(server: StagedServer) -> None:
    """405 carries Allow."""
    assert (await server.client.get("/code")).headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("error", "status", "code", "retryable"),
    [
        (StoreError("The database is full."), 503, "store_error", True),
        (SandboxUnavailable("No namespaces."), 503, "sandbox_unavailable", False),
        (PatchError("Too large."), 500, "patch_failed", False),
    ],
)
async def test_our_own_errors_keep_code_and_remedy(
    server: StagedServer,
    monkeypatch: pytest.MonkeyPatch,
    error: StoreError,
    status: int,
    code: str,
    *,
    retryable: bool,
) -> None:
    """A failing part of the server is told as what it is."""

    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(server.stage.store, "create_run", fail)
    for path in ("/code", "/runs"):
        answer = await server.client.post(path, json=BODY)
        assert answer.status_code == status
        body = answer.json()
        assert (body["code"], body["retryable"], body["detail"]) == (code, retryable, error.message)


async def test_an_error_that_nobody_foresaw_tells_nothing_of_itself(
    server: StagedServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """500 without a detail; the log has its kind and place, no text, path or trace of it."""

    async def crash(*_: object, **__: object) -> None:
        raise ZeroDivisionError("postgres://user:hunter2@db")

    monkeypatch.setattr(server.stage.store, "get_run", crash)
    headers = {"Origin": "https://app.example"}
    with caplog.at_level(logging.INFO):
        answer = await server.client.get("/runs/run_1", headers=headers)
        stream = await server.client.get("/runs/run_1", headers=SSE)
    assert (answer.status_code, stream.status_code) == (500, 500)
    assert answer.json()["code"] == "internal_error"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert frames(stream.text)[0]["data"]["code"] == "internal_error"
    for text in (answer.text, stream.text, caplog.text):
        assert "hunter2" not in text
        assert "Traceback" not in text
        assert "site-packages" not in text
    assert "ZeroDivisionError in GET /runs/run_1" in caplog.text
    assert "patchkiln.api.routes" in caplog.text


async def test_a_stream_that_breaks_is_seen_to_be_broken(
    server: StagedServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A client must not take a broken stream for the end of the run, and loses no event."""
    run_id = await server.start()
    async with RawStream(server.url, f"/runs/{run_id}/events") as stream:
        await stream.until("step.started")

    async def crash(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(server.stage.store, "events", crash)
    async with RawStream(server.url, f"/runs/{run_id}/events") as stream:
        assert stream.status == 200
        with pytest.raises(ValueError, match="invalid literal"):
            await stream.rest()
    assert "ZeroDivisionError in a stream" in caplog.text
    assert "a secret detail" not in caplog.text
    assert "Traceback" not in caplog.text


async def test_health_is_answered_whatever_the_state(server: StagedServer) -> None:
    """Alive is not the same as ready."""
    server.stage.sandboxes.result = Isolation(level=IsolationLevel.NONE, reason="No namespaces.")
    answer = await server.client.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


async def test_ready_shows_every_part(server: StagedServer) -> None:
    """Store, sandbox and agents, with the level that the self-test found."""
    answer = await server.client.get("/ready")
    assert answer.status_code == 200
    assert answer.json() == {
        "ready": True,
        "store": "ok",
        "sandbox": {"level": "L3", "reason": "every test passed", "remedy": "", "facts": {}},
        "agents": [],
    }


async def test_a_server_that_cannot_isolate_is_not_ready_and_says_the_fix(
    server: StagedServer,
) -> None:
    """503 as a problem, with the same details."""
    server.stage.sandboxes.result = Isolation(
        level=IsolationLevel.NONE,
        reason="No namespaces.",
        remedy="sysctl x=1",
        facts={"kernel": "Linux 4.4"},
    )
    answer = await server.client.get("/ready")
    body = answer.json()
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert (body["code"], body["detail"], body["remedy"]) == (
        "not_ready",
        "No namespaces.",
        "sysctl x=1",
    )
    assert body["ready"] is False
    assert body["sandbox"] == {
        "level": "none",
        "reason": "No namespaces.",
        "remedy": "sysctl x=1",
        "facts": {"kernel": "Linux 4.4"},
    }


async def test_a_server_without_its_store_is_not_ready(
    server: StagedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 names the store."""

    async def fail() -> None:
        raise StoreError("The database is locked.")

    monkeypatch.setattr(server.stage.store, "check", fail)
    body = (await server.client.get("/ready")).json()
    assert (body["status"], body["store"]) == (503, "The database is locked.")
    assert body["detail"] == "The database is locked."


async def test_a_run_that_is_deleted_under_its_reader_ends_the_stream(
    server: StagedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream breaks off; asking again gives 404."""
    run_id = await server.play(*(note(f"Message {n}") for n in range(3)))
    await server.client.delete(f"/runs/{run_id}")
    assert (await server.client.get(f"/runs/{run_id}/events")).status_code == 404
