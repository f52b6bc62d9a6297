"""Which files of a repository a recipe looks at."""

import re
from collections import defaultdict
from dataclasses import dataclass

from patchkiln.domain.languages import VENDORED_DIRECTORIES
from patchkiln.domain.project import Project
from patchkiln.errors import AgentError
from patchkiln.ports.execution import ExitReason, capture
from patchkiln.ports.sandbox import Sandbox

LISTING_TIMEOUT_S = 60.0
MAX_LISTING_BYTES = 8 << 20
# Copies of other people's code, what programs write, and history that must stay as it was run.
FOREIGN_DIRECTORIES = VENDORED_DIRECTORIES | {
    "__pycache__",
    "_vendor",
    "_vendored",
    "extern",
    "migrations",
    "third-party",
    "thirdparty",
    "vendored",
    "vendors",
}
_BUILT = ("build/", "dist/")
_GENERATED = re.compile(r".*_pb2(_grpc)?\.py")
_TEST = re.compile(r"test_.*\.py|.*_tests?\.py|tests?\.py|conftest\.py")
_TEST_DIRECTORIES = frozenset({"test", "tests"})
_SHADOWING = {"logging", "requests", "urllib"}
_COMMAND_NOT_RUN = 126


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Paths relative to the root, sorted. ``unreadable`` are names that are no UTF-8.

    ``complete`` is False where time or room for the list ran out.
    """

    paths: tuple[str, ...]
    unreadable: tuple[str, ...] = ()
    complete: bool = True


async def list_files(sandbox: Sandbox, needle: str) -> Listing:
    """Return the Python files that match an extended regular expression; no symlinks.

    Raises `AgentError` where the sandbox has no grep, and `SandboxLost` (retryable).
    """
    skipped = [f"--exclude-dir={name}" for name in (*sorted(FOREIGN_DIRECTORIES), ".?*")]
    execution = await sandbox.exec(
        ["grep", "-rlsZE", "--include=*.py", *skipped, "-e", needle, "."],
        env={"LC_ALL": "C"},
        timeout_s=LISTING_TIMEOUT_S,
        max_output_bytes=MAX_LISTING_BYTES,
    )
    output = await capture(execution, max_bytes=4 * MAX_LISTING_BYTES)
    if output.status.exit_code in {_COMMAND_NOT_RUN, _COMMAND_NOT_RUN + 1}:
        raise AgentError(
            "The sandbox cannot search the repository: it has no grep.",
            remedy="Use a sandbox with GNU grep.",
        )
    # A command that ended before its output was read is not killed, but its output is cut.
    whole = len(output.stdout) < MAX_LISTING_BYTES
    return _parse(output.stdout, complete=whole and output.status.reason is ExitReason.EXITED)


def _parse(listing: bytes, *, complete: bool) -> Listing:
    """Read names that each end with a NUL; what follows the last is cut off."""
    names = [entry.removeprefix(b"./") for entry in listing.split(b"\0")[:-1]]
    paths = [name.decode("utf-8", "surrogateescape") for name in names]
    readable = [path for path in paths if path.isprintable()]
    return Listing(
        paths=tuple(sorted(path for path in readable if not is_foreign(path))),
        unreadable=tuple(sorted(set(paths).difference(readable))),
        complete=complete,
    )


def is_foreign(path: str) -> bool:
    """Tell whether a file is somebody else's, made by a program, or a test.

    Tests are left alone because an error in them is meant to show as it is.
    """
    *directories, name = path.split("/")
    return (
        not (FOREIGN_DIRECTORIES | _TEST_DIRECTORIES).isdisjoint(directories)
        or path.startswith(_BUILT)
        or _GENERATED.fullmatch(name) is not None
        or _TEST.fullmatch(name) is not None
    )


def is_named(path: str, names: tuple[str, ...]) -> bool:
    """Tell whether a file is one that a prompt named, or lies in such a directory."""
    anchored = f"/{path}"
    return any(
        anchored.endswith(f"/{name.strip('/')}") or f"/{name.strip('/')}/" in anchored
        for name in names
    )


class Shadows:
    """Which well-known modules a repository hides from its own scripts.

    Python looks into a script's directory first: a ``logging.py`` beside it comes before the
    standard library's, unless both are in a package.
    """

    def __init__(self, project: Project) -> None:
        """Take the repository's paths."""
        self._by_directory: dict[str, set[str]] = defaultdict(set)
        packages = {path.removesuffix("__init__.py") for path in project.paths}
        for path in project.paths:
            directory, module = _importable(path)
            if module in _SHADOWING and directory not in packages:
                self._by_directory[directory].add(module)

    def over(self, path: str) -> frozenset[str]:
        """Return the modules that are hidden from a file."""
        beside = path[: path.rfind("/") + 1]
        return frozenset(self._by_directory.get(beside, set()) | self._by_directory.get("", set()))


def _importable(path: str) -> tuple[str, str]:
    """Return the directory, ending with a slash, and the module that a file makes importable."""
    stem = path.removesuffix("/__init__.py").removesuffix(".py")
    return stem[: stem.rfind("/") + 1], stem[stem.rfind("/") + 1 :]
