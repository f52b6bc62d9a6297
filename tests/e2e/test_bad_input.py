"""Repositories and agents that hurt: each run ends in a clear event and one summary."""

import os
import subprocess
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from patchkiln.domain.run import RunRequest
from patchkiln.ports.agent import AgentResult, AgentUpdate
from patchkiln.ports.execution import capture
from patchkiln.ports.sandbox import Sandbox
from tests.support.engine import Event, engine_over, events_named, follow
from tests.support.repositories import WHO, commit, git, import_repository, make_repository
from tests.support.scripted_agent import DONE, ScriptedAgent, Work, write_hello

GREEN = {"test_it.py": "def test_it():\n    assert True\n"}
MIB = 1 << 20


async def run(
    tmp_path: Path,
    repository: Path,
    work: Work = write_hello,
    *,
    check_timeout_s: float = 60.0,
    **changes: Any,
) -> tuple[list[Event], bytes]:
    """Run to the end and return the events and the patch."""
    values: dict[str, Any] = {"repository": repository.name, "prompt": "Do it", **changes}
    request = RunRequest(repo_url=f"file://{repository}", agent="scripted", **values)
    async with engine_over(
        tmp_path / "data",
        ScriptedAgent(work),
        allow=(f"file://{repository}",),
        check_timeout_s=check_timeout_s,
    ) as engine:
        created, _ = await engine.submit(request)
        events = await follow(engine, created)
        patch = await engine.store.get_patch(created.id)
    assert [event["type"] for event in events].count("summary") == 1
    assert events[-1]["type"] == "summary"
    assert str(tmp_path / "data") not in repr(events)
    return events, patch or b""


def shell_work(script: str) -> Work:
    """Return work that runs one shell script in the workspace, whatever its exit code."""

    async def work(sandbox: Sandbox) -> AsyncGenerator[AgentUpdate | AgentResult]:
        output = await capture(await sandbox.exec(["/bin/sh", "-c", script], timeout_s=120))
        yield AgentUpdate(
            event="agent.command_finished",
            message="Ran the script",
            data={"exit_code": output.status.exit_code},
        )
        yield DONE

    return work


def outcome(events: list[Event]) -> tuple[str, str]:
    """Return outcome and verdict of the summary."""
    summary = events[-1]["summary"]
    return summary["outcome"], summary["verdict"]


def apply(repository: Path, patch: bytes) -> None:
    """Apply the patch to the repository, as its user would."""
    subprocess.run(
        ["git", "apply", "--binary"], cwd=repository, input=patch, check=True, timeout=60
    )


async def test_fifty_thousand_files(tmp_path: Path) -> None:
    """A large tree is cloned, listed within bounds and diffed; only the change is in the patch."""
    files = {f"pkg{i // 500}/module{i}.py": b"x = %d\n" % i for i in range(50_000)}
    repository = import_repository(tmp_path / "large", files)
    events, patch = await run(tmp_path, repository, checks=("ls pkg99/module49999.py",))
    assert outcome(events) == ("changed", "verified")
    assert patch.count(b"diff --git") == 1
    (analysed,) = events_named(events, "repository.analysed")
    assert analysed["data"]["file_count"] == 50_000


async def test_a_file_of_a_hundred_megabytes(tmp_path: Path) -> None:
    """It comes in, stays out of the patch while untouched, and is refused when rewritten."""
    repository = make_repository(tmp_path / "heavy", {"blob.bin": os.urandom(100 * MIB)})
    events, patch = await run(tmp_path, repository)
    assert outcome(events)[0] == "changed"
    assert len(patch) < 1000
    rewrite = shell_work("head -c 104857600 /dev/urandom > blob.bin")
    events, _ = await run(tmp_path, repository, rewrite)
    (failed,) = events_named(events, "run.failed")
    assert failed["data"]["code"] == "patch_failed"
    assert outcome(events)[0] == "failed"


async def test_a_new_file_of_a_hundred_megabytes_is_left_out_and_told(tmp_path: Path) -> None:
    """What the patch leaves out is named."""
    repository = make_repository(tmp_path / "small", GREEN)
    work = shell_work("echo kept > kept.txt; head -c 104857600 /dev/urandom > blob.bin")
    events, patch = await run(tmp_path, repository, work)
    assert b"kept.txt" in patch
    assert b"blob.bin" not in patch
    assert any("blob.bin" in event["message"] for event in events_named(events, "patch.noted"))


async def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    """Such a name survives clone, events and patch."""
    repository = make_repository(tmp_path / "names", GREEN)
    (repository / os.fsdecode(b"caf\xe9.txt")).write_text("one\n")
    commit(repository, "Latin")
    work = shell_work("printf 'two\\n' >> \"$(printf 'caf\\351.txt')\"; echo new > naïve.txt")
    events, patch = await run(tmp_path, repository, work)
    assert outcome(events) == ("changed", "verified")
    apply(repository, patch)
    assert (repository / os.fsdecode(b"caf\xe9.txt")).read_text() == "one\ntwo\n"
    assert (repository / "naïve.txt").exists()


async def test_symlinks_out_of_the_tree(tmp_path: Path) -> None:
    """A link to the host's files stays a link: nothing behind it is read or written."""
    secret = tmp_path / "secret.txt"
    secret.write_text("canary\n")
    repository = make_repository(tmp_path / "links", GREEN)
    (repository / "file_link").symlink_to(secret)
    (repository / "up").symlink_to("../" * 12)
    (repository / "passwd").symlink_to("/etc/shadow")
    commit(repository, "Links")
    work = shell_work("cat file_link up/etc/shadow passwd; echo gone > file_link; echo a > a.txt")
    # A command of its own: pytest would follow `up` through the whole file system of the box.
    events, patch = await run(tmp_path, repository, work, checks=("test -L up",))
    assert outcome(events) == ("changed", "verified")
    assert secret.read_text() == "canary\n"
    assert b"canary" not in patch
    assert "canary" not in repr(events)
    assert patch.count(b"diff --git") == 1


async def test_a_git_directory_inside_a_subdirectory(tmp_path: Path) -> None:
    """What a nested repository holds is in the patch as plain files, and told."""
    repository = make_repository(tmp_path / "nested", GREEN)
    work = shell_work(
        "mkdir -p sub/deep && cd sub && git init -q . && echo payload > deep/p.txt && git add . "
        "&& git commit -qm nested"
    )
    events, patch = await run(tmp_path, repository, work)
    assert b"+payload" in patch
    assert b"Subproject" not in patch
    assert b".git/" not in patch
    assert events_named(events, "patch.noted")
    apply(repository, patch)
    assert (repository / "sub/deep/p.txt").read_text() == "payload\n"


async def test_a_repository_without_commits(tmp_path: Path) -> None:
    """An empty repository has its own error, with a remedy."""
    repository = tmp_path / "empty"
    repository.mkdir()
    git(repository, "init", "-q", "-b", "main")
    events, _ = await run(tmp_path, repository)
    (failed,) = events_named(events, "run.failed")
    assert failed["data"]["code"] == "repository_empty"
    assert failed["data"]["remedy"]
    assert outcome(events)[0] == "failed"


async def test_crlf_files_keep_their_line_ends(tmp_path: Path) -> None:
    """One changed line is one changed line, whatever attributes and line ends say."""
    repository = make_repository(tmp_path / "crlf", {**GREEN, "dos.txt": b"a\r\nb\r\nc\r\n"})
    work = shell_work("sed -i 's/^b/B/' dos.txt")
    _, patch = await run(tmp_path, repository, work)
    assert [line for line in patch.splitlines() if line.startswith((b"-b", b"+B", b"-a", b"+a"))]
    assert patch.count(b"\n-") == 2  # the file header and one line
    apply(repository, patch)
    assert (repository / "dos.txt").read_bytes() == b"a\r\nB\r\nc\r\n"


async def test_crlf_by_attributes_applies_to_a_clone(tmp_path: Path) -> None:
    """A repository that normalises line ends gets a patch in its own normal form."""
    repository = make_repository(
        tmp_path / "attributes",
        {**GREEN, ".gitattributes": "* text=auto eol=crlf\n", "a.txt": "a\nb\n"},
    )
    _, patch = await run(tmp_path, repository, shell_work("sed -i 's/^b/B/' a.txt"))
    clone = tmp_path / "clone"
    git(tmp_path, *WHO, "clone", "-q", str(repository), str(clone))
    apply(clone, patch)
    assert git(clone, "diff", "--stat").count("1 insertion(+), 1 deletion(-)") == 1


@pytest.mark.parametrize(
    "body",
    [
        "import time\ndef test_it():\n    time.sleep(3600)\n",
        "import os\ndef test_it():\n    while True:\n        os.write(1, b'x' * 65536)\n",
    ],
    ids=["never-ends", "prints-without-end"],
)
async def test_a_suite_without_end(tmp_path: Path, body: str) -> None:
    """It is stopped at its limit, told with the reason, and proves nothing."""
    repository = make_repository(tmp_path / "endless", {"test_it.py": body})
    events, _ = await run(
        tmp_path, repository, check_timeout_s=3, checks=("python3 -m pytest -q -s",)
    )
    finished = events_named(events, "check.finished")
    assert [event["data"]["phase"] for event in finished] == ["base", "result"]
    assert all(event["type"] == "warning" for event in finished)
    assert all("stopped" in event["data"]["reason"] for event in finished)
    assert outcome(events) == ("changed", "unverified")


async def test_a_disk_that_fills_inside_the_sandbox(tmp_path: Path) -> None:
    """The box's disk is bounded: the command fails inside, the run and the host go on."""
    repository = make_repository(tmp_path / "disk", GREEN)
    work = shell_work("echo kept > kept.txt; cat /dev/zero > fill; rc=$?; rm -f fill; exit $rc")
    events, patch = await run(tmp_path, repository, work)
    (ran,) = events_named(events, "agent.command_finished")
    assert ran["data"]["exit_code"] != 0
    assert b"kept.txt" in patch
    events, patch = await run(tmp_path, repository, shell_work("cat /dev/zero > fill"))
    assert outcome(events)[0] in {"no_change", "failed"}
    assert events_named(events, "patch.noted") or events_named(events, "run.failed")
