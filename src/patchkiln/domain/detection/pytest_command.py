"""How pytest is run in the sandbox: bare, offline, and so that its failures can be read.

The sandbox lends a pytest without plugins. An option of a plugin (``--cov``, ``-n 4``) would end it
with a usage error, and none of them decides whether a test passes: they are left out, together with
``-x`` and ``-q``, which would cut the list of failures short.
"""

import shlex
from collections.abc import Sequence

from patchkiln.domain.detection.pytest_settings import PytestSettings
from patchkiln.domain.detection.tree import Tree

# -rfE lists every failure and error by name at the end. A module that can not be collected, for
# want of a dependency, must not keep the others from judging.
BARE = ("python3", "-m", "pytest", "-q", "-rfE", "--continue-on-collection-errors")
_FLAGS = frozenset({"--doctest-modules", "--doctest-continue-on-failure", "--pyargs"})
_WITH_VALUE = frozenset(
    {
        "--confcutdir",
        "--deselect",
        "--doctest-glob",
        "--ignore",
        "--ignore-glob",
        "--import-mode",
        "--override-ini",
        "--rootdir",
        "-k",
        "-m",
        "-o",
    }
)
_HARMLESS = frozenset(
    {
        "--disable-warnings",
        "--no-header",
        "--showlocals",
        "--strict-markers",
        "--verbose",
        "-l",
        "-s",
        "-v",
        "-vv",
        "-vvv",
    }
)
_HARMLESS_PREFIXES = ("-r", "--color=", "--durations", "--tb=")


def pytest_command(
    tree: Tree, settings: PytestSettings | None, arguments: Sequence[str] = ()
) -> str:
    """Return the command line; ``arguments`` are what the repository itself gives to pytest."""
    words = list(BARE)
    options = settings.options if settings else ()
    if not all(_harmless(word) for word in options):
        kept = core_arguments(tree, options)
        if list(kept) != [word for word in options if not _harmless(word)]:
            words += ["-o", "addopts=", *kept]
    if settings and settings.required_plugins:
        words += ["-o", "required_plugins="]
    if settings and settings.strict_warnings:
        # The settings of absent plugins are unknown ones, which would become an error.
        words += ["-W", "ignore::pytest.PytestConfigWarning"]
    return shlex.join([*words, *core_arguments(tree, arguments)])


def core_arguments(tree: Tree, words: Sequence[str]) -> tuple[str, ...]:
    """Keep what chooses tests, by pytest's own options and by paths that exist."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, _ = word.partition("=")
        if word in _FLAGS or (equals and name in _WITH_VALUE):
            kept.append(word)
        elif word in _WITH_VALUE:
            value = next(rest, None)
            kept += [] if value is None else [word, value]
        elif not word.startswith("-") and _exists(tree, word):
            kept.append(word)
    return tuple(kept)


def _harmless(word: str) -> bool:
    return word in _HARMLESS or word.startswith(_HARMLESS_PREFIXES)


def _exists(tree: Tree, word: str) -> bool:
    path = word.partition("::")[0].removeprefix("./").rstrip("/")
    return path == "." or path in tree.files or path in tree.directories
