"""What a test runner's output tells, and how far it can be trusted to be the whole of it.

The output is untrusted. Parsing is linear in its length, and what comes out is bounded. A suite
that wants to lie can; it can lie by its exit code as well.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

MAX_OUTPUT_CHARS = 4 << 20
MAX_LINES = 100_000
MAX_LINE_CHARS = 2000
MAX_FAILURES = 500
MAX_NAME_CHARS = 300
MAX_DIGITS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteReport:
    """What one runner said.

    ``tests_run`` counts what passed or failed, without the skipped; None where the output does not
    tell. ``complete``: ``failures`` names every failure. ``problem`` says why nothing was judged.
    """

    tests_run: int | None = None
    failures: frozenset[str] = frozenset()
    complete: bool = False
    problem: str = ""


class FailureNames:
    """Collects names of failed tests within a bound; ``overflow`` tells that it was too small."""

    def __init__(self) -> None:
        """Start with none."""
        self.found: set[str] = set()
        self.overflow = False

    def add(self, name: str) -> None:
        """Keep a name, shortened and without what can not be printed."""
        name = name.strip()
        if len(name) > MAX_NAME_CHARS or len(self.found) >= MAX_FAILURES:
            self.overflow = True
        if len(self.found) < MAX_FAILURES and name:
            shown = name[:MAX_NAME_CHARS]
            self.found.add("".join(c if c.isprintable() else "?" for c in shown))

    def are_all(self, expected: int) -> bool:
        """Tell whether there are exactly so many failures, each with a name of its own."""
        return not self.overflow and len(self.found) == expected


def lines_of(text: str) -> tuple[list[str], bool]:
    """Return the last lines that are not empty, each cut short; and whether they are all."""
    lines = text[-MAX_OUTPUT_CHARS:].rsplit("\n", MAX_LINES)
    whole = len(text) <= MAX_OUTPUT_CHARS and len(lines) <= MAX_LINES
    return [line[:MAX_LINE_CHARS] for line in lines[-MAX_LINES:] if line], whole


def counts(parts: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Read counts such as ``2 failed``, as (``failed``, 2); parts of another form are left out."""
    for part in parts:
        number, _, word = part.strip().partition(" ")
        if number.isascii() and number.isdigit() and len(number) <= MAX_DIGITS:
            yield word.strip(), int(number)


def merged(reports: Sequence[SuiteReport], *, whole: bool) -> SuiteReport:
    """Return several runners' reports of one command as one; ``whole``: no line is missing."""
    runs = [report.tests_run for report in reports if report.tests_run is not None]
    judged = [report for report in reports if not report.problem]
    return SuiteReport(
        tests_run=sum(runs) if len(runs) == len(reports) else None,
        failures=frozenset[str]().union(*(report.failures for report in reports)),
        complete=whole and all(report.complete for report in reports),
        problem="" if judged else reports[0].problem,
    )
