"""node:test: its two forms, TAP (to Node.js 22) and ``spec`` (from 23, and at a terminal)."""

from collections.abc import Sequence

from patchkiln.domain.outputs.report import FailureNames, SuiteReport, counts

_TOTALS = frozenset({"tests", "suites", "pass", "fail", "cancelled", "skipped", "todo"})
_DIRECTIVES = ("# TODO", "# SKIP")
_INDENT = 4
_MAX_DEPTH = 50


def parse_tap(lines: Sequence[str]) -> SuiteReport | None:
    """Read ``not ok`` points under their ``# Subtest`` path, and ``# fail 2`` at the end."""
    names = FailureNames()
    totals: dict[str, int] = {}
    path: list[str] = []
    point = ""
    for line in lines:
        text = line.lstrip(" ")
        depth = min((len(line) - len(text)) // _INDENT, _MAX_DEPTH)
        if text.startswith("# Subtest: "):
            path[depth:] = [text.removeprefix("# Subtest: ")]
        elif text.startswith(("ok ", "not ok ")):
            names.add(point)
            point = _point(text, path[:depth])
        elif text == "type: 'suite'":
            point = ""  # a suite fails with its tests, and is not counted
        elif line.startswith("# "):
            totals.update(_total(line[2:]))
    names.add(point)
    return _report(names, totals)


def parse_spec(lines: Sequence[str]) -> SuiteReport | None:
    """Read the section of failing tests, and the totals before it."""
    names = FailureNames()
    totals: dict[str, int] = {}
    file = ""
    for line in lines:
        if line.startswith("\u2139 "):
            totals.update(_total(line[2:]))
        elif line.startswith("test at "):
            file = line.removeprefix("test at ").rsplit(":", 2)[0]
        elif file and line.startswith("✖ "):
            name = line[2:].rpartition(" (")[0] or line[2:]
            names.add("" if line.endswith(_DIRECTIVES) else f"{file} > {name}")
            file = ""
    return _report(names, totals)


def _report(names: FailureNames, totals: dict[str, int]) -> SuiteReport | None:
    if not {"tests", "pass", "fail"} <= totals.keys():
        return None
    failed = totals["fail"] + totals.get("cancelled", 0)
    ran = totals["pass"] + failed
    return SuiteReport(
        tests_run=ran,
        failures=frozenset(names.found),
        complete=names.are_all(failed),
        problem="" if ran else "No test ran.",
    )


def _point(text: str, path: Sequence[str]) -> str:
    """Return the name of a failed point under its path; of a passed or excused one nothing."""
    if not text.startswith("not ok ") or any(mark in text for mark in _DIRECTIVES):
        return ""
    name = text.removeprefix("not ok ").lstrip("0123456789").removeprefix(" - ")
    return " > ".join([*path, name])


def _total(text: str) -> dict[str, int]:
    word, _, number = text.partition(" ")
    return dict(counts([f"{number.strip()} {word}"])) if word in _TOTALS else {}
