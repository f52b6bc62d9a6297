"""Python: which of its many ways to run tests a repository uses.

The first of these that says something wins, from the most to the least explicit:

1. pytest's own settings (pytest.ini, pyproject.toml, tox.ini, setup.cfg);
2. the commands of tox, then of nox, where they can run without tox and nox themselves, which would
   set up environments over the network;
3. a sign of pytest among the files: a conftest.py, an import of pytest, a bare test function;
4. test files that know unittest alone;
5. test files whose texts were not read: pytest, which runs both kinds;
6. tox or nox whose commands could not be told: a check that is known to be unrunnable.
"""

import shlex
from collections.abc import Iterator, Sequence

from patchkiln.domain.check import UNTOLD, Check
from patchkiln.domain.detection.pytest_command import pytest_command
from patchkiln.domain.detection.pytest_settings import PYTEST_MARKERS, find_settings
from patchkiln.domain.detection.python_tasks import TASK_MARKERS, direct_command, python_tasks
from patchkiln.domain.detection.python_tests import (
    is_pytest_file,
    places_of,
    python_env,
    test_files,
    unittest_command,
    uses_pytest,
    uses_unittest,
)
from patchkiln.domain.detection.tree import Tree
from patchkiln.domain.languages import vendored

MARKERS = (*PYTEST_MARKERS, *TASK_MARKERS, "setup.py")


def detect(tree: Tree) -> Check | None:
    """Return the repository's own Python test command, None where it has none."""
    found = next(_commands(tree), None)
    if found is not None:
        command, source = found
        return Check(command=command, source=source, env=python_env(tree))
    return next(_untold(tree), None)


def _commands(tree: Tree) -> Iterator[tuple[str, str]]:
    settings = find_settings(tree)
    if settings is not None:
        yield pytest_command(tree, settings), settings.source
    yield from _from_tasks(tree)
    yield from _from_files(tree)


def _from_tasks(tree: Tree) -> Iterator[tuple[str, str]]:
    """Yield one command a task: of several the one with the fewest words, which tests the most."""
    for task in python_tasks(tree):
        direct = [found for words in task.commands if (found := _test_command(tree, words))]
        if direct:
            yield min(direct, key=lambda command: len(command.split())), task.source


def _from_files(tree: Tree) -> Iterator[tuple[str, str]]:
    files = test_files(tree.paths)
    collected = [path for path in files if is_pytest_file(path)]
    everywhere = sum(is_pytest_file(path) for path in tree.paths)
    # Tests of examples and vendored code that pytest would find as well are not asked for.
    places = places_of(collected) if len(collected) < everywhere else ()
    sign = _pytest_sign(tree, collected)
    if sign is not None:
        yield pytest_command(tree, None, places), sign
    known = [path for path in files if uses_unittest(tree.text(path))]
    if known:
        yield unittest_command(tree, files), known[0]
    if collected:
        yield pytest_command(tree, None, places), collected[0]


def _test_command(tree: Tree, words: Sequence[str]) -> str | None:
    direct = direct_command(words)
    if direct[:1] == ("pytest",):
        return pytest_command(tree, None, direct[1:])
    known = direct[1:2] == ("-m",) or _is_test_script(tree, direct[1:])
    return shlex.join(direct) if known else None


def _is_test_script(tree: Tree, words: Sequence[str]) -> bool:
    """Accept a script of the repository that says that it tests; ``setup.py`` builds as well."""
    return bool(words) and words[0] in tree.files and "test" in words[0]


def _pytest_sign(tree: Tree, files: Sequence[str]) -> str | None:
    for path in tree.paths:
        if path.rpartition("/")[2] == "conftest.py" and not vendored(path):
            return path
    return next((path for path in files if uses_pytest(tree.text(path))), None)


def _untold(tree: Tree) -> Iterator[Check]:
    for marker, command in (("tox.ini", "tox"), ("tox.toml", "tox"), ("noxfile.py", "nox")):
        if marker in tree.files:
            yield Check(command=command, source=marker, kind=UNTOLD)
