"""Which command runs a Python repository's tests."""

import pytest

from patchkiln.domain.check import UNTOLD
from patchkiln.domain.detection import files_to_read
from patchkiln.domain.detection.tree import MAX_TOML_CHARS
from tests.unit.detection.trees import detect, the_check

PYTEST = "python3 -m pytest -q -rfE --continue-on-collection-errors"
NO_BYTECODE = {"PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.parametrize(
    ("name", "text", "source"),
    [
        ("pytest.toml", "[pytest]\n", "pytest.toml"),
        ("pytest.ini", "[pytest]\n", "pytest.ini"),
        (".pytest.ini", "", ".pytest.ini"),
        (
            "pyproject.toml",
            "[tool.pytest.ini_options]\n",
            "pyproject.toml [tool.pytest.ini_options]",
        ),
        ("pyproject.toml", "[tool.pytest]\n", "pyproject.toml [tool.pytest]"),
        ("tox.ini", "[pytest]\n", "tox.ini [pytest]"),
        ("setup.cfg", "[tool:pytest]\n", "setup.cfg [tool:pytest]"),
        ("tests/conftest.py", "", "tests/conftest.py"),
        ("tests/test_a.py", "import pytest\n", "tests/test_a.py"),
        ("tests/a_test.py", "def test_a(): pass\n", "tests/a_test.py"),
    ],
)
def test_each_sign_of_pytest_is_found(name: str, text: str, source: str) -> None:
    """Every place where pytest is set up or used gives the pytest command, and is named."""
    check = the_check({name: text})
    assert (check.command, check.source) == (PYTEST, source)
    assert check.env == NO_BYTECODE


def test_settings_win_over_signs() -> None:
    """Explicit settings name the source even where a conftest.py and test files exist."""
    files = {"conftest.py": "", "pytest.ini": "", "tests/test_a.py": "import unittest\n"}
    assert the_check(files).source == "pytest.ini"


def test_a_pyproject_without_pytest_is_no_sign() -> None:
    """Settings of other tools, and a tool table of a wrong type, do not make a test suite."""
    assert detect({"pyproject.toml": "[tool.black]\nline-length = 3\n"}) == ()
    assert detect({"pyproject.toml": "tool = 3\n"}) == ()


@pytest.mark.parametrize(
    ("addopts", "extra"),
    [
        ("-ra -v --tb=short --strict-markers", ""),
        ("--doctest-modules -m 'not slow'", ""),
        ("--cov=pkg --cov-report term -n 4", " -o addopts="),
        ("--cov=pkg --doctest-modules -k 'not net'", " -o addopts= --doctest-modules -k 'not net'"),
        ("-x", " -o addopts="),
        ("-q", " -o addopts="),
        ("'unbalanced", ""),
    ],
)
def test_options_that_break_or_blind_the_run_are_left_out(addopts: str, extra: str) -> None:
    """Options of plugins, and those that cut the list of failures, go; the choice stays."""
    assert the_check({"pytest.ini": f"[pytest]\naddopts = {addopts}\n"}).command == PYTEST + extra


def test_settings_that_need_absent_plugins_do_not_stop_the_run() -> None:
    """Required plugins are waived, and strict warnings do not turn on unknown settings."""
    text = 'required_plugins = ["pytest-cov"]\nfilterwarnings = ["ignore::X", "error"]\n'
    command = the_check({"pyproject.toml": f"[tool.pytest]\n{text}"}).command
    assert command == f"{PYTEST} -o required_plugins= -W ignore::pytest.PytestConfigWarning"


@pytest.mark.parametrize(
    ("path", "text", "command"),
    [
        ("test_a.py", "import unittest", "python3 -m unittest discover -s ."),
        ("tests/test_a.py", "import unittest", "python3 -m unittest discover -s tests"),
        ("tests/a_test.py", "from unittest import TestCase", "-s tests -p '*_test.py'"),
        ("tests.py", "import unittest", "python3 -m unittest discover -s ."),
        (
            "test/test_a.py",
            "import unittest\ndef test_suite(): pass",
            "python3 -m unittest discover -s test",
        ),
    ],
)
def test_tests_that_know_unittest_alone_run_under_unittest(
    path: str, text: str, command: str
) -> None:
    """Discovery starts where the tests lie, with a pattern that matches their names."""
    assert the_check({path: text}).command.endswith(command)


def test_unittest_packages_are_imported_from_their_top() -> None:
    """Tests inside of a package are found with the package's parent as the top directory."""
    files = {
        "pkg/__init__.py": "",
        "pkg/tests/__init__.py": "",
        "pkg/tests/test_a.py": "import unittest",
        "pkg/tests/test_b.py": "import unittest",
    }
    assert the_check(files).command == "python3 -m unittest discover -s pkg/tests -t ."


def test_one_pytest_file_makes_the_suite_pytest() -> None:
    """Where any file needs pytest, pytest runs them all: it knows unittest too."""
    files = {"tests/test_a.py": "import unittest", "tests/test_b.py": "import pytest"}
    assert the_check(files).command == PYTEST


def test_vendored_tests_are_not_ours() -> None:
    """Test files of other people's code are no sign."""
    assert detect({"vendor/lib/test_a.py": "import pytest", "x.py": ""}) == ()


@pytest.mark.parametrize(
    ("commands", "command"),
    [
        ("pytest {posargs}", PYTEST),
        ("pytest {posargs:tests}", f"{PYTEST} tests"),
        ("pytest tests/unit --cov=pkg -x", f"{PYTEST} tests/unit"),
        ("{envpython} -m pytest tests -k 'not net'", f"{PYTEST} tests -k 'not net'"),
        ("- py.test -n auto nowhere", PYTEST),
        ("\n  flake8\n  coverage run -m pytest tests\n  coverage report", f"{PYTEST} tests"),
        ("coverage run --source pkg -m unittest discover", "python3 -m unittest discover"),
        ("python -W error -m unittest discover -s tests", "python3 -m unittest discover -s tests"),
        ("{envbindir}/python3.11 tests/run_tests.py", "python3 tests/run_tests.py"),
        ("pytest \\\n    tests/unit", f"{PYTEST} tests/unit"),
        ("\n  unit: pytest tests\n  doctest: sphinx-build docs", f"{PYTEST} tests"),
        ("\n  pytest tests/unit\n  pytest --cov=x {posargs}", PYTEST),
    ],
)
def test_what_tox_would_run_is_run_without_tox(commands: str, command: str) -> None:
    """The first test command of tox.ini is run by the sandbox's own Python."""
    files = {
        "tox.ini": f"[testenv]\ncommands = {commands}\n",
        "tests/unit/a.py": "",
        "tests/run_tests.py": "",
    }
    check = the_check(files)
    assert (check.command, check.source) == (command, "tox.ini [testenv]")


def test_tox_settings_inside_pyproject_are_read() -> None:
    """Both of tox's forms in pyproject.toml are understood."""
    native = '[tool.tox.env_run_base]\ncommands = [["ruff"], ["pytest", {replace = "posargs"}]]\n'
    legacy = '[tool.tox]\nlegacy_tox_ini = """\n[testenv]\ncommands = pytest\n"""\n'
    assert the_check({"pyproject.toml": native}).source == "pyproject.toml [tool.tox]"
    assert the_check({"pyproject.toml": legacy}).source == "pyproject.toml [testenv]"


def test_what_nox_would_run_is_run_without_nox() -> None:
    """The first test command of any session is taken, up to what is no constant."""
    text = (
        "@nox.session\ndef lint(session):\n    session.run('ruff', 'check')\n\n"
        "@nox.session\ndef tests(session):\n"
        '    session.run("pytest", "tests", "--cov", *session.posargs)\n'
    )
    check = the_check({"noxfile.py": text, "tests/x.py": ""})
    assert (check.command, check.source) == (f"{PYTEST} tests", "noxfile.py")


@pytest.mark.parametrize(
    ("name", "text", "command"),
    [
        ("tox.ini", "[testenv]\ncommands = make all\n", "tox"),
        ("tox.ini", "[testenv]\nchangedir = x\ncommands = pytest\n", "tox"),
        ("noxfile.py", "session.run(*COMMAND)", "nox"),
    ],
)
def test_tox_or_nox_alone_that_can_not_be_told_is_said_so(
    name: str, text: str, command: str
) -> None:
    """Where only tox or nox know the command, the check says so and is never executed."""
    check = the_check({name: text})
    assert (check.command, check.source, check.kind) == (command, name, UNTOLD)


def test_untold_tox_gives_way_to_test_files() -> None:
    """Test files are a better source than a tox.ini whose commands can not be told."""
    files = {"tox.ini": "[testenv]\ncommands = make\n", "test_a.py": "import pytest"}
    assert the_check(files).source == "test_a.py"


@pytest.mark.parametrize(
    ("files", "env"),
    [
        (["src/pkg/__init__.py"], NO_BYTECODE | {"PYTHONPATH": "src"}),
        (["src/module.py"], NO_BYTECODE | {"PYTHONPATH": "src"}),
        (["src/pkg/__init__.py", "pkg/__init__.py"], NO_BYTECODE),
        (["src/__init__.py", "src/module.py"], NO_BYTECODE),
        (["src/main.c"], NO_BYTECODE),
        (["pkg/__init__.py"], NO_BYTECODE),
    ],
)
def test_a_src_layout_is_made_importable(files: list[str], env: dict[str, str]) -> None:
    """PYTHONPATH is src exactly where a package lies there and nowhere else."""
    assert the_check({"pytest.ini": ""} | dict.fromkeys(files, "")).env == env


def test_tests_of_examples_do_not_count_beside_the_projects_own() -> None:
    """Examples are asked for only where nothing else tests, and never dragged in."""
    files = {"examples/demo/test_a.py": "import pytest", "tests/test_b.py": "import pytest"}
    check = the_check(files)
    assert (check.command, check.source) == (f"{PYTEST} tests", "tests/test_b.py")
    assert the_check({"examples/demo/test_a.py": "import pytest"}).command == PYTEST


def test_unittest_files_of_looser_names_are_found() -> None:
    """In a tests directory every name that begins with test is in unittest's own pattern."""
    check = the_check({"test/testlex.py": "import unittest", "test/helper.py": "import pytest"})
    assert check.command == "python3 -m unittest discover -s test"


def test_files_beside_the_tests_are_no_tests() -> None:
    """Data and helpers in a tests directory are neither read nor run."""
    files = {"tests/testdata.json": "import unittest", "tests/helper.py": "import unittest"}
    assert detect(files) == ()
    assert files_to_read(tuple(files)) == ()


def test_unittest_finds_the_top_of_a_deep_package() -> None:
    """The top directory is the first one above the tests that is no package."""
    packages = ("src/a/__init__.py", "src/a/b/__init__.py", "src/a/b/tests/__init__.py")
    files = dict.fromkeys(packages, "") | {"src/a/b/tests/test_a.py": "import unittest"}
    assert the_check(files).command.endswith("discover -s src/a/b/tests -t src")


def test_a_path_that_tox_names_may_be_any_directory() -> None:
    """A directory that holds nothing but directories is a place for tests too."""
    files = {"tox.ini": "[testenv]\ncommands = pytest a/b\n", "a/b/c/d.py": ""}
    assert the_check(files).command == f"{PYTEST} a/b"


@pytest.mark.parametrize("waste", ["a." * 300 + "b = 1\n", "#" * MAX_TOML_CHARS + "\n"])
def test_settings_that_would_take_minutes_to_parse_read_as_empty(waste: str) -> None:
    """A deep dotted key and a huge file are not parsed at all."""
    assert detect({"pyproject.toml": f"{waste}[tool.pytest]\n"}) == ()
