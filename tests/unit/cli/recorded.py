"""The events of three runs, as a server sends them."""

from typing import Any

RUN_ID = "run_0193f4a5b6c7d8e9f0a1b2c3"
STARTED_AT_MS = 1_704_067_200_000


class _Recording:
    """Numbers events as the log does."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.step = "init"
        self.progress = 0

    def tell(self, event: str, message: str, **fields: Any) -> None:
        self.progress = fields.pop("progress", self.progress)
        self.events.append(
            {
                "type": fields.pop("type", "info"),
                "message": message,
                "step": self.step,
                "progress": self.progress,
                "timestamp": STARTED_AT_MS + 100 * len(self.events),
                "run_id": RUN_ID,
                "seq": len(self.events) + 1,
                "event": event,
                "data": fields.pop("data", {}),
                **fields,
            }
        )

    def begin(self, step: str) -> None:
        self.step = step
        self.tell("step.started", f"Step {step}")

    def end(self, progress: int, duration_ms: int) -> None:
        self.tell(
            "step.completed",
            f"Step {self.step} completed in {duration_ms} ms",
            type="success",
            progress=progress,
            data={"duration_ms": duration_ms},
        )

    def check(self, phase: str, status: str, *, duration_ms: int, tail: str = "") -> None:
        command = "python -m pytest -q"
        self.tell("check.started", f"Checking the {phase}: {command}", data={"phase": phase})
        self.tell(
            "check.finished",
            f"Check on the {phase} {status}",
            type="success" if status == "passed" else "warning",
            data={
                "phase": phase,
                "command": command,
                "source": "pyproject.toml",
                "status": status,
                "exit_code": 0 if status == "passed" else 1,
                "duration_ms": duration_ms,
                "failures": [],
                "reason": "",
                "tail": tail,
            },
        )

    def finish(self, outcome: str, verdict: str, **summary: Any) -> None:
        self.tell(
            "run.finished",
            "Processing completed",
            type="summary",
            progress=100,
            summary={
                "repository": "inventory",
                "prompt": "Add better error handling",
                "files_modified": 0,
                "sandbox_id": "sbx_91ac0a2be5d1f1f0",
                "duration_ms": 3210,
                "outcome": outcome,
                "verdict": verdict,
                "usage": {"turns": 0, "input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0},
                **summary,
            },
        )


def _opened() -> _Recording:
    run = _Recording()
    run.tell("run.created", "Run created for inventory")
    run.tell("run.started", "Run started")
    run.begin("init")
    run.tell(
        "sandbox.chosen",
        "Sandbox sbx_91ac0a2be5d1f1f0: local, isolation level L3",
        progress=5,
        data={"sandbox_id": "sbx_91ac0a2be5d1f1f0", "provider": "local", "level": "L3"},
    )
    run.end(10, 4)
    run.begin("validation")
    run.tell("request.validated", "Request accepted: inventory with the agent recipes", progress=15)
    run.end(20, 2)
    run.begin("clone")
    run.tell("repository.fetched", "Receiving objects: 52% (13/25)", progress=30)
    return run


def _cloned() -> _Recording:
    run = _opened()
    run.tell(
        "repository.cloned",
        "Repository cloned: inventory",
        type="success",
        progress=48,
        data={
            "repository": "inventory",
            "text": "0a1b2c3d4e5f on main, 25 files, 0.1 MiB, newly checked out",
        },
    )
    run.end(50, 131)
    run.begin("analysis")
    run.tell("repository.analysed", "25 files (Python 97%); checks: 'python -m pytest -q'")
    return run


def changed() -> list[dict[str, Any]]:
    """Return a run that changed three files, with its checks passed before and after."""
    run = _cloned()
    run.check("base", "passed", duration_ms=912)
    run.end(60, 1_010)
    run.begin("planning")
    run.tell(
        "plan.made",
        "Improve error handling in 3 files",
        progress=68,
        data={
            "text": "Improve error handling in 3 files by rules, without a language model\n"
            "1. Keep the cause of 4 errors that are raised anew\n"
            "2. Give 2 calls of urllib a timeout\n"
            "Risk: a caller that waits longer than 10 s is cut off"
        },
    )
    run.end(70, 85)
    run.begin("implementation")
    for name in ("store.py", "suppliers.py"):
        run.tell("agent.file_edited", f"Edited src/inventory/{name}: raise-from", type="success")
    run.tell(
        "patch.made",
        "Patch made: 2 files, +9 -6",
        type="success",
        progress=88,
        data={
            "files_modified": 2,
            "files": [
                {"path": "src/inventory/store.py", "kind": "modified", "added": 6, "removed": 4},
                {
                    "path": "src/inventory/suppliers.py",
                    "kind": "renamed",
                    "added": 3,
                    "removed": 2,
                    "old_path": "src/inventory/vendors.py",
                },
            ],
        },
    )
    run.end(90, 240)
    run.begin("complete")
    run.check("result", "passed", duration_ms=905)
    run.tell(
        "verdict.reached",
        "Verdict: verified; 41 tests pass before and after",
        type="success",
        progress=98,
    )
    run.end(100, 960)
    run.finish("changed", "verified", files_modified=2, agent_message="Applied 2 rules, 6 places.")
    return run.events


def failed() -> list[dict[str, Any]]:
    """Return a run whose clone failed, with git's own words."""
    run = _opened()
    run.tell(
        "run.failed",
        "The repository does not exist.",
        type="error",
        data={
            "code": "repository_not_found",
            "retryable": False,
            "remedy": "Check owner and name in the URL.",
            "exit_code": 128,
            "stderr": "fatal: repository 'http://127.0.0.1:9/x.git/' not found\n",
        },
    )
    run.finish("failed", "skipped")
    return run.events


def regressed() -> list[dict[str, Any]]:
    """Return a run whose change broke a test."""
    run = _cloned()
    run.check("base", "passed", duration_ms=912)
    run.end(60, 1_010)
    run.begin("complete")
    tail = "\n".join([*(f"line {number}" for number in range(40)), "FAILED tests/test_store.py"])
    run.check("result", "failed", duration_ms=71_500, tail=tail)
    run.end(100, 72_000)
    run.finish("changed", "regressed", files_modified=1, duration_ms=75_000)
    return run.events
