"""Containers as the sandbox of whole commands and whole runs, with a real Podman."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import podman
from tests.support.command_line import environment, patchkiln
from tests.support.repositories import git, make_repository

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "inventory"
pytestmark = pytest.mark.skipif(not podman.installed(), reason="no Podman that root could start")


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Lend the socket of an engine."""
    with podman.service(tmp_path_factory.mktemp("podman")) as place:
        yield place


@pytest.fixture
def env(tmp_path: Path, socket: Path) -> dict[str, str]:
    """Return the settings of someone who wants containers."""
    return environment(tmp_path / "data", sandbox="container", container_socket=str(socket))


def test_a_command_runs_in_a_container(env: dict[str, str]) -> None:
    """Its output and exit code pass through, and the setting chose what makes its sandbox."""
    script = "id --user; ls /; cat; exit 7"
    done = patchkiln("sandbox", "run", "--", "sh", "-c", script, env=env, stdin=b"given")
    assert done.returncode == 7, done.stderr
    first, *entries, last = done.stdout.split()
    assert first != b"0"
    assert b"workspace" in entries
    assert last == b"given"


def test_doctor_knows_the_container(env: dict[str, str]) -> None:
    """It tells the level, and that a run can start."""
    done = patchkiln("doctor", env=env)
    assert done.returncode == 0, done.stdout
    assert b"container, isolation level L" in done.stdout


def test_a_whole_run_in_containers(tmp_path: Path, env: dict[str, str]) -> None:
    """It clones, checks, changes and judges, and the patch applies."""
    files = {
        str(path.relative_to(EXAMPLE)): path.read_bytes()
        for path in EXAMPLE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    example = make_repository(tmp_path / "inventory", files)
    done = patchkiln("run", example, "Add better error handling", env=env)
    assert done.returncode == 0, done.stderr.decode()
    assert b": container, isolation level L" in done.stderr
    assert "✓ changed · verified" in done.stderr.decode()
    (tmp_path / "made.patch").write_bytes(done.stdout)
    git(example, "apply", "--check", str(tmp_path / "made.patch"))
