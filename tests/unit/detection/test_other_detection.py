"""Which commands run the tests of other ecosystems, and which of several sources wins."""

import pytest

from patchkiln.domain.detection import (
    MAX_CHECKS,
    MAX_MARKER_BYTES,
    MAX_NESTED_DIRECTORIES,
    MAX_TEST_FILES_READ,
    Tree,
    detect_checks,
    files_to_read,
)
from tests.unit.detection.trees import detect, the_check

PACKAGE = '{"scripts": {"test": "node --test"}}'


@pytest.mark.parametrize(
    ("lock", "command"),
    [
        ("package-lock.json", "npm test"),
        ("pnpm-lock.yaml", "pnpm test"),
        ("yarn.lock", "yarn test"),
        ("bun.lock", "bun run test"),
        ("bun.lockb", "bun run test"),
    ],
)
def test_the_lock_file_chooses_the_package_manager(lock: str, command: str) -> None:
    """The test script runs under the manager whose lock file is there, and never waits."""
    check = the_check({"package.json": PACKAGE, lock: ""})
    assert (check.command, check.source) == (command, "package.json scripts.test")
    assert check.env == {"CI": "true"}


@pytest.mark.parametrize(
    "text",
    [
        '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}',
        '{"scripts": {"test": ""}}',
        '{"scripts": {"test": 3}}',
        '{"scripts": ["test"]}',
        "[1]",
        "{}",
        "{",
        "",
    ],
)
def test_a_package_without_a_test_script_has_no_check(text: str) -> None:
    """The placeholder of npm init, an empty script and wrong types are no test."""
    assert detect({"package.json": text}) == ()


def test_a_go_module_with_tests_is_tested() -> None:
    """A go.mod with a test file of its own gives go test, and no download is tried."""
    check = the_check({"go.mod": "module x", "a/b_test.go": ""})
    assert (check.command, check.source) == ("go test ./...", "go.mod")
    assert check.env == {"GOPROXY": "off", "GOTOOLCHAIN": "local"}


def test_a_go_module_without_tests_has_no_check() -> None:
    """Vendored test files do not count."""
    assert detect({"go.mod": "module x", "vendor/a/b_test.go": ""}) == ()


def test_a_cargo_package_is_tested_offline() -> None:
    """Cargo runs offline and to the end."""
    check = the_check({"Cargo.toml": "[package]"})
    assert check.command == "cargo test --offline --no-fail-fast"


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("test:\n\tpytest\n", "make test"),
        ("check: build\n\tctest\n", "make check"),
        ("all check test:\n\ttrue\n", "make test"),
        ("test :: build\n\ttrue\n", "make test"),
    ],
)
def test_a_makefile_target_is_the_last_resort(text: str, command: str) -> None:
    """With no ecosystem at all, a Makefile's test or check target runs."""
    check = the_check({"Makefile": text, "main.c": ""})
    assert (check.command, check.source) == (command, f"Makefile target {command[5:]}")


@pytest.mark.parametrize("text", ["test := a\n", "test ::= a\n", "\ttest: x\n", "# test: x\n", ""])
def test_what_only_looks_like_a_target_is_none(text: str) -> None:
    """Assignments, recipes and comments are no targets."""
    assert detect({"Makefile": text}) == ()


def test_an_ecosystem_wins_over_the_makefile() -> None:
    """A runner that is called directly names its failures; the Makefile's target gives way."""
    assert the_check({"Makefile": "test:\n", "pytest.ini": ""}).source == "pytest.ini"


def test_the_makefile_wins_over_what_can_not_be_told() -> None:
    """A target that can be run is better than a tox.ini that can not."""
    files = {"Makefile": "test:\n", "tox.ini": "[testenv]\ncommands = make\n"}
    assert the_check(files).command == "make test"


def test_each_ecosystem_has_its_own_check() -> None:
    """A repository in two languages has two suites, and both judge."""
    commands = [check.command for check in detect({"pytest.ini": "", "package.json": PACKAGE})]
    assert commands == [
        "python3 -m pytest -q -rfE --continue-on-collection-errors",
        "npm test",
    ]


def test_projects_below_the_root_are_found_where_the_root_has_none() -> None:
    """Their commands change into their directory, and the source names it."""
    files = {"web app/package.json": PACKAGE, "backend/pytest.ini": "", "README.md": ""}
    found = [(check.command, check.source) for check in detect(files)]
    assert found == [
        (
            "cd backend && python3 -m pytest -q -rfE --continue-on-collection-errors",
            "backend/pytest.ini",
        ),
        ("cd 'web app' && npm test", "web app/package.json scripts.test"),
    ]


def test_fixtures_and_examples_are_no_projects() -> None:
    """A marker inside of tests, examples, hidden or deep directories is not the project's."""
    places = ["tests/data", "examples/a", ".github", "node_modules/x", "a/b/c"]
    assert detect({f"{place}/package.json": PACKAGE for place in places}) == ()


def test_the_root_hides_what_lies_below() -> None:
    """With a check at the root nothing below is looked at."""
    assert the_check({"pytest.ini": "", "web/package.json": PACKAGE}).source == "pytest.ini"


def test_names_that_can_not_be_shown_take_no_part() -> None:
    """A path with control characters or bytes that are no UTF-8 never reaches a command."""
    assert detect({"a\nb/package.json": PACKAGE, "tests/test_\udcff.py": "import pytest"}) == ()


def test_few_files_are_read_of_a_large_repository() -> None:
    """However many markers and tests there are, what is asked for stays bounded."""
    paths = [f"d{i}/package.json" for i in range(900)] + [f"t/test_{i}.py" for i in range(900)]
    wanted = files_to_read(["pyproject.toml", *paths])
    assert "pyproject.toml" in wanted
    assert "d0/package.json" in wanted
    assert len(wanted) <= 1 + MAX_NESTED_DIRECTORIES + MAX_TEST_FILES_READ


def test_the_number_of_checks_is_bounded() -> None:
    """Many projects below the root give a bounded number of checks."""
    assert len(detect({f"d{i}/package.json": PACKAGE for i in range(9)})) == MAX_CHECKS


HOSTILE = {
    "nested arrays": "x = " + "[" * MAX_MARKER_BYTES,
    "nested objects": '{"scripts":' * 20_000,
    "dotted keys": "a." * (MAX_MARKER_BYTES // 2) + "a = 1",
    "endless number": "x = " + "9" * MAX_MARKER_BYTES,
    "endless word": "[testenv]\ncommands = pytest " + "a" * MAX_MARKER_BYTES,
    "endless quote": "session.run('" * 20_000,
    "no INI at all": "=" * MAX_MARKER_BYTES,
    "wrong types": '{"tool": {"pytest": 3, "tox": []}, "scripts": {"test": {}}}',
    "control characters": "\x00\x01\x1b[31m\udcff" * 1000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize(
    "name", ["pyproject.toml", "setup.cfg", "tox.ini", "noxfile.py", "package.json", "Makefile"]
)
def test_hostile_settings_neither_raise_nor_choose_a_command(name: str, text: str) -> None:
    """Malformed, huge and deeply nested files read as empty; every command stays short."""
    tree = Tree(paths=(name,), texts={name: text.encode("utf-8", "surrogateescape")})
    assert all(len(check.command) < 200 for check in detect_checks(tree))
