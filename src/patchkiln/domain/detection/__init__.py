"""How a repository tests itself, told by its files: one module an ecosystem, listed in `DETECTORS`.

Rules, in this order:

* Each ecosystem gives at most one check, from its most specific source; a repository of two
  ecosystems has two suites, and a change may break either.
* A Makefile's ``test`` counts only where no ecosystem has a runnable check. Such a target tends to
  wrap the same suite in steps that need the network (a virtual environment, linters, coverage), and
  a runner that is called directly names its failures.
* Directories below the root are looked at only where the root has no check at all, the shallowest
  first: a package.json inside of a Python project's fixtures is not that project's suite.
* A check that is known to be unrunnable stands only where there is no other.
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace

from patchkiln.domain.check import UNTOLD, Check
from patchkiln.domain.detection import go, makefile, node, python, rust
from patchkiln.domain.detection.python_tests import test_files
from patchkiln.domain.detection.tree import Tree
from patchkiln.domain.languages import VENDORED_DIRECTORIES

__all__ = ["MAX_MARKER_BYTES", "Tree", "detect_checks", "files_to_read"]

MAX_CHECKS = 4
MAX_MARKER_BYTES = 256 << 10
MAX_TEST_FILES_READ = 24
MAX_NESTED_DIRECTORIES = 8
MAX_NESTED_DEPTH = 2
DETECTORS: tuple[Callable[[Tree], Check | None], ...] = (
    python.detect,
    node.detect,
    go.detect,
    rust.detect,
)
MARKERS = frozenset({*python.MARKERS, *node.MARKERS, *go.MARKERS, *rust.MARKERS, *makefile.MARKERS})
_NO_PROJECTS = VENDORED_DIRECTORIES | {
    "doc",
    "docs",
    "example",
    "examples",
    "fixtures",
    "template",
    "templates",
    "test",
    "testdata",
    "tests",
}


def files_to_read(paths: Sequence[str]) -> tuple[str, ...]:
    """Return the few files whose texts `detect_checks` wants, each up to `MAX_MARKER_BYTES`.

    A text that is not given is taken for an empty file.
    """
    directories = ("", *_nested(paths))
    wanted = {f"{directory}/{name}".lstrip("/") for directory in directories for name in MARKERS}
    markers = [path for path in paths if path in wanted]
    return (*markers, *_spread(test_files(paths)))


def detect_checks(tree: Tree) -> tuple[Check, ...]:
    """Return the repository's own checks, at most `MAX_CHECKS`.

    A name with control characters, or one that is no UTF-8, takes no part: it could not be shown.
    """
    tree = replace(tree, paths=tuple(path for path in tree.paths if path.isprintable()))
    found = _checks_of(tree)
    for directory in () if found else _nested(tree.paths):
        found += tuple(_within(directory, check) for check in _checks_of(tree.below(directory)))
    runnable = tuple(check for check in found if check.kind != UNTOLD)
    return (runnable or found)[:MAX_CHECKS]


def _checks_of(tree: Tree) -> tuple[Check, ...]:
    found = tuple(check for detect in DETECTORS if (check := detect(tree)) is not None)
    if any(check.kind != UNTOLD for check in found):
        return found
    made = makefile.detect(tree)
    return found if made is None else (made,)


def _within(directory: str, check: Check) -> Check:
    return replace(
        check,
        command=f"cd {shlex.quote(directory)} && {check.command}",
        source=f"{directory}/{check.source}",
    )


def _nested(paths: Sequence[str]) -> tuple[str, ...]:
    """Return directories below the root that look like projects, the shallowest first."""
    found: set[str] = set()
    for path in paths:
        directory, _, name = path.rpartition("/")
        if directory and name in MARKERS and _may_hold_project(directory):
            found.add(directory)
    ordered = sorted(found, key=lambda directory: (directory.count("/"), directory))
    return tuple(ordered[:MAX_NESTED_DIRECTORIES])


def _may_hold_project(directory: str) -> bool:
    names = directory.split("/")
    hidden = any(name.startswith(".") for name in names)
    return not hidden and len(names) <= MAX_NESTED_DEPTH and _NO_PROJECTS.isdisjoint(names)


def _spread(paths: Sequence[str]) -> Sequence[str]:
    """Pick a bounded sample from all over the tree."""
    step = -(-len(paths) // MAX_TEST_FILES_READ) or 1
    return paths[::step]
