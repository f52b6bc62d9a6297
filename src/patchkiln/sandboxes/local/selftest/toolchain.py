"""The packages that are lent to boxes, so that a repository's pytest suite runs uninstalled.

They lie apart from every other package and are found last, through a .pth file in the box's home:
a repository's own virtual environment never sees them.
"""

import hashlib
import shutil
import tempfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from patchkiln.errors import SandboxError

# What pytest 9 needs on the Pythons of MIN_PYTHON and newer, and nothing compiled.
_PACKAGES = ("iniconfig", "packaging", "pluggy", "pygments", "pytest")
MIN_PYTHON = (3, 11)
_FORMAT = "1"
_KEY_CHARS = 16
_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o644
_COMMAND = """\
#!/usr/bin/env python3
import sys

from pytest import console_main

sys.exit(console_main())
"""


def build_toolchain(parent: Path) -> Path:
    """Return the directory of the lent packages below a parent; it is made once a version.

    Raises `SandboxError` where the server's own installation lacks them, and `OSError`.
    """
    distributions = [_installed(name) for name in _PACKAGES]
    directory = parent / _key(distributions)
    if not directory.is_dir():
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix="new-") as scratch:
            fresh = Path(scratch, "tree")
            for entry in distributions:
                _copy(entry, fresh)
            _write_command(fresh / "bin" / "pytest")
            _open_to_all(fresh)
            _move(fresh, directory)
    return directory


def _installed(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise SandboxError(f"The package {name} is not installed beside the server.") from error


def _key(distributions: list[Distribution]) -> str:
    names = [f"{entry.name}=={entry.version}" for entry in distributions]
    return hashlib.sha256("\n".join([_FORMAT, *names]).encode()).hexdigest()[:_KEY_CHARS]


def _copy(entry: Distribution, target: Path) -> None:
    """Copy a distribution's files, without its scripts, which lie outside, and compiled ones."""
    for file in entry.files or ():
        if ".." in file.parts or file.suffix == ".pyc":
            continue
        place = target.joinpath(*file.parts)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(file.locate()), place)


def _write_command(place: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    place.write_text(_COMMAND, encoding="utf-8")


def _open_to_all(directory: Path) -> None:
    """Let the boxes' user read it, whatever the server's umask is."""
    directory.chmod(_DIRECTORY_MODE)
    for entry in directory.rglob("*"):
        executable = entry.is_dir() or entry.parent == directory / "bin"
        entry.chmod(_DIRECTORY_MODE if executable else _FILE_MODE)


def _move(fresh: Path, directory: Path) -> None:
    try:
        fresh.rename(directory)
    except OSError:
        if not directory.is_dir():  # another server of the same data directory was not faster
            raise
