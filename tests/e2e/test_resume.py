"""Runs that survive kill -9 of the server at any moment."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from patchkiln.pipeline.steps import STEPS
from tests.support import held_server
from tests.support.repositories import make_repository
from tests.support.server_process import (
    ServerProcess,
    frames,
    living_processes,
    process_tree,
    server_process,
)

FILES = {"app.py": "try:\n    x = 1\nexcept:\n    x = 2\n", "test_app.py": "def test(): pass\n"}
PLACES = [f"{step.name}:{side}" for step in STEPS for side in ("begin", "end")]
MILESTONES = {"step.completed", "patch.made", "verdict.reached", "run.finished"}
ONCE = ("run.created", "run.started", "patch.made", "verdict.reached", "run.finished")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a small repository with a flaw that the recipes know."""
    return make_repository(tmp_path / "app", FILES)


class Held:
    """A server that can be held, its data directory, and the way to begin it anew."""

    def __init__(self, tmp_path: Path, repository: Path) -> None:
        """Start nothing."""
        self.directory = tmp_path / "held"
        self.directory.mkdir()
        self.data_dir = tmp_path / "data"
        self.repository = repository
        self.settings = {
            "PATCHKILN_GIT_ALLOW": f"file://{repository}",
            "PATCHKILN_MAX_RUNNING": str(len(PLACES)),
        }
        self.command = [sys.executable, held_server.__file__, str(self.directory)]

    def start(self) -> ServerProcess:
        """Return a server, which need not yet answer."""
        return ServerProcess(self.data_dir, self.settings, self.command)

    def run(self, server: ServerProcess, **metadata: str) -> str:
        """Start a run and return its id."""
        body = {
            "repoUrl": f"file://{self.repository}",
            "prompt": "Add better error handling",
            "checks": ["true"],
            "metadata": metadata,
        }
        status, answer = server.post("/runs", body)
        assert status == 201, answer
        run_id: str = json.loads(answer)["id"]
        return run_id

    def wait_for(self, places: Mapping[str, str]) -> None:
        """Wait until each run has come to its place."""
        deadline = time.monotonic() + 60
        names = {f"{place}-{run_id}" for place, run_id in places.items()}
        while missing := names - {path.name for path in self.directory.iterdir()}:
            assert time.monotonic() < deadline, missing
            time.sleep(0.05)

    def log(self, server: ServerProcess, run_id: str) -> list[dict[str, Any]]:
        """Follow a run to its end."""
        status, stream = server.get(f"/runs/{run_id}/events", {"Accept": "text/event-stream"})
        assert status == 200
        return frames(stream)


def check_whole(events: list[dict[str, Any]]) -> None:
    """Assert that nothing is lost or doubled, and that there is one end."""
    names = [event["event"] for event in events]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["type"] for event in events].count("summary") == 1
    assert events[-1]["type"] == "summary"
    assert [names.count(name) for name in ONCE] == [1] * len(ONCE)
    for restarted in (event for event in events if event["event"] == "step.restarted"):
        # What counts no more holds no milestone.
        begun = int(restarted["data"]["supersedes_from_seq"])
        assert MILESTONES.isdisjoint(
            event["event"] for event in events[begun : restarted["seq"] - 1]
        )
    for name in ("step.started", "step.completed"):
        steps = [event["step"] for event in events if event["event"] == name]
        assert steps == [step.name for step in STEPS]


def test_runs_killed_in_every_step_go_on_in_the_next_server(
    tmp_path: Path, repository: Path
) -> None:
    """At the beginning and at the end of each step: one log, one summary, a patch that applies."""
    held = Held(tmp_path, repository)
    server = held.start()
    try:
        server.wait_until_ready()
        runs = {place: held.run(server, hold=place) for place in PLACES}
        held.wait_for(runs)
        tree = process_tree(server.process.pid)
    finally:
        server.stop(signal.SIGKILL)
    _wait_until_gone(tree)
    (held.directory / "go").touch()
    with server_process(held.data_dir, command=held.command, **held.settings) as restarted:
        logs = {place: held.log(restarted, run_id) for place, run_id in runs.items()}
        patches = {
            place: restarted.get(f"/runs/{run_id}/patch")[1] for place, run_id in runs.items()
        }
        shown = [json.loads(restarted.get(f"/runs/{run_id}")[1]) for run_id in runs.values()]
        tree = process_tree(restarted.process.pid)
        boxes = list((held.data_dir / "sandboxes").rglob("sbx_*"))
    assert boxes == []
    for place, events in logs.items():
        check_whole(events)
        restarts = [event for event in events if event["event"] == "step.restarted"]
        assert [event["data"]["step"] for event in restarts] == [place.partition(":")[0]]
        begun = events[int(restarts[0]["data"]["supersedes_from_seq"]) - 1]
        assert (begun["event"], begun["step"]) == ("step.started", restarts[0]["step"])
        summary = events[-1]["summary"]
        assert (summary["outcome"], summary["verdict"]) == ("changed", "verified"), place
    for run, events in zip(shown, logs.values(), strict=True):
        summary = events[-1]["summary"]
        assert (run["status"], run["last_seq"]) == ("finished", len(events))
        assert (run["outcome"], run["sandbox_id"]) == ("changed", summary["sandbox_id"])
    assert len(set(patches.values())) == 1
    for patch in patches.values():
        check = ["git", "apply", "--check"]
        subprocess.run(check, cwd=repository, input=patch, check=True, timeout=60)
    _wait_until_gone(tree)


def test_a_run_that_kills_its_server_each_time_ends_failed(
    tmp_path: Path, repository: Path
) -> None:
    """After three attempts it is told as failed, with what to do, and the server lives."""
    held = Held(tmp_path, repository)
    server = held.start()
    try:
        server.wait_until_ready()
        run_id = held.run(server, poison="planning")
        server.process.wait(timeout=60)
        for _ in range(2):
            server = held.start()
            server.process.wait(timeout=60)
        server = held.start()
        server.wait_until_ready()
        events = held.log(server, run_id)
        sound = held.log(server, held.run(server))
    finally:
        server.stop(signal.SIGKILL)
    restarts = [event for event in events if event["event"] == "step.restarted"]
    assert [event["data"]["attempt"] for event in restarts] == [2, 3]
    failed, summary = events[-2:]
    assert (failed["event"], failed["data"]["code"]) == ("run.failed", "attempts_exhausted")
    assert summary["summary"]["outcome"] == "failed"
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    check_whole(sound)


def _wait_until_gone(processes: frozenset[tuple[int, str]]) -> None:
    deadline = time.monotonic() + 20
    while left := processes & set(living_processes().values()):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
