"""What exit codes mean."""

import pytest

from patchkiln.cli.exit_codes import exit_code_of
from patchkiln.domain.run import Outcome


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome.CHANGED, 0),
        (Outcome.NO_CHANGE, 0),
        (Outcome.FAILED, 1),
        (Outcome.REFUSED, 1),
        (Outcome.BUDGET_EXHAUSTED, 3),
        (Outcome.CANCELLED, 130),
    ],
)
def test_every_outcome_has_the_exit_code_of_the_contract(outcome: Outcome, code: int) -> None:
    """A script can tell by the exit code alone how a run ended."""
    assert exit_code_of(outcome) == code


def test_no_outcome_at_all_is_a_failure() -> None:
    """A run whose end was never seen did not succeed."""
    assert exit_code_of("") == 1
