"""Whole runs on real projects that nobody here wrote, served by git over HTTP."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.git_server import GitServer
from tests.support.real_projects import PROJECTS, RealProject, source_of
from tests.support.server_process import frames, server_process

PROMPT = "Add better error handling"


def checked(events: list[dict[str, Any]], phase: str) -> dict[str, Any]:
    """Return the data of the one check that ran on the base, or on the result."""
    finished = [event["data"] for event in events if event["event"] == "check.finished"]
    (data,) = [data for data in finished if data["phase"] == phase]
    return dict(data)


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_the_recipes_mend_a_real_project_and_its_own_suite_verifies_it(
    tmp_path: Path, project: RealProject
) -> None:
    """Cloned, analysed, changed, judged by its own tests before and after; the patch applies."""
    with GitServer(tmp_path / "served") as host:
        host.add(project.name, source_of(project))
        with server_process(tmp_path / "data", PATCHKILN_GIT_ALLOW=host.prefix) as server:
            body = {"repoUrl": host.url(project.name), "prompt": PROMPT, "agent": "recipes"}
            status, stream = server.post("/code", body)
            events = frames(stream)
            summary = events[-1]["summary"]
            _, patch = server.get(summary["patch"])
    assert status == 200
    assert (summary["outcome"], summary["verdict"]) == ("changed", "verified")
    base = checked(events, "base")
    after = checked(events, "result")
    assert base["command"].endswith(project.command)
    assert base["tests_run"] == after["tests_run"] == project.tests
    copy = tmp_path / "copy"
    subprocess.run(["git", "clone", "-q", str(host.path(project.name)), copy], check=True)
    subprocess.run(["git", "apply", "--check"], cwd=copy, input=patch, check=True)
    added = [line for line in patch.splitlines() if line.startswith(b"+")]
    assert any(b"raise " in line and b" from " in line for line in added)
