"""unittest: the blocks of failures, the number that ran, and the closing line."""

from collections.abc import Sequence

from patchkiln.domain.outputs.report import FailureNames, SuiteReport, counts

_SEPARATOR = "=" * 70
_KINDS = ("FAIL: ", "ERROR: ", "UNEXPECTED SUCCESS: ")
_NOT_LOADED = "(unittest.loader._FailedTest"
_FAILED = ("failures", "errors", "unexpected successes")


def parse(lines: Sequence[str]) -> SuiteReport | None:
    """Return what the closing lines say, None where no ``Ran N tests`` stands."""
    names = FailureNames()
    ran = failed = skipped = seen = 0
    before = ""
    for line in lines:
        if line.startswith(_KINDS) and (before == _SEPARATOR or line.startswith(_KINDS[2])):
            names.add(line.partition(": ")[2])
        elif line.startswith("Ran ") and line.partition(" test")[2]:
            seen += 1
            ran += _number(line[4:].partition(" ")[0])
        elif seen and line.startswith(("FAILED (", "OK (")):
            found = _closing(line)
            failed += sum(found.get(word, 0) for word in _FAILED)
            skipped += found.get("skipped", 0)
        before = line
    return _report(names, ran - skipped, failed) if seen else None


def _report(names: FailureNames, ran: int, failed: int) -> SuiteReport:
    unloaded = sum(_NOT_LOADED in name for name in names.found)
    nothing = "No test ran." if ran <= 0 and not failed else ""
    broken = unloaded and unloaded == ran
    return SuiteReport(
        tests_run=max(ran, 0),
        failures=frozenset(names.found),
        complete=names.are_all(failed),
        problem=nothing or ("No test module could be loaded." if broken else ""),
    )


def _closing(line: str) -> dict[str, int]:
    """Read ``FAILED (failures=2, errors=1)``."""
    inside = line.partition("(")[2].rstrip(") ")
    pairs = (part.strip().partition("=") for part in inside.split(","))
    return {word: _number(number) for word, _, number in pairs}


def _number(text: str) -> int:
    return dict(counts([f"{text} n"])).get("n", 0)
