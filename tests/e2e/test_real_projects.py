"""Whole runs on real projects that nobody here wrote, served by git over HTTP."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.git_server import GitServer
from tests.support.real_projects import CONFIGOBJ, JSONPOINTER, PROJECTS, RealProject, source_of
from tests.support.scripted_model import Call, Calls, Say, ScriptedModel, Turn
from tests.support.server_process import frames, server_process

PROMPT = "Add better error handling"
# For the builtin agent: a file of the project, and an edit of it that its tests do not mind.
EDITS = {
    CONFIGOBJ: ("src/configobj/__init__.py", "class ConfigObjError(SyntaxError):"),
    JSONPOINTER: ("jsonpointer.py", "class JsonPointerException(Exception):"),
}


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


@pytest.mark.parametrize("project", EDITS, ids=lambda project: project.name)
def test_the_builtin_agent_changes_a_real_project_with_a_scripted_model(
    tmp_path: Path, project: RealProject
) -> None:
    """The model plans, reads, edits and runs the suite; the harness judges by its own run of it."""
    path, old = EDITS[project]
    script: list[Turn] = [
        Calls(Call("read_file", path=path)),
        Calls(Call("edit_file", path=path, old_text=old, new_text=f"# Reviewed.\n{old}")),
        Calls(Call("shell", command=f"python3 {project.command} 2>&1 | tail -3")),
        Say("I marked the class as reviewed."),
    ]
    with ScriptedModel(script) as model, GitServer(tmp_path / "served") as host:
        host.add(project.name, source_of(project))
        settings = {
            "PATCHKILN_GIT_ALLOW": host.prefix,
            "PATCHKILN_MODEL": "openai:scripted",
            "PATCHKILN_MODEL_BASE_URL": model.base_url,
        }
        with server_process(tmp_path / "data", **settings) as server:
            body = {"repoUrl": host.url(project.name), "prompt": "Mark the class as reviewed"}
            _, stream = server.post("/code", body)
            events = frames(stream)
            summary = events[-1]["summary"]
            _, patch = server.get(summary["patch"])
    assert (summary["outcome"], summary["verdict"]) == ("changed", "verified")
    assert summary["agent"] == "builtin"
    assert summary["usage"]["turns"] == len(model.requests) == 5
    assert [line for line in patch.splitlines() if line.startswith(b"+") and b"++" not in line] == [
        b"+# Reviewed."
    ]
    told = [event["event"] for event in events]
    assert told.index("plan.made") < told.index("agent.file_edited") < told.index("patch.made")
    (command,) = [event for event in events if event["event"] == "agent.command_finished"]
    assert command["data"]["exit_code"] == 0
    assert checked(events, "result")["tests_run"] == project.tests
