"""What test runners print about their failures: one parser a runner, listed in `PARSERS`."""

from collections.abc import Callable, Sequence

from patchkiln.domain.outputs import cargo, go, jest, node, pytest, unittest
from patchkiln.domain.outputs.report import SuiteReport, lines_of, merged

__all__ = ["SuiteReport", "read_report"]

PARSERS: tuple[Callable[[Sequence[str]], SuiteReport | None], ...] = (
    pytest.parse,
    unittest.parse,
    jest.parse_jest,
    jest.parse_vitest,
    node.parse_tap,
    node.parse_spec,
    go.parse,
    cargo.parse,
)


def read_report(text: str) -> SuiteReport | None:
    """Return what the test runners in a command's output said together, None where none is known.

    ``text`` is plain (`patchkiln.domain.terminal.plain_text`). A command may start several runners.
    """
    lines, whole = lines_of(text)
    reports = [report for parse in PARSERS if (report := parse(lines)) is not None]
    return merged(reports, whole=whole) if reports else None
