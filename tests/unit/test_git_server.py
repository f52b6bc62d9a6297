"""The git host that tests use is a real one: plain git clones from it."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.git_server import Answer, Content, GitServer, Program, Submodule, Symlink, git


def clone(url: str, into: Path) -> subprocess.CompletedProcess[str]:
    """Clone with plain git, without prompts or configuration."""
    return subprocess.run(
        ["git", "clone", "--quiet", url, str(into)],
        env={"PATH": "/usr/bin:/bin", "GIT_TERMINAL_PROMPT": "0", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def source_package(path: Path) -> Path:
    """Make a source package as the Python registry has them."""
    with tarfile.open(path, "w:gz") as tar:
        for name, data in {
            "pkg-1.0/setup.cfg": b"[metadata]\n",
            "pkg-1.0/.gitignore": b"*\n",
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_repository_is_served_with_and_without_suffix(tmp_path: Path) -> None:
    """A repository with files of every kind is cloned whole, by both spellings of its URL."""
    with GitServer(tmp_path / "served") as server:
        files: dict[str, Content] = {
            "a b": b"1\n",
            "run": Program(b"#!/bin/sh\n"),
            "link": Symlink("a b"),
            "sub": Submodule("1" * 40),
        }
        commit = server.add("p", files, branch="trunk")
        for suffix in ("", ".git"):
            into = tmp_path / f"clone{suffix}"
            assert clone(server.url("p", suffix=suffix), into).returncode == 0
            assert git("rev-parse", "trunk", cwd=into) == commit
            assert (into / "run").stat().st_mode & 0o100
            assert (into / "link").readlink() == Path("a b")
        assert server.requests
        assert server.asked.is_set()


def test_source_package_becomes_a_repository(tmp_path: Path) -> None:
    """A source package is served as a repository of one commit, ignored files included."""
    with GitServer(tmp_path / "served") as server:
        server.add_archive("pkg", source_package(tmp_path / "pkg-1.0.tar.gz"))
        assert clone(server.url("pkg"), tmp_path / "clone").returncode == 0
        assert (tmp_path / "clone" / "setup.cfg").read_bytes() == b"[metadata]\n"
        assert git("rev-list", "--count", "HEAD", cwd=tmp_path / "clone") == "1"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Answer.UNAUTHORIZED, "could not read Username"),
        (Answer.NOT_FOUND, "not found"),
        (Answer.SERVER_ERROR, "503"),
        (Answer.HANG_UP, "Empty reply"),
    ],
)
def test_host_fails_as_told(tmp_path: Path, answer: Answer, says: str) -> None:
    """The server refuses in the way that was chosen, and serves again when told to."""
    with GitServer(tmp_path / "served") as server:
        server.add("p", {"f": b"1"})
        server.answer("p", answer)
        assert says in clone(server.url("p"), tmp_path / "refused").stderr
        server.answer("p", Answer.SERVE)
        assert clone(server.url("p"), tmp_path / "served-again").returncode == 0


def test_redirect_leads_where_it_was_told(tmp_path: Path) -> None:
    """A redirect is one that plain git follows."""
    with GitServer(tmp_path / "served") as server:
        server.add("there", {"f": b"1"})
        server.answer("here", Answer.REDIRECT, location=server.url("there"))
        assert clone(server.url("here"), tmp_path / "clone").returncode == 0
