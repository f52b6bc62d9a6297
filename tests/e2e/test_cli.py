"""``patchkiln run`` and ``doctor`` as a person types them: real sandboxes, a scripted model."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import command, ended, environment, patchkiln, started
from tests.support.repositories import git, make_repository
from tests.support.scripted_model import Call, Calls, Hang, Say, Script, ScriptedModel

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "app.py": "def answer():\n    return 41\n",
    "test_app.py": "from app import answer\n\n\ndef test_answer():\n    assert answer() > 0\n",
}
EDIT = Call("edit_file", path="app.py", old_string="return 41", new_string="return 42")
WRITE = Call("write_file", path="new.txt", content="new\n")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Make a clone with one passing test."""
    return make_repository(tmp_path / "a clone", FILES)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a fresh data directory, without a model."""
    return environment(tmp_path / "data")


def modelled(tmp_path: Path, model: ScriptedModel, **settings: str) -> dict[str, str]:
    """Return an environment in which the builtin agent asks a scripted model."""
    return environment(
        tmp_path / "data", model="openai:scripted", model_base_url=model.base_url, **settings
    )


@pytest.fixture
def changing() -> Iterator[ScriptedModel]:
    """Serve a model that writes one file and is done."""
    with ScriptedModel([Calls(WRITE), Say("Done.")]) as model:
        yield model


def applied(repository: Path, patch: bytes) -> str:
    """Apply a patch by git's own command and return the state of the tree."""
    subprocess.run(["git", "apply", "-"], cwd=repository, input=patch, check=True)
    return git(repository, "status", "--porcelain")


def test_a_run_writes_the_patch_to_stdout(
    tmp_path: Path, repository: Path, changing: ScriptedModel
) -> None:
    """Stdout is the patch and nothing else, stderr the progress; the clone stays as it was."""
    (repository / "test_app.py").write_text("broken, and not committed")
    done = patchkiln("run", repository, "Write a file", env=modelled(tmp_path, changing))
    told = done.stderr.decode()
    assert done.returncode == 0, told
    assert "Uncommitted changes are not part of the run" in told
    assert "[100%] complete        ✓ changed · verified · 1 file" in told
    assert git(repository, "status", "--porcelain") == " M test_app.py\n"
    git(repository, "checkout", "-q", ".")
    assert applied(repository, done.stdout) == "?? new.txt\n"


def test_a_run_can_write_and_apply_the_patch(
    tmp_path: Path, repository: Path, changing: ScriptedModel
) -> None:
    """``--output`` takes the patch, ``--apply`` changes the clone's files and commits nothing."""
    out = tmp_path / "change.patch"
    done = patchkiln(
        "run", repository, "Write", "--output", out, "--apply", env=modelled(tmp_path, changing)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    assert b"+new" in out.read_bytes()
    assert (repository / "new.txt").read_text() == "new\n"
    assert git(repository, "status", "--porcelain") == "?? new.txt\n"


def test_events_can_be_had_as_json(
    tmp_path: Path, repository: Path, changing: ScriptedModel
) -> None:
    """One event a line, numbered without a gap, the summary last; checks can be switched off."""
    done = patchkiln(
        "run", repository, "Write", "--json", "--checks", "off", env=modelled(tmp_path, changing)
    )
    events: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["summary"]["outcome"] == "changed"
    assert events[-1]["summary"]["verdict"] == "skipped"
    assert done.returncode == 0


def test_a_limit_of_the_run_is_exit_code_3(tmp_path: Path, repository: Path) -> None:
    """What was done before the limit is kept as the patch, and not applied."""

    def script(_request: object) -> Calls:
        return Calls(WRITE)

    with ScriptedModel(script) as model:
        env = modelled(tmp_path, model, max_turns="3")
        done = patchkiln("run", repository, "Never end", "--apply", env=env)
    assert done.returncode == 3, done.stderr
    assert b"+new" in done.stdout
    assert b"not applied: the run ended budget exhausted" in done.stderr
    assert not (repository / "new.txt").exists()


@pytest.fixture
def hanging(tmp_path: Path, repository: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a run whose model writes one file and then falls silent; lend it at that point."""
    script: Script = [Calls(WRITE), Hang(Say("I am thinking about it"))]
    with ScriptedModel(script) as model:
        process = started(command("run", repository, "Think"), env=modelled(tmp_path, model))
        assert process.stderr is not None
        while b"new.txt" not in process.stderr.readline():
            assert process.poll() is None, process.communicate()
        yield process
        ended(process)


def test_ctrl_c_cancels_and_keeps_what_was_done(hanging: subprocess.Popen[bytes]) -> None:
    """The run ends as cancelled, its patch is written, the exit code is 130."""
    patch, told = ended(hanging, signal.SIGINT)
    assert hanging.returncode == 130, told
    assert b"Cancelling" in told
    assert "cancelled · 1 file" in told.decode()
    assert b"+new" in patch


def test_a_second_ctrl_c_stops_at_once(hanging: subprocess.Popen[bytes]) -> None:
    """Nothing is waited for: no summary, no patch, and still 130."""
    hanging.send_signal(signal.SIGINT)
    assert hanging.stderr is not None
    while b"Cancelling" not in hanging.stderr.readline():
        assert hanging.poll() is None
    patch, told = ended(hanging, signal.SIGINT)
    assert hanging.returncode == 130
    assert patch == b"" or b"cancelled" in told
    assert b"Traceback" not in told


def test_a_failed_run_is_exit_code_1(env: dict[str, str], repository: Path) -> None:
    """The cause and the fix are told; there is no patch."""
    done = patchkiln("run", repository, "Add error handling", "--ref", "no-such-branch", env=env)
    assert (done.returncode, done.stdout) == (1, b"")
    assert "fix: Name an existing branch or tag" in done.stderr.decode()


def test_a_prompt_that_no_recipe_knows_is_refused(env: dict[str, str], repository: Path) -> None:
    """Without a model nothing is faked: exit code 1, what it can do, and how to set a model."""
    done = patchkiln("run", repository, "Translate it to Esperanto", "--checks", "off", env=env)
    assert (done.returncode, done.stdout) == (1, b""), done.stderr
    assert "PATCHKILN_MODEL" in done.stderr.decode()
    assert "refused" in done.stderr.decode().splitlines()[-2:][0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ftp://example.org/a/b", "p"], "scheme 'ftp' is forbidden"),
        (["https://127.0.0.1/a/b", "p"], "loopback address"),
        (["file:///srv/x", "p"], "scheme 'file' is forbidden"),
        (["example.org/a/b", "p"], "needs a scheme"),
        (["./nowhere", "p"], "no directory"),
        (["https://example.org/a/b", "p", "--apply"], "local clone"),
        (["https://example.org/a/b", "p", "--agent", "smith"], "no such agent"),
        (["https://example.org/a/b", "p", "--ref", "a..b"], "no valid branch"),
        (["https://example.org/a/b", "p", "--output", "/nowhere/x"], "cannot be written"),
        (["https://example.org/a/b", "p", "--checks", ""], "checks"),
        (["https://example.org/a/b", "x" * 70_000], "64 KiB"),
    ],
)
def test_a_request_that_is_wrong_is_exit_code_2(
    env: dict[str, str], tmp_path: Path, arguments: list[str], says: str
) -> None:
    """It is refused before anything is started, with the rule and what to do."""
    done = patchkiln("run", *arguments, env=env, cwd=tmp_path)
    told = done.stderr.decode()
    assert (done.returncode, done.stdout) == (2, b""), told
    assert says in told
    assert "fix: " in told
    assert "Traceback" not in told


def test_a_wrong_setting_is_exit_code_2(env: dict[str, str], repository: Path) -> None:
    """A mistyped setting is named with the nearest valid one, and nothing runs."""
    done = patchkiln("run", repository, "p", env={**env, "PATCHKILN_MAX_USB": "1"})
    assert done.returncode == 2
    assert b"PATCHKILN_MAX_USD" in done.stderr


def test_the_example_is_improved_without_a_model(env: dict[str, str], tmp_path: Path) -> None:
    """The recipes change the example service, its own tests pass, and the patch applies."""
    files = {
        str(path.relative_to(ROOT / "examples/inventory")): path.read_bytes()
        for path in (ROOT / "examples/inventory").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    example = make_repository(tmp_path / "inventory", files)
    done = patchkiln("run", example, "Add better error handling", env=env)
    assert done.returncode == 0, done.stderr.decode()
    assert "✓ changed · verified" in done.stderr.decode()
    assert b"raise" in done.stdout
    assert " M " in applied(example, done.stdout)


def test_doctor_finds_a_machine_that_can_run(env: dict[str, str]) -> None:
    """It exits with 0, and tells the sandbox's level, git, the store and the model."""
    done = patchkiln("doctor", "--json", env=env)
    answer = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert answer["ready"] is True
    found = {finding["name"]: finding for finding in answer["findings"]}
    assert {"sandbox", "others", "git", "store", "data", "model"} == set(found)
    assert "isolation level L" in found["sandbox"]["text"]
    assert "made by: the server" in found["sandbox"]["detail"].splitlines()
    assert found["model"]["state"] == "off"
    assert b"A run can start." in patchkiln("doctor", env=env).stdout


def test_doctor_finds_what_is_missing(env: dict[str, str], tmp_path: Path) -> None:
    """No git: exit code 1, and the command that mends it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to("/bin/sh")
    done = patchkiln("doctor", env={**env, "PATH": str(tmp_path / "bin")})
    assert done.returncode == 1
    assert b"apt-get install git" in done.stdout
    assert b"No run can start" in done.stdout


@pytest.mark.parametrize(
    ("settings", "name", "says"),
    [
        ({"PATCHKILN_MODEL": "anthropic:claude-sonnet-4-5"}, "model", "ANTHROPIC_API_KEY"),
        ({"PATCHKILN_MODEL": "nobody:none"}, "model", "provider:name"),
        ({"PATCHKILN_PROT": "1"}, "settings", "PATCHKILN_PORT"),
        ({"PATCHKILN_DATA_DIR": os.devnull + "/x"}, "data", "PATCHKILN_DATA_DIR"),
        (
            {"PATCHKILN_DATABASE_URL": "postgresql://u:hush@127.0.0.1:1/db"},
            "store",
            "it refuses connections",
        ),
    ],
)
def test_doctor_names_the_setting_that_keeps_runs_from_starting(
    tmp_path: Path, settings: dict[str, str], name: str, says: str
) -> None:
    """A model without its key, an unknown setting, a data directory that cannot be: exit code 1."""
    done = patchkiln("doctor", "--json", env={**environment(tmp_path / "data"), **settings})
    assert done.returncode == 1
    missing = [each for each in json.loads(done.stdout)["findings"] if each["state"] == "missing"]
    assert name in {each["name"] for each in missing}
    assert says in json.dumps(missing)
    assert b"hush" not in done.stdout + done.stderr
