"""Small git repositories for tests, made with the host's git in directories of the test's own."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

WHO = ("-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")


def make_repository(path: Path, files: Mapping[str, bytes | str]) -> Path:
    """Make a repository with one commit of these files on the branch ``main``."""
    path.mkdir(parents=True, exist_ok=True)
    git(path, "init", "-q", "-b", "main")
    for name, content in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
    commit(path, "First")
    return path


def import_repository(path: Path, files: Mapping[str, bytes]) -> Path:
    """Make a bare repository with one commit of these files, fast enough for very many."""
    path.mkdir(parents=True)
    git(path, "init", "-q", "--bare", "-b", "main")
    head = b"commit refs/heads/main\ncommitter Test <test@localhost> 0 +0000\ndata 5\nFirst\n"
    entries = [
        b"M 644 inline %s\ndata %d\n%s\n" % (name.encode(), len(content), content)
        for name, content in files.items()
    ]
    command = ["git", "fast-import", "--quiet"]
    stream = head + b"".join(entries)
    subprocess.run(command, cwd=path, input=stream, check=True, timeout=120)
    return path


def commit(path: Path, message: str) -> str:
    """Commit everything and return the commit's id."""
    git(path, "add", "-A", "-f")
    git(path, *WHO, "commit", "-q", "--allow-empty", "-m", message)
    return git(path, "rev-parse", "HEAD").strip()


def git(path: Path, *arguments: str) -> str:
    """Run git in a directory and return what it printed."""
    done = subprocess.run(
        ["git", *arguments], cwd=path, check=True, capture_output=True, text=True, timeout=120
    )
    return done.stdout
