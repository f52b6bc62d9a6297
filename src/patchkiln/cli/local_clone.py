"""A clone on this machine that the user named: found, looked at, and patched on request.

Git runs here in the user's own directory, which may hold what somebody else packed. Whatever its
configuration could start on the way (hooks, a file system monitor, filters) is switched off.
"""

import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from patchkiln.domain.patch import printable
from patchkiln.errors import InvalidRequest, PatchError

SAFE_GIT = (
    "git",
    "--no-optional-locks",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    # Not only where the file system makes them: a patch's names may be meant for another machine.
    "-c",
    "core.protectHFS=true",
    "-c",
    "core.protectNTFS=true",
)
# Submodules have filters and monitors of their own, which nobody has listed.
OUTER_ONLY = "--ignore-submodules=dirty"
LISTED_FILES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalClone:
    """A git repository with a working tree, or a bare one. ``root`` is absolute."""

    root: Path
    bare: bool

    @property
    def url(self) -> str:
        """Return the URL under which it is cloned."""
        return self.root.as_uri()

    def uncommitted(self) -> bool:
        """Tell whether there are changes that a clone will not see."""
        return not self.bare and bool(_git(self.root, "status", "--porcelain", "-z", OUTER_ONLY))

    def apply(self, diff: bytes) -> None:
        """Apply a patch to the working tree; nothing is staged, nothing half applied.

        Raises `PatchError` where the patch is for another commit, or where one of its files has
        changes that are not committed.
        """
        touched = self._touched(diff)
        dirty = sorted(touched & self._dirty())
        if dirty:
            names = ", ".join(printable(os.fsdecode(name)) for name in dirty[:LISTED_FILES])
            raise PatchError(
                f"The patch was not applied: these files have uncommitted changes: {names}.",
                remedy="Commit or stash them, then apply the patch with 'git apply'.",
            )
        _git(self.root, "apply", "--whitespace=nowarn", "-", stdin=diff)

    def _touched(self, diff: bytes) -> set[bytes]:
        """Return the files that a patch touches, by applying it to an index of its own."""
        with tempfile.TemporaryDirectory() as scratch:
            index = {"GIT_INDEX_FILE": str(Path(scratch, "index"))}
            _git(self.root, "read-tree", "HEAD", env=index)
            _git(self.root, "apply", "--cached", "--whitespace=nowarn", "-", stdin=diff, env=index)
            names = ("diff-index", "--cached", "--name-only", "-z", "--no-renames", "HEAD")
            return _names(_git(self.root, *names, env=index))

    def _dirty(self) -> set[bytes]:
        listing = (
            "status",
            "--porcelain",
            "-z",
            "--untracked-files=no",
            "--no-renames",
            OUTER_ONLY,
        )
        return {entry[3:] for entry in _names(_git(self.root, *listing))}


def is_path(repo: str) -> bool:
    """Tell whether a user means a directory, not a URL."""
    if "://" in repo:
        return False
    return repo.startswith(("/", ".", "~")) or Path(repo).exists()


def find_clone(path: str) -> LocalClone:
    """Return the clone in which a path lies. Raises `InvalidRequest` where there is none."""
    place = Path(path).expanduser()
    if not place.is_dir():
        raise InvalidRequest(
            f"There is no directory {path}.",
            field="REPO",
            remedy="Name a clone's directory or a URL.",
        )
    found = _ask(place, "rev-parse", "--is-bare-repository", "--absolute-git-dir")
    if found is None:
        raise InvalidRequest(
            f"{path} is no git repository.",
            field="REPO",
            remedy="Run 'git init' there and commit the files, or name another directory.",
        )
    bare, git_dir = found.decode("utf-8", "surrogateescape").splitlines()
    if bare == "true":
        return LocalClone(root=Path(git_dir), bare=True)
    return LocalClone(root=_working_tree(place), bare=False)


def _working_tree(place: Path) -> Path:
    top = _ask(place, "rev-parse", "--show-toplevel") or b""
    root = Path(os.fsdecode(top.removesuffix(b"\n")))
    if not (root / ".git").is_dir():
        raise InvalidRequest(
            f"{root} is a linked worktree or a submodule, which cannot be cloned by itself.",
            field="REPO",
            remedy="Name the main clone and the branch with --ref.",
        )
    return root


def _ask(place: Path, *arguments: str) -> bytes | None:
    done = subprocess.run(  # noqa: S603 - git by name, in a directory that the user named
        [*SAFE_GIT, *arguments], cwd=place, env=_environment({}), capture_output=True, check=False
    )
    return done.stdout if done.returncode == 0 else None


def _git(
    root: Path, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> bytes:
    done = subprocess.run(  # noqa: S603 - as above
        [*SAFE_GIT, *arguments],
        cwd=root,
        env=_environment({**_filters_off(root), **(env or {})}),
        input=stdin,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
        raise PatchError(
            f"git {arguments[0]} failed in the local clone: {said[-1] if said else 'no reason'}",
            remedy="Is the commit of the run checked out? Then apply the patch with 'git apply'.",
        )
    return done.stdout


def _filters_off(root: Path) -> dict[str, str]:
    """Return variables that empty every filter of the configuration: git would start its command.

    A filter's name may hold an equals sign, at which the option ``-c`` would cut it.
    """
    listing = _ask(root, "config", "--name-only", "-z", "--get-regexp", r"^filter\..*\.")
    names = {os.fsdecode(name).rsplit(".", 1)[0] for name in _names(listing or b"")}
    values = {"clean": "", "smudge": "", "process": "", "required": "false"}
    settings = [(f"{name}.{key}", value) for name in sorted(names) for key, value in values.items()]
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without what would lead git to another repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**kept, **more}


def _names(listing: bytes) -> set[bytes]:
    return {name for name in listing.split(b"\0") if name}
