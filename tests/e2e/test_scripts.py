"""What a newcomer types: scripts/try, and ``python run_server.py``."""

import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from patchkiln.cli.server import Server, ServerUnreachable
from tests.support.command_line import TIMEOUT_S, ended, environment, started
from tests.support.repositories import git, make_repository

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("scripts/setup", "scripts/try", "scripts/check", "scripts/docs", ".ci/run")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Make the directory in which a script makes its own."""
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@pytest.fixture
def env(tmp_path: Path, scratch: Path) -> dict[str, str]:
    """Return an environment by which every process of a test can be found again."""
    env = environment(tmp_path / "unused")
    del env["PATCHKILN_DATA_DIR"]
    return {**env, "TMPDIR": str(scratch), "TRIED_BY": str(tmp_path)}


def processes_of(env: dict[str, str]) -> list[str]:
    """Return the command lines of processes that still carry a test's environment."""
    mark = f"TRIED_BY={env['TRIED_BY']}".encode()
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it ended meanwhile, or is another user's
    return found


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_bash_that_parses(script: str) -> None:
    """Each can be started as it is, stops at the first error, and names no machine's path."""
    text = (ROOT / script).read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / script], check=True)


@pytest.mark.parametrize(
    "words",
    [
        ["scripts/try", "--help"],
        ["scripts/try", "a", "b", "c"],
        ["scripts/check", "x"],
        ["scripts/setup", "all"],
    ],
)
def test_a_wrong_call_says_how_to_call_it(words: list[str]) -> None:
    """Usage on stderr, exit code 2, and nothing is set up."""
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "usage: " in done.stderr


def test_try_shows_a_whole_run_and_leaves_nothing(env: dict[str, str], scratch: Path) -> None:
    """The example is improved without a key: progress on stderr, the patch on stdout, exit 0."""
    process = started([ROOT / "scripts/try"], env=env)
    patch, told = ended(process)
    assert process.returncode == 0, told.decode()
    assert "✓ changed · verified" in told.decode()
    assert patch.startswith(b"diff --git ")
    assert processes_of(env) == []
    assert list(scratch.iterdir()) == []
    assert git(ROOT, "status", "--porcelain", "examples/inventory") == ""


def test_try_takes_a_clone_and_a_prompt(env: dict[str, str], scratch: Path, tmp_path: Path) -> None:
    """A refusal is told with what to do, and is not exit code 0; nothing is left either."""
    clone = make_repository(tmp_path / "a clone", {"a.py": "x = 1\n"})
    process = started([ROOT / "scripts/try", clone, "Translate it to Esperanto"], env=env)
    patch, told = ended(process)
    assert (process.returncode, patch) == (1, b""), told.decode()
    assert "PATCHKILN_MODEL" in told.decode()
    assert processes_of(env) == []
    assert list(scratch.iterdir()) == []


def test_try_ends_well_on_ctrl_c(env: dict[str, str], scratch: Path) -> None:
    """The run is cancelled, the server is stopped, its data is gone: 130."""
    process = started([ROOT / "scripts/try"], env=env)
    assert process.stderr is not None
    while b"[" not in (line := process.stderr.readline()):
        assert line, "it ended before the run began"
    os.killpg(process.pid, signal.SIGINT)
    _, told = ended(process)
    assert process.returncode == 130, told.decode()
    assert processes_of(env) == []
    assert list(scratch.iterdir()) == []


def free_port() -> int:
    """Return a port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answer(server: Server, path: str, process: subprocess.Popen[bytes]) -> bytes:
    """Return what a server answers as soon as it does."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        try:
            return server.bytes(path)
        except ServerUnreachable:
            time.sleep(0.05)
    raise TimeoutError(path)


def test_run_server_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """Host and port come from the environment; SIGTERM ends it with exit code 0."""
    port = free_port()
    env = environment(tmp_path / "data", port=str(port))
    process = started([sys.executable, ROOT / "run_server.py"], env=env)
    server = Server(f"http://127.0.0.1:{port}")
    assert b"ok" in answer(server, "/health", process)
    assert b"openapi" in server.bytes("/openapi.json")
    _, log = ended(process, signal.SIGTERM)
    assert process.returncode == 0, log.decode()
    assert b"Traceback" not in log


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"prot": "1"}, "PATCHKILN_PORT"),
        ({"host": "0.0.0.0"}, "PATCHKILN_API_KEYS"),  # noqa: S104 - it must be refused
    ],
)
def test_run_server_refuses_a_wrong_setting(
    tmp_path: Path, settings: dict[str, str], says: str
) -> None:
    """An unknown name and an open public address stop the start, with what to write instead."""
    env = environment(tmp_path / "data", **settings)
    process = started([sys.executable, ROOT / "run_server.py"], env=env)
    _, told = ended(process)
    assert process.returncode == 2
    assert says in told.decode()
    assert b"Traceback" not in told


def test_every_requirement_is_pinned() -> None:
    """constraints.txt holds one exact version of each package that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {_name(requirement) for requirement in wanted}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(pin.count("==") == 1 and "@" not in pin for pin in pins)
    assert names - {_name(pin) for pin in pins} == set()
    assert "-c constraints.txt" in (ROOT / "requirements.txt").read_text()


def _name(requirement: str) -> str:
    """Return the normalised name of a requirement."""
    end = min((requirement.find(char) for char in "[=<>!~; " if char in requirement), default=None)
    return requirement[:end].lower().replace("_", "-")
