"""Checks: commands that judge a workspace, and the verdict that their results give.

The agent's own word plays no part here: the harness runs the same commands on the base and on the
result, and compares.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from patchkiln.domain.event import JsonValue

TEST = "test"
# A check that the repository names, but whose command can not run in a sandbox: never executed.
UNTOLD = "untold"


class Verdict(StrEnum):
    """What the repository's own checks say of the change."""

    VERIFIED = "verified"
    REGRESSED = "regressed"
    UNVERIFIED = "unverified"
    SKIPPED = "skipped"


class CheckStatus(StrEnum):
    """How a check ended.

    ``TIMED_OUT``: it was stopped at its time or output limit. ``UNRUNNABLE``: it could not judge
    (no runner, no test, broken set-up).
    """

    PASSED = "passed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    UNRUNNABLE = "unrunnable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A shell command run in the workspace's root. ``source`` says what named it.

    ``kind`` is `TEST` or `UNTOLD`. ``PYTHONPATH`` in ``env`` goes before the sandbox's own.
    """

    command: str
    source: str
    kind: str = TEST
    env: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One run of a check.

    ``failures`` are ids of failed tests where the output names them; ``complete`` tells that the
    list is whole, so that two lists can be compared. ``tests_run`` counts the tests that passed or
    failed, None where the output does not tell.
    """

    check: Check
    status: CheckStatus
    exit_code: int | None
    duration_ms: int
    tail: str
    failures: frozenset[str] = frozenset()
    complete: bool = False
    tests_run: int | None = None
    reason: str = ""

    def as_json(self) -> dict[str, JsonValue]:
        """Return the object that ``check.finished`` and the summary carry."""
        return {
            "command": self.check.command,
            "source": self.check.source,
            "status": self.status.value,
            "exit_code": self.exit_code,
            "duration_ms": self.duration_ms,
            "failures": sorted(self.failures),
            "tests_run": self.tests_run,
            "reason": self.reason,
            "tail": self.tail,
        }
