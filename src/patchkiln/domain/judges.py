"""Which files decide what a check says, so that a change to them is told beside the verdict.

A patch may rightly change tests. But whoever reads "verified" must know that the judges of the
change were changed with it.
"""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

# What test runners read for their own set-up, and modules that shadow a runner or run before it.
JUDGE_NAMES = frozenset(
    {
        "conftest.py",
        "pytest.ini",
        "pytest.py",
        "unittest.py",
        "sitecustomize.py",
        "usercustomize.py",
        "setup.cfg",
        "tox.ini",
        "noxfile.py",
        "pyproject.toml",
        "Makefile",
        "makefile",
        "GNUmakefile",
        "package.json",
        "Cargo.toml",
        "go.mod",
    }
)
TEST_DIRECTORIES = frozenset({"test", "tests", "__tests__", "spec", "testing"})
_TEST_FILE = re.compile(
    r"test_.*|.*_test\.(py|go|rs)|.*\.(test|spec)\.[cm]?[jt]sx?|tests?\.py|jest\.config\..*"
)


def judges_in(paths: Iterable[str]) -> tuple[str, ...]:
    """Return those of the changed paths that decide what the checks say, sorted."""
    return tuple(sorted(path for path in paths if _is_judge(PurePosixPath(path))))


def _is_judge(path: PurePosixPath) -> bool:
    return (
        path.name in JUDGE_NAMES
        or _TEST_FILE.fullmatch(path.name) is not None
        or any(part in TEST_DIRECTORIES for part in path.parts[:-1])
    )
