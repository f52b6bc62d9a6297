"""pytest: the short test summary (``-rfE``) and the line of counts."""

from collections.abc import Sequence

from patchkiln.domain.outputs.report import FailureNames, SuiteReport, counts

_RAN = frozenset({"passed", "failed", "error", "errors", "xfailed", "xpassed"})
_FAILED = frozenset({"failed", "error", "errors"})
_ERROR, _AGAIN = " (error)", " (error, again)"
_CUT_SHORT = ("stopping after ", "Interrupted: ", "_pytest.outcomes.Exit: ")


def parse(lines: Sequence[str]) -> SuiteReport | None:
    """Return what the summary says, None where there is no line of counts."""
    names = FailureNames()
    total = dict.fromkeys(_RAN, 0)
    seen = in_summary = cut_short = False
    for line in lines:
        if line.startswith("=") and " short test summary info " in line:
            in_summary = True
        elif line.startswith("!"):
            cut_short |= line.strip("! ").startswith(_CUT_SHORT)
        elif (found := _count_line(line)) is not None:
            seen, in_summary = True, False
            for word, number in found.items():
                total[word] += number
        elif in_summary:
            _add_name(names, line)
    failed = sum(total[word] for word in _FAILED)
    return _report(names, sum(total.values()), failed, cut_short=cut_short) if seen else None


def _report(names: FailureNames, ran: int, failed: int, *, cut_short: bool) -> SuiteReport:
    nothing = "No test ran." if ran == 0 else ""
    broken = ran == failed and all(_is_collection_error(name) for name in names.found)
    return SuiteReport(
        tests_run=ran,
        failures=frozenset(names.found),
        complete=names.are_all(failed) and not cut_short,
        problem=nothing or ("No test could be collected." if broken else ""),
    )


def _count_line(line: str) -> dict[str, int] | None:
    """Read ``=== 1 failed, 2 passed in 0.03s ===``; bare in quiet mode."""
    body, timed, duration = line.strip("= ").rpartition(" in ")
    if not timed or not duration[:1].isdigit():
        return None
    if body == "no tests ran":
        return {}
    found = dict(counts(body.split(",")))
    ran = {word: number for word, number in found.items() if word in _RAN}
    others = {"skipped", "deselected", "warning", "warnings", "rerun", "subtests passed"}
    return ran if found and found.keys() & (_RAN | others) else None


def _add_name(names: FailureNames, line: str) -> None:
    word, _, rest = line.partition(" ")
    if word == "FAILED":
        names.add(_node(rest))
    elif word == "ERROR":
        node = _node(rest)
        # With --doctest-modules a module is collected twice, and fails twice under one name.
        again = "::" not in node and f"{node}{_ERROR}" in names.found
        names.add(f"{node}{_AGAIN if again else _ERROR}")
    elif line.startswith("SUBFAILED"):
        names.add(_node(line.removeprefix("SUBFAILED")))


def _node(text: str) -> str:
    """Cut the message off; a parameter in square brackets may hold the same `` - ``."""
    parts = text.split(" - ")
    if "[" in parts[0]:
        for end in range(1, len(parts)):
            if parts[end - 1].endswith("]"):
                return " - ".join(parts[:end])
    return parts[0]


def _is_collection_error(name: str) -> bool:
    return name.endswith((_ERROR, _AGAIN)) and "::" not in name
