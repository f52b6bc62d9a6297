"""How a check ended, by its exit code and its output together."""

from collections.abc import Collection
from dataclasses import dataclass

from patchkiln.domain.check import CheckStatus
from patchkiln.domain.outputs import SuiteReport, read_report
from patchkiln.domain.wording import counted

NOT_EXECUTABLE, NOT_FOUND = 126, 127
# https://docs.pytest.org/en/stable/reference/exit-codes.html
PYTEST_EXITS = {
    2: "pytest was interrupted.",
    3: "pytest itself failed.",
    4: "pytest could not start.",
    5: "pytest found no test.",
}
# These print a report whenever they got as far as running a test.
_BUILDERS = ("cargo ", "go ")
_MISSING = (
    (": No module named ", "The test runner is missing in the sandbox."),
    ("ModuleNotFoundError: ", "A module that the tests need is missing in the sandbox."),
    ("Cannot find module ", "A package that the tests need is missing in the sandbox."),
    ("Cannot find package ", "A package that the tests need is missing in the sandbox."),
    ("] Error 126", "A program that the Makefile needs can not be run in the sandbox."),
    ("] Error 127", "A program that the Makefile needs is missing in the sandbox."),
    ("*** No rule to make target", "The Makefile has no such target."),
    ("Missing script: ", "The package has no such script."),
    ("missing script: ", "The package has no such script."),
)
_MODULE = "No module named '"
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The fields of a `CheckResult` that exit code and output tell."""

    status: CheckStatus
    reason: str
    failures: frozenset[str] = frozenset()
    complete: bool = False
    tests_run: int | None = None


def read_result(command: str, *, exit_code: int, text: str, truncated: bool) -> Reading:
    """Judge a check that ended by itself.

    ``text`` is its plain output; ``truncated`` tells that some of it is missing, so that no list
    of failures is taken for whole. A command that exits 0 though its runner named every failed
    test has failed: ``|| true`` hides nothing.
    """
    report = read_report(text)
    problem = _problem(command, exit_code, text, report)
    if problem:
        return Reading(status=CheckStatus.UNRUNNABLE, reason=problem)
    report = report or SuiteReport()
    if exit_code == 0 and not (report.complete and report.failures):
        return Reading(
            status=CheckStatus.PASSED, reason=_passed(report), tests_run=report.tests_run
        )
    return Reading(
        status=CheckStatus.FAILED,
        reason=_failed(report, exit_code),
        failures=report.failures,
        complete=report.complete and bool(report.failures) and not truncated,
        tests_run=report.tests_run,
    )


def name_some(names: Collection[str]) -> str:
    """Return a few names as a list for a sentence."""
    shown = sorted(names)[:_NAMED]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _problem(command: str, exit_code: int, text: str, report: SuiteReport | None) -> str:
    """Return why the check could not judge, empty where it did."""
    if exit_code in {NOT_FOUND, NOT_EXECUTABLE}:
        return f"A program that the command needs is missing in the sandbox: {_last_line(text)}"
    if report is not None and report.problem:
        return report.problem + _missing_module(text)
    if exit_code in PYTEST_EXITS and _calls_pytest(command):
        return PYTEST_EXITS[exit_code] + _missing_module(text)
    if exit_code == 0 or report is not None:
        return ""
    for sign, problem in _MISSING:
        if sign in text:
            return problem + _missing_module(text)
    return "The tests could not be built." if command.startswith(_BUILDERS) else ""


def _calls_pytest(command: str) -> bool:
    """Tell whether the exit code is pytest's own and not make's or npm's."""
    programs = {word.rpartition("/")[2] for word in command.split()}
    return not programs.isdisjoint({"pytest", "py.test"})


def _missing_module(text: str) -> str:
    _, found, rest = text.rpartition(_MODULE)
    name = rest[:100].partition("'")[0]
    return f" The module {name} is missing in the sandbox." if found and name.isprintable() else ""


def _last_line(text: str) -> str:
    line = text.rstrip()[-200:].rpartition("\n")[2]
    return "".join(c for c in line if c.isprintable())


def _passed(report: SuiteReport) -> str:
    return "" if report.tests_run is None else f"{counted(report.tests_run, 'test')} passed."


def _failed(report: SuiteReport, exit_code: int) -> str:
    if report.failures:
        return f"{len(report.failures)} failed: {name_some(report.failures)}."
    return f"The command ended with exit code {exit_code}."
