"""cargo test: one ``test NAME ... FAILED`` a test, one ``test result`` line a program."""

from collections.abc import Sequence

from patchkiln.domain.outputs.report import FailureNames, SuiteReport, counts

_RESULT = "test result: "


def parse(lines: Sequence[str]) -> SuiteReport | None:
    """Return what all test programs of a workspace said together."""
    names = FailureNames()
    started = ended = passed = failed = 0
    for line in lines:
        if line.startswith("running ") and line.endswith((" tests", " test")):
            started += 1
        elif line.startswith(_RESULT):
            found = dict(counts(line.partition(". ")[2].split(";")))
            ended, passed = ended + 1, passed + found.get("passed", 0)
            failed += found.get("failed", 0)
        elif line.startswith("test ") and line.endswith(" ... FAILED"):
            names.add(line[5:].removesuffix(" ... FAILED"))
    if not started:
        return None
    return SuiteReport(
        tests_run=passed + failed,
        failures=frozenset(names.found),
        complete=started == ended and names.are_all(failed),
        problem="" if passed + failed or started > ended else "No test ran.",
    )
