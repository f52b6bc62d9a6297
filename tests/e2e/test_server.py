"""The server as a process: how it starts, serves, dies and comes back."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.repositories import make_repository
from tests.support.server_process import (
    ROOT,
    ServerProcess,
    environment,
    frames,
    living_processes,
    process_tree,
    server_process,
)

SLOW = {"app.py": "try:\n    x = 1\nexcept:\n    x = 2\n", "test_app.py": "def test(): pass\n"}
HANG = ["sleep 300"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a small repository with a flaw that the recipes know."""
    return make_repository(tmp_path / "app", SLOW)


def body(repository: Path, **more: object) -> dict[str, object]:
    """Return the original request for the repository."""
    return {"repoUrl": f"file://{repository}", "prompt": "Add better error handling", **more}


def test_run_server_serves_a_whole_run_without_any_key(tmp_path: Path, repository: Path) -> None:
    """`python run_server.py` is all it takes; the stream is the run, the patch applies."""
    with server_process(tmp_path / "data", PATCHKILN_GIT_ALLOW=f"file://{repository}") as server:
        status, stream = server.post("/code", body(repository))
        events = frames(stream)
        _, patch = server.get(events[-1]["summary"]["patch"])
    assert status == 200
    assert events[-1]["summary"]["outcome"] == "changed"
    assert events[-1]["summary"]["verdict"] == "verified"
    subprocess.run(["git", "apply"], cwd=repository, input=patch, check=True, timeout=60)
    assert "except Exception:" in (repository / "app.py").read_text()


def test_runs_and_events_survive_a_restart(tmp_path: Path, repository: Path) -> None:
    """The next process serves the same runs, events and patch, byte for byte."""
    allow = f"file://{repository}"
    with server_process(tmp_path / "data", PATCHKILN_GIT_ALLOW=allow) as server:
        _, stream = server.post("/code", body(repository, checks="off"))
        run_id = frames(stream)[0]["run_id"]
        _, patch = server.get(f"/runs/{run_id}/patch")
    with server_process(tmp_path / "data", PATCHKILN_GIT_ALLOW=allow) as server:
        _, again = server.get(f"/runs/{run_id}/events", {"Accept": "text/event-stream"})
        assert frames(again) == frames(stream)
        assert server.get(f"/runs/{run_id}/patch")[1] == patch
        listed = json.loads(server.get("/runs")[1])["runs"]
    assert [run["id"] for run in listed] == [run_id]


def test_a_killed_server_leaves_nothing_and_the_next_goes_on(
    tmp_path: Path, repository: Path
) -> None:
    """After kill -9 no process is left; a client that comes back to the next server misses none."""
    data_dir = tmp_path / "data"
    allow = f"file://{repository}"
    server = ServerProcess(data_dir, {"PATCHKILN_GIT_ALLOW": allow})
    try:
        server.wait_until_ready()
        _, answer = server.post("/runs", body(repository, checks=HANG))
        run_id = json.loads(answer)["id"]
        last_seq = _wait_for(server, run_id, "check.started")
        tree = process_tree(server.process.pid)
    finally:
        server.stop(signal.SIGKILL)
    assert len(tree) > 2
    _wait_until_gone(tree)
    with server_process(
        data_dir, PATCHKILN_GIT_ALLOW=allow, PATCHKILN_CHECK_TIMEOUT_S="1"
    ) as restarted:
        status, stream = restarted.get(
            f"/runs/{run_id}/events",
            {"Accept": "text/event-stream", "Last-Event-ID": str(last_seq)},
        )
        events = frames(stream)
    assert status == 200
    assert [event["seq"] for event in events] == list(
        range(last_seq + 1, last_seq + 1 + len(events))
    )
    assert events[0]["event"] == "step.restarted"
    assert events[0]["data"]["step"] == "analysis"
    assert events[-1]["summary"]["outcome"] == "changed"


def test_a_stop_ends_open_streams_without_a_summary(tmp_path: Path, repository: Path) -> None:
    """SIGTERM with an open stream ends both, the stream without a summary, the process with 0."""
    data_dir = tmp_path / "data"
    settings = {"PATCHKILN_GIT_ALLOW": f"file://{repository}"}
    server = ServerProcess(data_dir, settings)
    try:
        server.wait_until_ready()
        _, answer = server.post("/runs", body(repository, checks=HANG))
        run_id = json.loads(answer)["id"]
        _wait_for(server, run_id, "check.started")
        url = f"http://127.0.0.1:{server.port}/runs/{run_id}/events"
        client = subprocess.Popen(["curl", "-sN", url], stdout=subprocess.PIPE)
        assert client.stdout is not None
        first = client.stdout.readline() + client.stdout.readline()
        tree = process_tree(server.process.pid)
        code = server.stop()
        rest, _ = client.communicate(timeout=30)
    finally:
        server.stop(signal.SIGKILL)
    assert code == 0
    assert all(event["type"] != "summary" for event in frames(first + rest))
    _wait_until_gone(tree)


def test_two_servers_never_share_a_data_directory(tmp_path: Path) -> None:
    """The second start is refused with the fix."""
    with server_process(tmp_path / "data"):
        second = ServerProcess(tmp_path / "data", {})
        assert second.process.wait(timeout=60) == 2
        assert "PATCHKILN_DATA_DIR" in second.log.read_text()


def test_a_port_that_is_taken_stops_the_start_with_the_fix(tmp_path: Path) -> None:
    """Nothing is served, and the message names port and setting."""
    with server_process(tmp_path / "one") as first:
        second = ServerProcess(tmp_path / "two", {"PATCHKILN_PORT": str(first.port)})
        assert second.process.wait(timeout=60) == 2
    told = second.log.read_text()
    assert f"port {first.port}" in told
    assert "PATCHKILN_PORT" in told


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PATCHKILN_PROT", "1", "PATCHKILN_PORT"),
        ("PATCHKILN_HOST", "0.0.0.0", "PATCHKILN_OPEN=1"),  # noqa: S104 - it must be refused
        ("PATCHKILN_SANDBOX", "none", "PATCHKILN_SANDBOX"),
        ("PATCHKILN_API_KEYS", "hush-hush", "name:key"),
    ],
)
def test_an_unsafe_or_unknown_setting_stops_the_start(
    tmp_path: Path, name: str, value: str, told: str
) -> None:
    """The message names the fix, shows no secret and no trace."""
    done = subprocess.run(
        [sys.executable, "run_server.py"],
        cwd=ROOT,
        env=environment(tmp_path / "data", 0, {name: value}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert "hush-hush" not in done.stderr
    assert "Traceback" not in done.stderr


def test_open_cors_on_a_public_address_is_warned_of_once(tmp_path: Path) -> None:
    """A start that is meant to be open says so in its log, one time."""
    settings = {"PATCHKILN_HOST": "0.0.0.0", "PATCHKILN_OPEN": "1"}  # noqa: S104 - as above
    with server_process(tmp_path / "data", **settings) as server:
        server.get("/health")
    assert server.log.read_text().count("PATCHKILN_CORS_ORIGINS") == 1


def test_no_answer_log_or_event_shows_a_key(tmp_path: Path, repository: Path) -> None:
    """Keys go in and never come out."""
    keys = {"PATCHKILN_API_KEYS": "me:hush-hush", "OPENAI_API_KEY": "sk-hush-hush"}
    allow = {"PATCHKILN_GIT_ALLOW": f"file://{repository}"}
    headers = {"Authorization": "Bearer hush-hush"}
    with server_process(tmp_path / "data", LOG_LEVEL="DEBUG", **keys, **allow) as process:
        answers = [
            process.post("/code", body(repository), headers)[1],
            process.get("/runs", headers)[1],
            process.get("/ready")[1],
            process.get("/runs")[1],
        ]
    assert b'"outcome":"changed"' in answers[0]
    assert all(b"hush-hush" not in answer for answer in answers)
    assert "hush-hush" not in process.log.read_text()


def _wait_for(server: ServerProcess, run_id: str, event: str) -> int:
    """Return the ``seq`` of the first event of this name, read from pages of events."""
    after = 0
    while True:
        _, page = server.get(f"/runs/{run_id}/events?after={after}", {"Accept": "application/json"})
        for item in json.loads(page)["events"]:
            after = int(item["seq"])
            if item["event"] == event:
                return after
            assert item["type"] != "summary", item


def _wait_until_gone(tree: frozenset[tuple[int, str]]) -> None:
    """Return once none of the processes lives; the test's time limit bounds the wait."""
    while tree & frozenset(living_processes().values()):
        os.sched_yield()
