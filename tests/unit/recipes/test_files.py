"""Which files a recipe looks at."""

import pytest

from patchkiln.agent.recipes.files import Shadows, is_foreign, is_named
from patchkiln.domain.project import Project


@pytest.mark.parametrize(
    "path",
    [
        "vendor/a.py",
        "app/_vendor/a.py",
        "third_party/a.py",
        "lib/site-packages/a.py",
        "node_modules/x/a.py",
        "venv/a.py",
        "app/migrations/0001_initial.py",
        "build/lib/a.py",
        "dist/a.py",
        "app/x_pb2.py",
        "app/x_pb2_grpc.py",
        "tests/a.py",
        "app/test/a.py",
        "test_a.py",
        "app/a_test.py",
        "app/tests.py",
        "conftest.py",
    ],
)
def test_other_peoples_files_and_tests_are_foreign(path: str) -> None:
    """Vendored, installed, built and generated files, migrations and tests are not touched."""
    assert is_foreign(path)


@pytest.mark.parametrize(
    "path",
    [
        "a.py",
        "app/build/a.py",
        "app/testing.py",
        "app/vendors.py",
        "app/latest_a.py",
        "app/contest.py",
        "setup.py",
    ],
)
def test_a_projects_own_files_are_not(path: str) -> None:
    """Names that only look alike do not count."""
    assert not is_foreign(path)


@pytest.mark.parametrize(
    ("path", "name", "expected"),
    [
        ("app/client.py", "app/client.py", True),
        ("app/client.py", "client.py", True),
        ("app/client.py", "app/", True),
        ("src/app/client.py", "app", True),
        ("src/app/client.py", "src/app/", True),
        ("app/my_client.py", "client.py", False),
        ("application/client.py", "app/", False),
        ("app/client.py", "client", False),
    ],
)
def test_a_prompts_name_means_whole_parts_of_a_path(
    path: str, name: str, *, expected: bool
) -> None:
    """A file by its end, a directory by its name."""
    assert is_named(path, (name,)) is expected


@pytest.mark.parametrize(
    ("paths", "hidden"),
    [
        (("scripts/logging.py",), {"logging"}),
        (("scripts/requests/__init__.py",), {"requests"}),
        (("logging.py",), {"logging"}),
        (("scripts/logging.py", "scripts/__init__.py"), set[str]()),
        (("other/logging.py",), set[str]()),
        (("scripts/logger.py",), set[str]()),
    ],
)
def test_a_module_beside_a_script_hides_the_library(
    paths: tuple[str, ...], hidden: set[str]
) -> None:
    """Unless both are in a package; one in the root hides it everywhere."""
    assert Shadows(Project(paths=paths)).over("scripts/run.py") == hidden
