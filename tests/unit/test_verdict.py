"""The verdict: what the checks say, before against after."""

from typing import Any

import pytest

from patchkiln.domain.check import Check, CheckResult, CheckStatus, Verdict
from patchkiln.domain.judges import judges_in
from patchkiln.domain.verdict import CHECKS_OFF, NO_CHECKS, Judgement, compare, skipped

PASSED, FAILED = CheckStatus.PASSED, CheckStatus.FAILED
TIMED_OUT, UNRUNNABLE = CheckStatus.TIMED_OUT, CheckStatus.UNRUNNABLE
VERIFIED, REGRESSED, UNVERIFIED = Verdict.VERIFIED, Verdict.REGRESSED, Verdict.UNVERIFIED


def result(status: CheckStatus, *failures: str, **fields: Any) -> CheckResult:
    """Return a result; named failures make a whole list of 10 tests, unless the fields differ."""
    named: dict[str, Any] = {"complete": bool(failures), "tests_run": 10 if failures else None}
    return CheckResult(
        check=Check(command=str(fields.pop("command", "make test")), source="Makefile"),
        status=status,
        exit_code=0,
        duration_ms=1,
        tail="",
        failures=frozenset(failures),
        **{**named, **fields},
    )


def judge(base: CheckResult, after: CheckResult) -> Judgement:
    """Compare one check."""
    return compare([base], [after])


@pytest.mark.parametrize(
    ("base", "after", "verdict"),
    [
        (result(PASSED), result(PASSED), VERIFIED),
        (result(PASSED), result(FAILED), REGRESSED),
        (result(PASSED), result(FAILED, "a"), REGRESSED),
        (result(PASSED), result(TIMED_OUT), REGRESSED),
        (result(PASSED), result(UNRUNNABLE), REGRESSED),
        (result(FAILED), result(PASSED), VERIFIED),
        (result(FAILED, "a"), result(PASSED, tests_run=10), VERIFIED),
        (result(FAILED, "a"), result(PASSED), UNVERIFIED),
        (result(FAILED, "a"), result(FAILED, "a"), VERIFIED),
        (result(FAILED, "a", "b"), result(FAILED, "a"), VERIFIED),
        (result(FAILED, "a"), result(FAILED, "a", "b"), REGRESSED),
        (result(FAILED, "a"), result(FAILED, "b"), REGRESSED),
        (result(FAILED), result(FAILED), UNVERIFIED),
        (result(FAILED), result(FAILED, "a"), UNVERIFIED),
        (result(FAILED, "a"), result(FAILED), UNVERIFIED),
        (result(FAILED, "a", complete=False), result(FAILED, "a"), UNVERIFIED),
        (result(FAILED, "a"), result(FAILED, "a", complete=False), UNVERIFIED),
        (result(FAILED, "a", tests_run=1), result(FAILED, "a", tests_run=1), UNVERIFIED),
        (result(FAILED, "a"), result(FAILED, "a", tests_run=1), UNVERIFIED),
        (result(FAILED, "a", tests_run=None), result(FAILED, "a", tests_run=None), VERIFIED),
        (result(FAILED, "a"), result(TIMED_OUT), UNVERIFIED),
        (result(FAILED, "a"), result(UNRUNNABLE), UNVERIFIED),
        (result(TIMED_OUT), result(PASSED), UNVERIFIED),
        (result(TIMED_OUT), result(FAILED, "a"), UNVERIFIED),
        (result(TIMED_OUT), result(TIMED_OUT), UNVERIFIED),
        (result(TIMED_OUT), result(UNRUNNABLE), UNVERIFIED),
        (result(UNRUNNABLE), result(PASSED), UNVERIFIED),
        (result(UNRUNNABLE), result(FAILED, "a"), UNVERIFIED),
        (result(UNRUNNABLE), result(TIMED_OUT), UNVERIFIED),
        (result(UNRUNNABLE), result(UNRUNNABLE), UNVERIFIED),
    ],
)
def test_one_check_before_against_after(
    base: CheckResult, after: CheckResult, verdict: Verdict
) -> None:
    """Every pair of endings has its verdict, never better than what was seen, and a reason."""
    judgement = judge(base, after)
    assert judgement.verdict is verdict
    assert judgement.reason.endswith(".")


def test_new_failures_and_fixed_tests_are_named() -> None:
    """Names that came and names that went are told, sorted."""
    judgement = judge(result(FAILED, "a", "d", "c"), result(FAILED, "a", "z", "b"))
    assert judgement.new_failures == ("b", "z")
    assert judgement.fixed == ("c", "d")
    assert "b, z" in judgement.reason


def test_failures_of_a_green_base_are_new() -> None:
    """Where everything passed before, every failure is new."""
    judgement = judge(result(PASSED), result(FAILED, "b", "a", reason="2 failed: a, b."))
    assert judgement.new_failures == ("a", "b")
    assert "2 failed: a, b." in judgement.reason


def test_a_red_base_that_turns_green_is_fixed() -> None:
    """What failed before and fails no more is told as fixed."""
    assert judge(result(FAILED, "b", "a"), result(PASSED)).fixed == ("a", "b")


@pytest.mark.parametrize(
    ("base", "after"),
    [
        (result(PASSED, tests_run=34), result(PASSED, tests_run=31)),
        (result(FAILED, "a", tests_run=34), result(PASSED, tests_run=31)),
        (result(FAILED, "a", tests_run=34), result(FAILED, "a", tests_run=31)),
    ],
)
def test_fewer_tests_than_before_verify_nothing(base: CheckResult, after: CheckResult) -> None:
    """Deleted or skipped tests do not fail, so that a change without them is not verified."""
    judgement = judge(base, after)
    assert judgement.verdict is UNVERIFIED
    assert "31 instead of 34" in judgement.reason


def test_a_suite_that_no_longer_tells_its_number_verifies_nothing() -> None:
    """A runner that was cut short exits 0 and counts nothing."""
    judgement = judge(result(PASSED, tests_run=5), result(PASSED))
    assert judgement.verdict is UNVERIFIED
    assert "an unknown number instead of 5" in judgement.reason


def test_fewer_tests_do_not_hide_a_regression() -> None:
    """The worse word counts."""
    judgement = judge(result(PASSED, tests_run=5), result(FAILED, "a", tests_run=1))
    assert judgement.verdict is REGRESSED


def test_as_many_tests_or_more_are_nothing_to_tell() -> None:
    """New tests, and runners that never count, raise no flag."""
    assert "Fewer" not in judge(result(PASSED, tests_run=3), result(PASSED, tests_run=4)).reason
    assert "Fewer" not in judge(result(PASSED), result(PASSED)).reason


def test_changed_judges_are_told_beside_a_verified_change() -> None:
    """Who reads "verified" sees that the change touched what judges it."""
    verified = judge(result(PASSED), result(PASSED))
    told = verified.beside(("conftest.py", "tests/test_a.py"))
    assert told.verdict is VERIFIED
    assert told.reason.endswith("what judges it: conftest.py, tests/test_a.py.")
    assert told.as_json()["changed_judges"] == ["conftest.py", "tests/test_a.py"]
    assert verified.beside(()) == verified


@pytest.mark.parametrize(
    "path",
    [
        "conftest.py",
        "sub/conftest.py",
        "pytest.ini",
        "pytest.py",
        "tests/data/a.json",
        "src/pkg/test_a.py",
        "pkg/a_test.go",
        "web/app.test.tsx",
        "Makefile",
        "pyproject.toml",
        "sitecustomize.py",
        "__tests__/a.js",
    ],
)
def test_files_that_decide_what_checks_say_are_judges(path: str) -> None:
    """Tests, their set-up, and modules that shadow a runner."""
    assert judges_in(["src/app.py", path, "docs/testing.md", "contest.py"]) == (path,)


def test_why_nothing_could_be_judged_is_said() -> None:
    """The reason of an unrunnable check stands in the verdict's."""
    why = "The test runner is missing in the sandbox."
    blind = result(UNRUNNABLE, reason=why)
    assert why in judge(blind, blind).reason


def test_without_checks_nothing_is_verified() -> None:
    """No check at all is said plainly, and is not the same as checks switched off."""
    judgement = compare([], [])
    assert (judgement.verdict, judgement.reason) == (UNVERIFIED, NO_CHECKS)
    assert (skipped().verdict, skipped().reason) == (Verdict.SKIPPED, CHECKS_OFF)


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ((PASSED, PASSED), (PASSED, FAILED), REGRESSED),
        ((PASSED, PASSED), (UNRUNNABLE, UNRUNNABLE), VERIFIED),
        ((PASSED, PASSED), (UNRUNNABLE, PASSED), VERIFIED),
        ((PASSED, PASSED), (UNRUNNABLE, FAILED), UNVERIFIED),
        ((PASSED, PASSED), (TIMED_OUT, TIMED_OUT), UNVERIFIED),
        ((PASSED, PASSED), (FAILED, FAILED), UNVERIFIED),
        ((PASSED, FAILED), (FAILED, FAILED), REGRESSED),
        ((UNRUNNABLE, UNRUNNABLE), (UNRUNNABLE, UNRUNNABLE), UNVERIFIED),
    ],
)
def test_the_worst_of_several_checks_counts(
    first: tuple[CheckStatus, CheckStatus],
    second: tuple[CheckStatus, CheckStatus],
    verdict: Verdict,
) -> None:
    """Regressed beats unknown beats verified; a check that could not judge holds nobody back."""
    base = [result(first[0], command="npm test"), result(second[0], command="go test")]
    after = [result(second[1], command="go test"), result(first[1], command="npm test")]
    judgement = compare(base, after)
    assert judgement.verdict is verdict
    assert "npm test: " in judgement.reason
    assert "go test: " in judgement.reason


@pytest.mark.parametrize("missing", ["base", "result"])
def test_a_check_that_ran_on_one_side_alone_proves_nothing(missing: str) -> None:
    """A run that was cut short between its checks is not verified by those that ran."""
    both = [result(PASSED, command="a"), result(PASSED, command="b")]
    sides = {"base": both, "result": both} | {missing: both[:1]}
    judgement = compare(sides["base"], sides["result"])
    assert judgement.verdict is UNVERIFIED
    assert f"not run on the {missing}" in judgement.reason


def test_the_judgement_is_plain_data() -> None:
    """Events and the summary carry the verdict, its reason and the names."""
    assert judge(result(FAILED, "a"), result(FAILED, "b")).as_json() == {
        "verdict": "regressed",
        "reason": "Tests fail that did not before: b.",
        "new_failures": ["b"],
        "fixed": ["a"],
        "changed_judges": [],
    }
