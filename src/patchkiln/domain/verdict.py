"""The verdict: the repository's own checks on the base against the same on the result.

Each check is judged by itself, and the worst word counts:

============  ===========  ====================================================================
base          result       the check says
============  ===========  ====================================================================
passed        passed       verified
passed        other        regressed
failed        passed       verified: no test fails, so none fails that did not before
failed        failed       regressed with a failure that has a new name, verified without one;
                           unknown where either list of names is not whole, or no test passes
failed        other        unknown: it may be worse, and nothing shows that it is not
no judgement  failed,      unknown
              timed out
no judgement  passed,      silent
              unrunnable
============  ===========  ====================================================================

No judgement is a base on which the check timed out or was unrunnable. Such a check knows neither
what worked nor how many tests there were: that it passes on the result is told, but it can not
vouch for a change that may itself have made it pass.

Where fewer tests ran on the result than on the base, or nobody knows how many, verified becomes
unknown: a test that was deleted, skipped or cut short can not vouch for anything.

One regressed check makes the verdict regressed; else an unknown one makes it unverified; else one
verified check is enough; silent checks alone, or none, leave it unverified. So the verdict is never
better than what was seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from patchkiln.domain.check import CheckResult, CheckStatus, Verdict
from patchkiln.domain.event import JsonValue
from patchkiln.domain.outputs.reading import name_some

CHECKS_OFF = "Checks were switched off for this run."
NO_CHECKS = "The repository has no test command that could be found."

_HOW = {
    CheckStatus.PASSED: "passes",
    CheckStatus.FAILED: "fails",
    CheckStatus.TIMED_OUT: "was stopped at its limit",
    CheckStatus.UNRUNNABLE: "could not run",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict and, as sentences, why. ``new_failures`` and ``fixed`` are sorted test names.

    ``changed_judges`` are the paths of the change that decide what the checks say (`judges_in`).
    """

    verdict: Verdict
    reason: str
    new_failures: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    changed_judges: tuple[str, ...] = ()

    def beside(self, changed_judges: tuple[str, ...]) -> "Judgement":
        """Return the judgement with the judges that the change itself has changed, told."""
        if not changed_judges or self.verdict is not Verdict.VERIFIED:
            return replace(self, changed_judges=changed_judges)
        told = f"{self.reason} The change also changes what judges it: {name_some(changed_judges)}."
        return replace(self, reason=told, changed_judges=changed_judges)

    def as_json(self) -> dict[str, JsonValue]:
        """Return the object that events and the summary carry."""
        return {
            "verdict": self.verdict.value,
            "reason": self.reason,
            "new_failures": list(self.new_failures),
            "fixed": list(self.fixed),
            "changed_judges": list(self.changed_judges),
        }


class _Word(Enum):
    """What a single check says, from good to bad."""

    SILENT = auto()
    VERIFIED = auto()
    UNKNOWN = auto()
    REGRESSED = auto()


_VERDICTS = {
    _Word.SILENT: Verdict.UNVERIFIED,
    _Word.VERIFIED: Verdict.VERIFIED,
    _Word.UNKNOWN: Verdict.UNVERIFIED,
    _Word.REGRESSED: Verdict.REGRESSED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statement:
    word: _Word
    reason: str
    new_failures: frozenset[str] = frozenset()
    fixed: frozenset[str] = frozenset()


def skipped() -> Judgement:
    """Return the judgement of a run whose checks were switched off."""
    return Judgement(verdict=Verdict.SKIPPED, reason=CHECKS_OFF)


def compare(base: Sequence[CheckResult], result: Sequence[CheckResult]) -> Judgement:
    """Compare the checks on the base with the same checks on the result, paired by command.

    The order does not matter. A check that ran on one side alone says nothing that can be known.
    """
    before = {checked.check.command: checked for checked in base}
    after = {checked.check.command: checked for checked in result}
    commands = list(dict.fromkeys([*before, *after]))
    statements = [_judge(before.get(command), after.get(command)) for command in commands]
    if not statements:
        return Judgement(verdict=Verdict.UNVERIFIED, reason=NO_CHECKS)
    worst = max(statements, key=lambda statement: statement.word.value).word
    return Judgement(
        verdict=_VERDICTS[worst],
        reason=_reasons(commands, statements),
        new_failures=tuple(sorted(frozenset[str]().union(*(s.new_failures for s in statements)))),
        fixed=tuple(sorted(frozenset[str]().union(*(s.fixed for s in statements)))),
    )


def _reasons(commands: Sequence[str], statements: Sequence[_Statement]) -> str:
    """Name the commands only where there are several."""
    if len(statements) == 1:
        return statements[0].reason
    pairs = zip(commands, statements, strict=True)
    return " ".join(f"{command}: {statement.reason}" for command, statement in pairs)


def _judge(base: CheckResult | None, result: CheckResult | None) -> _Statement:
    if base is None or result is None:
        side = "base" if base is None else "result"
        return _Statement(word=_Word.UNKNOWN, reason=f"It was not run on the {side}.")
    if base.status is CheckStatus.PASSED:
        return _judge_green(base, result)
    if base.status is CheckStatus.FAILED:
        return _judge_red(base, result)
    return _judge_blind(base, result)


def _judge_green(base: CheckResult, result: CheckResult) -> _Statement:
    if result.status is CheckStatus.PASSED:
        return _no_fewer(base, result, _Word.VERIFIED, "All tests pass, as before.")
    reason = f"It passed before, and now it {_HOW[result.status]}. {result.reason}".rstrip()
    return _Statement(word=_Word.REGRESSED, reason=reason, new_failures=result.failures)


def _judge_red(base: CheckResult, result: CheckResult) -> _Statement:
    if result.status is CheckStatus.PASSED:
        reason = "It failed before, and now every test that ran passes."
        return _no_fewer(base, result, _Word.VERIFIED, reason, fixed=base.failures)
    if result.status is not CheckStatus.FAILED:
        reason = f"It failed before, and now it {_HOW[result.status]}. {result.reason}".rstrip()
        return _Statement(word=_Word.UNKNOWN, reason=reason)
    if not (base.complete and result.complete):
        reason = "It failed before and fails now, and the output does not name every failed test."
        return _Statement(word=_Word.UNKNOWN, reason=reason)
    return _judge_names(base, result)


def _judge_names(base: CheckResult, result: CheckResult) -> _Statement:
    new, fixed = result.failures - base.failures, base.failures - result.failures
    word, reason = _Word.VERIFIED, "Tests fail that failed before; no other does."
    if new:
        word, reason = _Word.REGRESSED, f"Tests fail that did not before: {name_some(new)}."
    elif not (_any_passed(base) and _any_passed(result)):
        word, reason = _Word.UNKNOWN, "No test passes that could show a difference."
    return _no_fewer(base, result, word, reason, new_failures=new, fixed=fixed)


def _judge_blind(base: CheckResult, result: CheckResult) -> _Statement:
    before = f"Before the change it {_HOW[base.status]}. {base.reason}".rstrip()
    if result.status is CheckStatus.UNRUNNABLE:
        return _Statement(word=_Word.SILENT, reason=before)
    word = _Word.SILENT if result.status is CheckStatus.PASSED else _Word.UNKNOWN
    return _Statement(word=word, reason=f"{before} Now it {_HOW[result.status]}.")


def _any_passed(checked: CheckResult) -> bool:
    """Tell whether a test passed; where the runner does not count, it is believed."""
    return checked.tests_run is None or checked.tests_run > len(checked.failures)


def _no_fewer(
    base: CheckResult,
    result: CheckResult,
    word: _Word,
    reason: str,
    *,
    new_failures: frozenset[str] = frozenset(),
    fixed: frozenset[str] = frozenset(),
) -> _Statement:
    """Say the word, unless tests ran before that did not now: deleted, skipped or cut short."""
    before, now = base.tests_run, result.tests_run
    if before is not None and (now is None or now < before):
        told = "an unknown number" if now is None else now
        reason = f"{reason} Fewer tests ran than before: {told} instead of {before}."
        word = max(word, _Word.UNKNOWN, key=lambda each: each.value)
    return _Statement(word=word, reason=reason, new_failures=new_failures, fixed=fixed)
