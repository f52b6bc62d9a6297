"""The runs as resources: create, list, look, follow, patch, cancel, forget."""

import asyncio
import logging
import time

import httpx
import pytest

from patchkiln.api import stream
from patchkiln.domain.event import StoredEvent
from patchkiln.domain.run import Outcome
from patchkiln.errors import ModelError
from tests.support.sse import RawStream, frames
from tests.support.stage import BODY, DIFF, End, StagedServer, note, staged_server

SSE = {"Accept": "text/event-stream"}
PAGE = {"Accept": "application/json"}
RUN_FIELDS = [
    "id",
    "status",
    "repository",
    "repo_url",
    "prompt",
    "ref",
    "agent",
    "model",
    "sandbox",
    "sandbox_id",
    "commit",
    "step",
    "progress",
    "outcome",
    "verdict",
    "files_modified",
    "usage",
    "limits",
    "error",
    "metadata",
    "caller",
    "parent_run_id",
    "created_at",
    "started_at",
    "finished_at",
    "last_seq",
    "links",
]


async def test_a_run_is_created_and_shown_as_json(server: StagedServer) -> None:
    """`POST /runs` answers 201 with the run and its place."""
    before_ms = time.time() * 1000
    answer = await server.client.post("/runs", json=BODY)
    run = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/runs/{run['id']}"
    assert list(run) == RUN_FIELDS
    assert (run["repository"], run["repo_url"]) == ("name", BODY["repoUrl"])
    assert (run["status"], run["outcome"], run["caller"]) == ("queued", None, "anonymous")
    assert before_ms - 1 <= run["created_at"] <= time.time() * 1000
    assert run["links"] == {
        "self": f"/runs/{run['id']}",
        "events": f"/runs/{run['id']}/events",
        "patch": f"/runs/{run['id']}/patch",
        "cancel": f"/runs/{run['id']}/cancel",
        "retry": f"/runs/{run['id']}/retry",
    }


async def test_a_run_shows_where_it_stands_and_how_it_ended(server: StagedServer) -> None:
    """The run follows its events."""
    run_id = await server.start()
    server.stage.cue(run_id, note("Halfway", progress=60))
    async with RawStream(server.url, f"/runs/{run_id}/events") as reader:
        await reader.until("Halfway")
    under_way = (await server.client.get(f"/runs/{run_id}")).json()
    assert (under_way["status"], under_way["step"]) == ("running", "implementation")
    assert (under_way["progress"], under_way["finished_at"]) == (60, None)
    server.stage.cue(run_id, End())
    await server.finished(run_id)
    ended = (await server.client.get(f"/runs/{run_id}")).json()
    assert (ended["status"], ended["outcome"], ended["files_modified"]) == (
        "finished",
        "changed",
        1,
    )
    assert ended["created_at"] <= ended["started_at"] <= ended["finished_at"]
    assert ended["progress"] == 100


async def test_the_same_key_answers_with_the_same_run(server: StagedServer) -> None:
    """The first answer is 201, a replay 200 and marked; another body is a conflict."""
    key = {"Idempotency-Key": "k"}
    first = await server.client.post("/runs", json=BODY, headers=key)
    second = await server.client.post("/runs", json=BODY, headers=key)
    other = await server.client.post("/runs", json={**BODY, "prompt": "Else"}, headers=key)
    assert (first.status_code, second.status_code, other.status_code) == (201, 200, 409)
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["idempotent-replay"] == "true"
    assert "idempotent-replay" not in first.headers
    assert second.headers["location"] == first.headers["location"]
    assert other.json()["code"] == "conflict"


async def test_runs_are_listed_newest_first_in_pages(server: StagedServer) -> None:
    """A cursor leads through all of them, once each."""
    ids = [await server.start() for _ in range(5)]
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = (await server.client.get("/runs", params=query)).json()
        assert len(page["runs"]) <= 2
        found += [run["id"] for run in page["runs"]]
        cursor = page["cursor"]
    assert sorted(found) == sorted(ids)
    created = {run_id: (await server.stage.store.get_run(run_id)).created_at_ms for run_id in ids}
    assert [created[run_id] for run_id in found] == sorted(created.values(), reverse=True)


async def test_runs_are_filtered_by_status_and_repository(server: StagedServer) -> None:
    """The filters name what the runs themselves show."""
    finished = await server.play(repoUrl="https://github.com/owner/other")
    running = await server.start()
    for query, ids in (
        ({"status": "finished"}, [finished]),
        ({"repository": "name"}, [running]),
        ({"repository": "name", "status": "finished"}, []),
    ):
        page = (await server.client.get("/runs", params=query)).json()
        assert [run["id"] for run in page["runs"]] == ids


@pytest.mark.parametrize(
    ("query", "name"),
    [("limit=0", "limit"), ("limit=201", "limit"), ("status=x", "status"), ("cursor=x", "cursor")],
)
async def test_a_wrong_filter_is_refused_by_name(
    server: StagedServer, query: str, name: str
) -> None:
    """The answer names the parameter."""
    answer = await server.client.get(f"/runs?{query}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", name]


async def test_a_replay_gives_every_event_once_and_ends(server: StagedServer) -> None:
    """A finished run streams from the start, or from after what the client has, byte for byte."""
    run_id = await server.play(*(note(f"Message {n}") for n in range(600)))
    whole = await server.client.get(f"/runs/{run_id}/events")
    last = (await server.client.get(f"/runs/{run_id}")).json()["last_seq"]
    assert whole.headers["content-type"].startswith("text/event-stream")
    assert [frame["seq"] for frame in frames(whole.text)] == list(range(1, last + 1))
    for after in (1, 7, last - 1):
        for again in (
            await server.client.get(f"/runs/{run_id}/events?after={after}"),
            await server.client.get(
                f"/runs/{run_id}/events", headers={"Last-Event-ID": str(after)}
            ),
        ):
            assert whole.content.endswith(again.content)
            assert frames(again.text)[0]["seq"] == after + 1


async def test_clients_that_come_back_all_the_time_lose_and_double_nothing(
    server: StagedServer,
) -> None:
    """Readers leave in the middle of a live run and go on where they were."""
    run_id = await server.start()

    async def read(pieces: int) -> list[int]:
        seen: list[int] = []
        while True:
            headers = {"Last-Event-ID": str(seen[-1])} if seen else {}
            async with RawStream(server.url, f"/runs/{run_id}/events", headers=headers) as reader:
                for _ in range(pieces):
                    told = frames((await reader.chunk()).decode())
                    seen += [frame["seq"] for frame in told]
                    if told[-1]["type"] == "summary":
                        return seen

    async def work() -> None:
        for number in range(300):
            server.stage.cue(run_id, note(f"Message {number}"))
            await asyncio.sleep(0)
        server.stage.cue(run_id, End())

    *readers, _ = await asyncio.gather(read(1), read(2), read(5), read(50), work())
    last = (await server.stage.store.get_run(run_id)).last_seq
    assert last > 300
    assert readers == [list(range(1, last + 1))] * 4


async def test_the_header_goes_before_the_query(server: StagedServer) -> None:
    """An EventSource repeats the URL of its first call, and sends what it has in the header."""
    run_id = await server.play()
    headers = {**SSE, "Last-Event-ID": "3"}
    answer = await server.client.get(f"/runs/{run_id}/events?after=1", headers=headers)
    assert frames(answer.text)[0]["seq"] == 4


@pytest.mark.parametrize("garbage", ["abc", "-1", "1.5", "²", "9" * 40, ""])
async def test_a_last_event_id_that_is_no_seq_is_passed_over(
    server: StagedServer, garbage: str
) -> None:
    """An error would end an EventSource for good; a replay costs it nothing."""
    run_id = await server.play()
    headers = httpx.Headers({**SSE, "Last-Event-ID": garbage}, encoding="latin-1")
    answer = await server.client.get(f"/runs/{run_id}/events?after=2", headers=headers)
    assert answer.status_code == 200
    assert frames(answer.text)[0]["seq"] == 3


@pytest.mark.parametrize("after", ["abc", "-1", "1.5", "9" * 40])
async def test_a_wrong_after_is_refused(server: StagedServer, after: str) -> None:
    """A person wrote the URL, and is told."""
    run_id = await server.play()
    answer = await server.client.get(f"/runs/{run_id}/events?after={after}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", "after"]


async def test_after_the_end_of_a_finished_run_there_is_204(server: StagedServer) -> None:
    """That tells an EventSource to stop; a run that goes on streams instead."""
    run_id = await server.play()
    last = (await server.client.get(f"/runs/{run_id}")).json()["last_seq"]
    for after in (last, last + 100):
        answer = await server.client.get(f"/runs/{run_id}/events?after={after}", headers=SSE)
        assert (answer.status_code, answer.content) == (204, b"")
    under_way = await server.start()
    async with RawStream(server.url, f"/runs/{under_way}/events?after=1000") as reader:
        assert reader.status == 200
        server.stage.cue(under_way, note("Later"), End())
        assert frames((await reader.rest()).decode())[-1]["type"] == "summary"


async def test_events_come_as_pages_of_json(server: StagedServer) -> None:
    """Pages hold the very frames of the stream, and say where to go on and when to stop."""
    run_id = await server.play(*(note(f"Message {n}") for n in range(8)))
    whole = frames((await server.client.get(f"/runs/{run_id}/events")).text)
    found: list[dict[str, object]] = []
    after: int | None = 0
    while after is not None:
        answer = await server.client.get(
            f"/runs/{run_id}/events", params={"after": after, "limit": 5}, headers=PAGE
        )
        assert answer.headers["content-type"] == "application/json"
        found += answer.json()["events"]
        after = answer.json()["next_after"]
    assert found == whole
    end = await server.client.get(f"/runs/{run_id}/events?after={len(whole)}", headers=PAGE)
    assert (end.status_code, end.json()) == (200, {"events": [], "gap": None, "next_after": None})


async def test_a_page_of_a_run_that_goes_on_says_where_to_ask_again(server: StagedServer) -> None:
    """A client that polls is never told an end that is none."""
    run_id = await server.start()
    async with RawStream(server.url, f"/runs/{run_id}/events") as reader:
        await reader.until("step.started")
    last = (await server.stage.store.get_run(run_id)).last_seq
    for after in (0, last):
        page = await server.client.get(f"/runs/{run_id}/events?after={after}", headers=PAGE)
        assert page.json()["next_after"] == last


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("application/json", "application/json"),
        ("application/json;q=0.9, text/event-stream", "text/event-stream"),
        ("text/event-stream;q=0, application/json", "application/json"),
        ("*/*", "text/event-stream"),
    ],
)
async def test_the_form_of_the_events_is_what_the_client_accepts(
    server: StagedServer, accept: str, form: str
) -> None:
    """A stream, unless JSON alone is asked for."""
    run_id = await server.play()
    answer = await server.client.get(f"/runs/{run_id}/events", headers={"Accept": accept})
    assert answer.headers["content-type"].split(";")[0] == form


async def test_events_that_are_no_longer_held_are_told(
    server: StagedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning frame names the first seq that is left; it has no id of its own."""
    run_id = await server.play()
    held = server.stage.store.events

    async def without_the_first(run_id: str, *, after: int, limit: int) -> list[StoredEvent]:
        return await held(run_id, after=max(after, 3), limit=limit)

    monkeypatch.setattr(server.stage.store, "events", without_the_first)
    answer = await server.client.get(f"/runs/{run_id}/events?after=1", headers=SSE)
    gap, first, *_ = frames(answer.text)
    assert (gap["type"], gap["event"]) == ("warning", "stream.gap")
    assert gap["data"] == {"after": 1, "first_seq": 4}
    assert "seq" not in gap
    assert answer.text.startswith("data: ")
    assert first["seq"] == 4
    assert answer.text.count("stream.gap") == 1


async def test_what_retention_has_removed_is_told_to_every_reader(server: StagedServer) -> None:
    """Stream and page name what is left, the summary; the patch is gone, and the run is not."""
    run_id = await server.play()
    run = await server.stage.store.get_run(run_id)
    while await server.stage.store.prune(ended_before_ms=10**15, limit=5):
        pass
    told = {"after": 2, "first_seq": run.last_seq}
    stream = await server.client.get(
        f"/runs/{run_id}/events", headers={**SSE, "Last-Event-ID": "2"}
    )
    gap, summary = frames(stream.text)
    assert (gap["event"], gap["data"]) == ("stream.gap", told)
    assert (summary["type"], summary["seq"]) == ("summary", run.last_seq)
    assert stream.text.count("id: ") == 1
    page = (await server.client.get(f"/runs/{run_id}/events?after=2", headers=PAGE)).json()
    assert (page["gap"], page["events"], page["next_after"]) == (told, [summary], None)
    patch = await server.client.get(f"/runs/{run_id}/patch")
    assert patch.status_code == 404
    assert "no longer held" in patch.json()["detail"]
    assert (await server.client.get(f"/runs/{run_id}")).json()["outcome"] == "changed"
    end = await server.client.get(f"/runs/{run_id}/events?after={run.last_seq}", headers=SSE)
    assert end.status_code == 204


async def test_a_patch_is_given_as_the_bytes_that_git_apply_takes(server: StagedServer) -> None:
    """The bytes are untouched, whatever their encoding, and no browser takes them for a page."""
    run_id = await server.play()
    answer = await server.client.get(f"/runs/{run_id}/patch")
    assert (answer.status_code, answer.content) == (200, DIFF)
    assert answer.headers["content-type"] == "text/x-diff"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (End(outcome=Outcome.NO_CHANGE, diff=b""), 200),
        (End(outcome=Outcome.NO_CHANGE, diff=None), 200),
        (End(outcome=Outcome.REFUSED, diff=None), 404),
    ],
)
async def test_a_run_without_a_change_has_an_empty_patch_or_none(
    server: StagedServer, end: End, status: int
) -> None:
    """Nothing changed is an empty patch; a run that never came so far has none."""
    run_id = await server.start()
    server.stage.cue(run_id, end)
    await server.finished(run_id)
    answer = await server.client.get(f"/runs/{run_id}/patch")
    assert answer.status_code == status
    assert status != 200 or answer.content == b""


async def test_a_patch_that_is_not_there_yet_is_a_conflict(server: StagedServer) -> None:
    """The answer says what to wait for."""
    run_id = await server.start()
    answer = await server.client.get(f"/runs/{run_id}/patch")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "patch.made" in answer.json()["remedy"]


async def test_cancel_ends_the_run_and_does_no_harm_twice(server: StagedServer) -> None:
    """202 each time; the run ends as cancelled."""
    run_id = await server.start()
    first = await server.client.post(f"/runs/{run_id}/cancel")
    second = await server.client.post(f"/runs/{run_id}/cancel")
    await server.finished(run_id)
    third = await server.client.post(f"/runs/{run_id}/cancel")
    assert [answer.status_code for answer in (first, second, third)] == [202, 202, 202]
    assert first.json()["id"] == run_id
    assert third.json()["outcome"] == "cancelled"


async def test_a_failed_run_is_retried_once(server: StagedServer) -> None:
    """201 with a run of its own that names its parent; asked again, 200 with the same run."""
    failed = await server.start(metadata={"ticket": "A-1"})
    server.stage.cue(failed, End(error=ModelError("The model answered nothing.")))
    await server.finished(failed)
    first = await server.client.post(f"/runs/{failed}/retry")
    retry = first.json()
    again = await server.client.post(f"/runs/{failed}/retry")
    server.stage.cue(retry["id"], End())
    await server.finished(retry["id"])
    after = await server.client.post(f"/runs/{failed}/retry")
    assert [answer.status_code for answer in (first, again, after)] == [201, 200, 200]
    assert again.headers["idempotent-replay"] == "true"
    assert first.headers["location"] == f"/runs/{retry['id']}"
    assert {again.json()["id"], after.json()["id"]} == {retry["id"]}
    assert (retry["parent_run_id"], retry["metadata"]) == (failed, {"ticket": "A-1"})
    assert retry["id"] != failed
    assert after.json()["outcome"] == "changed"
    assert (await server.client.get(f"/runs/{failed}")).json()["outcome"] == "failed"


async def test_what_did_not_fail_is_not_retried(server: StagedServer) -> None:
    """A run that goes on or has succeeded is a conflict that says what to do; none is a 404."""
    run_id = await server.start()
    going_on = await server.client.post(f"/runs/{run_id}/retry")
    server.stage.cue(run_id, End())
    await server.finished(run_id)
    succeeded = await server.client.post(f"/runs/{run_id}/retry")
    for answer in (going_on, succeeded):
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
        assert answer.json()["remedy"]
    assert (await server.client.post("/runs/run_no/retry")).status_code == 404


async def test_a_finished_run_is_forgotten_and_a_live_one_is_not(server: StagedServer) -> None:
    """After DELETE there is nothing left; a run that goes on is a conflict."""
    run_id = await server.start()
    refused = await server.client.delete(f"/runs/{run_id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    server.stage.cue(run_id, End())
    await server.finished(run_id)
    deleted = await server.client.delete(f"/runs/{run_id}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    for path in ("", "/events", "/patch"):
        assert (await server.client.get(f"/runs/{run_id}{path}")).status_code == 404


async def test_a_reader_that_left_holds_nothing(server: StagedServer) -> None:
    """The server notices a client that hangs up, though the run says nothing."""
    run_id = await server.start()
    tasks = len(asyncio.all_tasks())
    async with RawStream(server.url, f"/runs/{run_id}/events") as reader:
        await reader.until("step.started")
        assert len(asyncio.all_tasks()) > tasks
    async with asyncio.timeout(10):
        while len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110 - the server's tasks tell nobody
            await asyncio.sleep(0.01)


async def test_a_caller_with_too_many_runs_is_told_when_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """429 with Retry-After, as a problem, or as the one frame of a stream."""
    async with staged_server(monkeypatch, room=1) as server:
        await server.start()
        problem = await server.client.post("/runs", json=BODY)
        told = await server.client.post("/code", json=BODY, headers=SSE)
    for answer in (problem, told):
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 0
    assert problem.json()["code"] == "too_many_runs"
    assert problem.json()["retryable"] is True
    (frame,) = frames(told.text)
    assert (frame["type"], frame["data"]["code"]) == ("error", "too_many_runs")


async def test_one_stream_that_nobody_reads_stops_no_other(server: StagedServer) -> None:
    """A reader that takes nothing holds back itself alone."""
    run_id = await server.start()
    big = "x" * 60_000
    async with RawStream(server.url, f"/runs/{run_id}/events"):
        server.stage.cue(run_id, *(note(big) for _ in range(200)), End())
        await server.finished(run_id)
        last = (await server.stage.store.get_run(run_id)).last_seq
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as other:
            whole = await other.get(f"/runs/{run_id}/events")
    assert frames(whole.text)[-1]["seq"] == last


@pytest.mark.parametrize(("frames_left", "size"), [(300, 60_000), (1, 16_000_000)])
async def test_a_reader_that_takes_nothing_for_long_is_dropped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, frames_left: int, size: int
) -> None:
    """Whether frames or a heartbeat wait for it; it can come back where it was."""
    monkeypatch.setattr(stream, "SEND_TIMEOUT_S", 0.1)
    async with staged_server(monkeypatch, heartbeat_s=0.05) as server:
        run_id = await server.start()
        async with RawStream(server.url, f"/runs/{run_id}/events") as reader:
            await reader.until("step.started")
            server.stage.cue(run_id, *(note("x" * size) for _ in range(frames_left)))
            with caplog.at_level(logging.INFO, stream.__name__):
                async with asyncio.timeout(20):
                    while "dropped a reader" not in caplog.text:  # noqa: ASYNC110 - a log tells nobody
                        await asyncio.sleep(0.01)
            with pytest.raises((ValueError, asyncio.IncompleteReadError, ConnectionResetError)):
                await reader.rest()
