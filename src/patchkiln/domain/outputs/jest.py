"""jest and vitest: failing files, failing tests by their path of names, and two lines of counts."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from patchkiln.domain.outputs.report import FailureNames, SuiteReport, counts

_JEST_BULLET = "  ● "
_JEST_BROKEN = "Test suite failed to run"
_JEST_NOTES = ("Console", "Cannot log after tests are done")


@dataclass(slots=True)
class _Failing:
    """Failing files, and failing tests, whose names begin with their file's."""

    files: FailureNames = field(default_factory=FailureNames)
    tests: FailureNames = field(default_factory=FailureNames)

    def report(self, files: dict[str, int], tests: dict[str, int]) -> SuiteReport:
        ran = tests.get("passed", 0) + tests.get("failed", 0)
        whole = self.files.are_all(files.get("failed", 0))
        broken = {name for name in self.files.found if not self._has_test(name)}
        return SuiteReport(
            tests_run=ran,
            failures=frozenset(self.tests.found | broken),
            complete=whole and self.tests.are_all(tests.get("failed", 0)),
            problem="" if ran else "No test ran.",
        )

    def _has_test(self, file: str) -> bool:
        return any(name.startswith(f"{file} ") for name in self.tests.found)


def parse_jest(lines: Sequence[str]) -> SuiteReport | None:
    """Read ``FAIL file``, ``  ● group > name`` below it, ``Tests: 2 failed, 5 total``."""
    failing = _Failing()
    files: dict[str, int] = {}
    tests: dict[str, int] = {}
    file = ""
    for line in lines:
        if line.startswith("FAIL "):
            file = line[5:].partition(" (")[0].strip()
            failing.files.add(file)
        elif file and line.startswith(_JEST_BULLET):
            name = line.removeprefix(_JEST_BULLET)
            if not name.startswith((_JEST_BROKEN, *_JEST_NOTES)):
                failing.tests.add(f"{file} > {name}")
        elif line.startswith("Test Suites: "):
            files = dict(counts(line.partition(":")[2].split(",")))
        elif line.startswith("Tests: "):
            tests = dict(counts(line.partition(":")[2].split(",")))
    return failing.report(files, tests) if "total" in tests else None


def parse_vitest(lines: Sequence[str]) -> SuiteReport | None:
    """Read `` FAIL  file > group > name`` and ``Tests  2 failed | 1 passed (3)``."""
    failing = _Failing()
    files: dict[str, int] | None = None
    tests: dict[str, int] = {}
    for line in lines:
        text = line.strip()
        if line.startswith(" FAIL  "):
            file, nested, _ = text[4:].strip().partition(" > ")
            failing.files.add(file.partition(" [ ")[0])
            if nested:
                failing.tests.add(text[4:])
        elif text.startswith("Test Files  "):
            files = _piped(text.removeprefix("Test Files"))
        elif text.startswith("Tests  "):
            tests = _piped(text.removeprefix("Tests"))
    return None if files is None else failing.report(files, tests)


def _piped(text: str) -> dict[str, int]:
    return dict(counts(text.partition("(")[0].split("|")))
