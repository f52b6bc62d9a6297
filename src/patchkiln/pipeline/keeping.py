"""Checks and their results as a step's record keeps them, whole, and back."""

from typing import Any

from patchkiln.domain.check import Check, CheckResult, CheckStatus
from patchkiln.domain.event import JsonObject


def check_json(check: Check) -> JsonObject:
    """Return a check as JSON."""
    return {
        "command": check.command,
        "source": check.source,
        "kind": check.kind,
        "env": check.env,
    }


def check_of(data: dict[str, Any]) -> Check:
    """Read what `check_json` wrote."""
    return Check(command=data["command"], source=data["source"], kind=data["kind"], env=data["env"])


def result_json(result: CheckResult) -> JsonObject:
    """Return a check's result as JSON."""
    return {
        "check": check_json(result.check),
        "status": result.status,
        "exit_code": result.exit_code,
        "duration_ms": result.duration_ms,
        "tail": result.tail,
        "failures": sorted(result.failures),
        "complete": result.complete,
        "tests_run": result.tests_run,
        "reason": result.reason,
    }


def result_of(data: dict[str, Any]) -> CheckResult:
    """Read what `result_json` wrote."""
    return CheckResult(
        check=check_of(data["check"]),
        status=CheckStatus(data["status"]),
        exit_code=data["exit_code"],
        duration_ms=data["duration_ms"],
        tail=data["tail"],
        failures=frozenset(data["failures"]),
        complete=data["complete"],
        tests_run=data["tests_run"],
        reason=data["reason"],
    )
