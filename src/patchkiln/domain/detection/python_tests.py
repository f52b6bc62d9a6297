"""Python's test files: which there are, for which runner, and how they find their package."""

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence

from patchkiln.domain.detection.tree import Tree
from patchkiln.domain.languages import vendored

_PYTEST_WORDS = ("import pytest", "from pytest", "def test_", "async def test_")
_UNITTEST_WORDS = ("import unittest", "from unittest")
# The old hook of unittest's loaders, a bare function that is no test.
_NO_TEST = "def test_suite("
_UNITTEST_NAMES = frozenset({"test.py", "tests.py"})
_TEST_DIRECTORIES = frozenset({"test", "tests"})
_SIDE_DIRECTORIES = frozenset({"benchmark", "benchmarks", "doc", "docs", "example", "examples"})


def is_pytest_file(path: str) -> bool:
    """Tell whether pytest would collect a file by its default patterns."""
    name = path.rpartition("/")[2]
    return name.endswith(".py") and (name.startswith("test_") or name.endswith("_test.py"))


def is_test_file(path: str) -> bool:
    """Tell whether a file's name says that it may hold tests, for pytest or unittest."""
    directory, _, name = path.rpartition("/")
    if not name.endswith(".py"):
        return False
    among_tests = directory.rpartition("/")[2] in _TEST_DIRECTORIES and name.startswith("test")
    return among_tests or name in _UNITTEST_NAMES or is_pytest_file(path)


def test_files(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the repository's own test files, without those of vendored code.

    Those of examples and the like count only where there are no others.
    """
    own = [path for path in paths if is_test_file(path) and not vendored(path)]
    central = [path for path in own if _SIDE_DIRECTORIES.isdisjoint(path.split("/"))]
    return tuple(central or own)


def places_of(files: Iterable[str]) -> tuple[str, ...]:
    """Return the directories and files at the root that hold the given files."""
    return tuple(sorted({path.partition("/")[0] for path in files}))


def uses_pytest(text: str) -> bool:
    """Tell whether a test file imports pytest or has a test function outside of any class."""
    return any(
        line.startswith(_PYTEST_WORDS) and not line.startswith(_NO_TEST)
        for line in text.splitlines()
    )


def uses_unittest(text: str) -> bool:
    """Tell whether a test file imports unittest."""
    return any(line.startswith(_UNITTEST_WORDS) for line in text.splitlines())


def unittest_command(tree: Tree, files: Sequence[str]) -> str:
    """Return the discovery that finds most of the test files.

    Discovery descends into packages alone, and imports by the path from the top-level directory:
    the start is the directory with most tests below it that can be reached so, the top the first
    directory above it that is no package.
    """
    start = _start(tree, files)
    top = _top(tree, start)
    words = ["python3", "-m", "unittest", "discover", "-s", start or "."]
    words += ["-t", top or "."] if top != start else []
    words += _pattern(files)
    return shlex.join(words)


def python_env(tree: Tree) -> dict[str, str]:
    """Return the environment of a Python check.

    ``PYTHONPATH`` is ``src`` where a package lies there and nowhere else. No bytecode is written:
    Python takes a stale file for current when the source changed within the same second and to
    the same size, and the workspace stays clean.
    """
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    if "src/__init__.py" not in tree.files and _packages(tree, "src/") - _packages(tree, ""):
        env["PYTHONPATH"] = "src"
    return env


def _packages(tree: Tree, prefix: str) -> set[str]:
    """Return the names that can be imported from a directory."""
    names = (path.removeprefix(prefix) for path in tree.paths if path.startswith(prefix))
    return set(_importable(names))


def _importable(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        first, _, rest = name.partition("/")
        if rest == "__init__.py":
            yield first
        elif not rest and first.endswith(".py"):
            yield first.removesuffix(".py")


def _start(tree: Tree, files: Sequence[str]) -> str:
    reached: Counter[str] = Counter()
    for path in files:
        directory = path.rpartition("/")[0]
        reached[directory] += 1
        while directory and f"{directory}/__init__.py" in tree.files:
            directory = directory.rpartition("/")[0]
            reached[directory] += 1
    return max(reached, key=lambda directory: (reached[directory], directory), default="")


def _top(tree: Tree, start: str) -> str:
    top = start
    while top and f"{top}/__init__.py" in tree.files:
        top = top.rpartition("/")[0]
    return top


def _pattern(files: Sequence[str]) -> list[str]:
    names = [path.rpartition("/")[2] for path in files]
    suffixed = sum(name.endswith("_test.py") for name in names)
    return ["-p", "*_test.py"] if suffixed * 2 > len(names) else []
