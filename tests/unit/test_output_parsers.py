"""What the output of a test runner, as recorded from real ones, tells about its failures."""

from pathlib import Path

import pytest

from patchkiln.domain.check import CheckStatus
from patchkiln.domain.outputs import SuiteReport, read_report
from patchkiln.domain.outputs.reading import Reading, read_result
from patchkiln.domain.outputs.report import (
    MAX_FAILURES,
    MAX_LINES,
    MAX_NAME_CHARS,
    MAX_OUTPUT_CHARS,
)
from patchkiln.domain.terminal import plain_text, readable_text

RECORDED = Path(__file__).parent / "recorded"
SUMMARY = "=== short test summary info ===\n"


def report_of(name: str) -> SuiteReport:
    """Return the report of a recorded output."""
    report = read_report(plain_text((RECORDED / name).read_bytes()))
    assert report is not None
    return report


def read(text: str, *, command: str = "make test", exit_code: int = 1) -> Reading:
    """Return how a check with this output ended."""
    return read_result(command, exit_code=exit_code, text=text, truncated=False)


@pytest.mark.parametrize(
    ("name", "ran", "failures"),
    [
        (
            "pytest.txt",
            9,
            {
                "tests/test_a.py::test_p[a - b]",
                "tests/test_a.py::test_p[a - c]",
                "(i=1) tests/test_a.py::test_sub",
                "tests/test_a.py::test_sub",
                "tests/test_b.py (error)",
                "tests/test_a.py::test_e (error)",
            },
        ),
        (
            "unittest.txt",
            7,
            {
                "setUpClass (test_a.C)",
                "test_bad (test_a.T.test_bad)",
                "test_err (test_a.T.test_err)",
                "test_sub (test_a.T.test_sub) (i=1)",
                "test_xp (test_a.T.test_xp)",
                "test_b (unittest.loader._FailedTest.test_b)",
            },
        ),
        ("node_tap.txt", 4, {r"fails \# hard", "group > inner bad"}),
        ("node_spec.txt", 4, {"a.test.js > fails # hard", "a.test.js > inner bad"}),
        (
            "jest.txt",
            3,
            {"t/a.test.js > group \u203a bad \u203a thing", "t/a.test.js > top bad", "t/b.test.js"},
        ),
        (
            "vitest.txt",
            3,
            {"v/a.test.js > group > bad > thing", "v/a.test.js > top bad", "v/b.test.js"},
        ),
        (
            "cargo.txt",
            6,
            {"tests::bad", "tests::sp - should panic", "bad", "src/lib.rs - f (line 1)"},
        ),
    ],
)
def test_every_failure_is_named(name: str, ran: int, failures: set[str]) -> None:
    """All failed tests are named as their runner names them; the count is without the skipped."""
    report = report_of(name)
    assert report.failures == failures
    assert report.tests_run == ran
    assert report.complete
    assert not report.problem


GO = (
    "--- FAIL: TestA (0.00s)\n    a_test.go:5: no\n    --- FAIL: TestA/sub_one (0.00s)\n"
    "FAIL\nFAIL\texample.com/m/a\t0.002s\nok  \texample.com/m/b\t0.001s\n"
    "?   \texample.com/m/c\t[no test files]\nFAIL\texample.com/m/d [build failed]\nFAIL\n"
)


def test_go_failures_carry_their_package() -> None:
    """Tests stand under the package whose line follows; a package that is not built is named."""
    report = read_report(GO)
    assert report is not None
    assert report.complete
    assert report.failures == {
        "example.com/m/a TestA",
        "example.com/m/a TestA/sub_one",
        "example.com/m/d [build failed]",
    }


def test_a_go_panic_leaves_the_list_incomplete() -> None:
    """After a panic the remaining tests of the package did not run."""
    report = read_report("--- FAIL: TestA (0.00s)\npanic: x\n" + GO)
    assert report is not None
    assert not report.complete


@pytest.mark.parametrize(
    "text",
    [
        f"{SUMMARY}FAILED a.py::x - y\n2 failed, 1 passed in 0.1s",
        f"{SUMMARY}FAILED a.py::x\nFAILED a.py::x\n2 failed in 0.1s",
        f"{SUMMARY}FAILED a.py::x\n!!! stopping after 1 failures !!!\n1 failed in 0.1s",
        "FAILED a.py::x - printed by a test\n1 failed, 1 passed in 0.1s",
        "Tests: 2 failed, 1 passed, 3 total\nFAIL a.js\n  ● x\nTest Suites: 1 failed, 1 total",
        "not ok 1 - a\n# tests 3\n# pass 1\n# fail 2",
        "running 2 tests\ntest a ... FAILED\n",
        "=" * 70 + "\nFAIL: a (b)\n" + "Ran 2 tests in 0s\nFAILED (failures=2)",
    ],
)
def test_a_list_that_does_not_add_up_is_not_complete(text: str) -> None:
    """Fewer distinct names than counted failures, or a run cut short, can not be compared."""
    reading = read(text)
    assert reading.status is CheckStatus.FAILED
    assert not reading.complete


def test_a_truncated_output_is_never_complete() -> None:
    """Names that add up do not count where some of the output is missing."""
    text = f"{SUMMARY}FAILED a.py::x\n1 failed, 1 passed in 0.1s"
    assert read(text).complete
    assert not read_result("make", exit_code=1, text=text, truncated=True).complete


def test_a_failure_without_a_name_is_never_complete() -> None:
    """A command that fails while its runner names nothing has an empty list, not a whole one."""
    reading = read("3 passed in 0.1s\nmake: *** [Makefile:2: test] Error 1", exit_code=2)
    assert (reading.status, reading.complete) == (CheckStatus.FAILED, False)


def test_several_runners_of_one_command_are_taken_together() -> None:
    """A script that runs two suites reports the failures and counts of both."""
    text = f"{SUMMARY}FAILED a.py::x\n1 failed, 2 passed in 0.1s\n"
    text += "not ok 1 - b\nok 2 - c\n# tests 2\n# pass 1\n# fail 1\n"
    reading = read(text)
    assert reading.failures == {"a.py::x", "b"}
    assert (reading.tests_run, reading.complete) == (5, True)


def test_two_sessions_of_one_runner_are_taken_together() -> None:
    """The failures of the first session are not lost to the second's clean summary."""
    first = f"{SUMMARY}FAILED a.py::x\n1 failed, 2 passed in 0.1s\n"
    reading = read(f"{first}3 passed in 0.1s\n")
    assert reading.failures == {"a.py::x"}
    assert (reading.tests_run, reading.complete) == (6, True)


def test_an_exit_code_of_0_does_not_hide_named_failures() -> None:
    """With ``|| true`` behind it, a suite that names its failures has failed all the same."""
    text = f"{SUMMARY}FAILED a.py::x\n1 failed in 0.1s"
    assert read(text, exit_code=0).status is CheckStatus.FAILED
    assert read("1 passed in 0.1s", exit_code=0).status is CheckStatus.PASSED


def test_a_passed_check_counts_its_tests() -> None:
    """The number that passed stands in the reason, so that a person sees what judged."""
    reading = read("..s\n2 passed, 1 skipped in 0.1s", exit_code=0)
    assert (reading.tests_run, reading.reason) == (2, "2 tests passed.")
    assert read("1 passed in 0.1s", exit_code=0).reason == "1 test passed."


def test_a_command_without_a_known_runner_is_judged_by_its_exit_code() -> None:
    """Unknown output: passed or failed, and no list of names."""
    assert read("all good", exit_code=0).status is CheckStatus.PASSED
    reading = read("something broke", exit_code=3)
    assert (reading.status, reading.complete) == (CheckStatus.FAILED, False)
    assert "exit code 3" in reading.reason


PYTEST = "python3 -m pytest -q"


@pytest.mark.parametrize(
    ("command", "exit_code", "text", "reason"),
    [
        (PYTEST, 5, "no tests ran in 0.01s", "No test ran"),
        (PYTEST, 5, "", "found no test"),
        (PYTEST, 4, "ERROR: usage", "could not start"),
        (PYTEST, 3, "INTERNALERROR> x", "itself failed"),
        (PYTEST, 2, "!!! _pytest.outcomes.Exit: x !!!", "interrupted"),
        (PYTEST, 1, "/usr/bin/python3: No module named pytest", "runner is missing"),
        (
            PYTEST,
            4,
            "ImportError while loading conftest\nE   ModuleNotFoundError: No module named 'numpy'",
            "module numpy is missing",
        ),
        (
            PYTEST,
            1,
            f"E   ModuleNotFoundError: No module named 'x'\n{SUMMARY}ERROR a.py\n1 error in 0.1s",
            "No test could be collected. The module x is missing",
        ),
        ("python3 -m unittest", 0, "Ran 0 tests in 0s\n\nOK", "No test ran"),
        ("python3 -m unittest", 0, "Ran 2 tests in 0s\n\nOK (skipped=2)", "No test ran"),
        (
            "python3 -m unittest",
            1,
            "=" * 70 + "\nERROR: a (unittest.loader._FailedTest.a)\n" + "-" * 70 + "\nImportError: "
            "x\nModuleNotFoundError: No module named 'x'\nRan 1 test in 0s\n\nFAILED (errors=1)",
            "No test module could be loaded. The module x is missing",
        ),
        ("npm test", 127, "sh: 1: jest: not found", "sh: 1: jest: not found"),
        ("pnpm test", 127, "/bin/sh: 1: pnpm: not found", "pnpm: not found"),
        ("./run", 126, "/bin/sh: 1: ./run: Permission denied", "Permission denied"),
        ("npm test", 1, 'npm error Missing script: "test"', "no such script"),
        ("npm test", 1, "Error: Cannot find module '/x/jest.js'", "package that the tests need"),
        ("npm test", 1, "Error: Cannot find package 'vite'", "package that the tests need"),
        ("make test", 2, "make: *** [Makefile:2: test] Error 127", "Makefile needs is missing"),
        ("make test", 2, "make: *** No rule to make target 'test'.  Stop.", "no such target"),
        ("cargo test", 101, "error: could not compile `x`", "could not be built"),
        ("go test ./...", 1, "go: go.mod requires go >= 1.30", "could not be built"),
        ("go test ./...", 1, "FAIL\tx [build failed]\nFAIL", "No package with tests"),
        ("cargo test", 0, "running 0 tests\ntest result: ok. 0 passed; 0 failed", "No test ran"),
    ],
)
def test_what_can_not_judge_is_unrunnable(
    command: str, exit_code: int, text: str, reason: str
) -> None:
    """No runner, no test or no dependency: the check could not judge, and says why."""
    reading = read(text, command=command, exit_code=exit_code)
    assert reading.status is CheckStatus.UNRUNNABLE
    assert reason in reading.reason


def test_words_of_trouble_in_a_judged_output_are_nothing() -> None:
    """What a suite prints on its way does not make it unrunnable once it has judged."""
    text = f"ModuleNotFoundError: x\n{SUMMARY}FAILED a.py::x\n1 failed, 1 passed in 0.1s"
    assert read(text).status is CheckStatus.FAILED
    assert read("Cannot find module x", exit_code=0).status is CheckStatus.PASSED


def test_a_module_that_fails_twice_has_two_names() -> None:
    """Collected as tests and as doctests, a module fails twice; the list is whole all the same."""
    text = f"{SUMMARY}ERROR a.py\nERROR a.py\n1 passed, 2 errors in 0.1s"
    assert read(text).failures == {"a.py (error)", "a.py (error, again)"}
    assert read(text).complete
    twice = f"{SUMMARY}ERROR a.py::x\nERROR a.py::x\n1 passed, 2 errors in 0.1s"
    assert not read(twice).complete


def test_make_gives_its_own_meaning_to_exit_code_2() -> None:
    """Failed tests under make end with 2, which for pytest itself would mean an interruption."""
    text = f"{SUMMARY}FAILED a.py::x\n1 failed, 1 passed in 0.1s\nmake: *** [test] Error 1"
    assert read(text, exit_code=2).status is CheckStatus.FAILED


ADVERSARIAL = [
    "x",
    "x\n",
    "FAILED a[ - ",
    "FAILED a.py::b - c\n1 failed, 2 passed in 3s\n",
    "    # Subtest: a\nnot ok 1 - x\n--- FAIL: x (\n",
    "FAIL a\n  ● b\nTests: 1 failed, 1 total\nrunning 1 test\n",
]


@pytest.mark.parametrize("piece", ADVERSARIAL)
def test_10_mb_of_hostile_output_give_a_bounded_report(piece: str) -> None:
    """However much a suite prints, what is kept of it is small."""
    text = SUMMARY + piece * ((10 << 20) // len(piece))
    reading = read(text)
    assert len(reading.failures) <= MAX_FAILURES
    assert len(reading.reason) < 4 * MAX_NAME_CHARS
    assert not reading.complete


def test_a_report_that_lacks_its_beginning_is_not_complete() -> None:
    """Where lines had to be left out, failures may be missing however well the rest adds up."""
    text = f"{SUMMARY}FAILED a.py::x\n1 failed, 1 passed in 0.1s"
    assert not read("x\n" * MAX_LINES + text).complete
    assert not read("x" * MAX_OUTPUT_CHARS + text).complete


def test_names_are_bounded_and_printable() -> None:
    """Too many or too long names are cut, and then the list is not whole."""
    many = "".join(f"FAILED a.py::t{n}\n" for n in range(MAX_FAILURES + 1))
    reading = read(f"{SUMMARY}{many}{MAX_FAILURES + 1} failed, 1 passed in 1s")
    assert (len(reading.failures), reading.complete) == (MAX_FAILURES, False)
    long = read(f"{SUMMARY}FAILED a\u202e{'b' * 1000}\n1 failed, 1 passed in 1s")
    (name,) = long.failures
    assert (len(name), long.complete) == (MAX_NAME_CHARS, False)
    assert name.startswith("a?b")


def test_escape_sequences_and_control_characters_do_not_reach_a_person() -> None:
    """Colours, titles, bells, direction marks and broken bytes go; lines and tabs stay."""
    raw = (
        b"\x1b[31mred\x1b[0m\x1b]0;title\x07\tok\x07\x00\r\nnext\rover\xff\x1b(B\xe2\x80\xaeend\x1b"
    )
    assert readable_text(raw) == "red\tok\nnext\nover\ufffdend"


@pytest.mark.parametrize("piece", [b"\x1b[1", b"\x1b]", b"\x1b(", b"1;"])
def test_endless_escape_sequences_are_removed(piece: bytes) -> None:
    """A sequence that never ends leaves no escape character."""
    assert "\x1b" not in plain_text(b"\x1b[" + piece * ((1 << 20) // len(piece)))
