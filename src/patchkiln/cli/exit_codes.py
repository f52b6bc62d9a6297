"""What the command line's exit codes mean."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The contract's exit codes; ``SIGNALLED`` is added to a signal's number, as shells do."""

    OK = 0
    FAILED = 1
    USAGE = 2
    BUDGET = 3
    TIMED_OUT = 124
    NO_SANDBOX = 125
    SIGNALLED = 128
    CANCELLED = 130


_OF_OUTCOME = {
    "changed": ExitCode.OK,
    "no_change": ExitCode.OK,
    "budget_exhausted": ExitCode.BUDGET,
    "cancelled": ExitCode.CANCELLED,
}


def exit_code_of(outcome: str) -> ExitCode:
    """Return the exit code for a run's outcome; what failed or was refused is 1."""
    return _OF_OUTCOME.get(outcome, ExitCode.FAILED)
