"""A complete stream to try a client on: every step, every message type, one summary.

It is made in memory on each request and has no side effect.
"""

import asyncio
import time
from collections.abc import AsyncGenerator

from patchkiln.domain.check import Verdict
from patchkiln.domain.event import EventType, StatusUpdate, StoredEvent
from patchkiln.domain.run import (
    PATCH_MADE,
    RUN_CREATED,
    RUN_FINISHED,
    RUN_STARTED,
    SANDBOX_CHOSEN,
    Outcome,
    Run,
    RunRequest,
)

PAUSE_S = 0.05
SANDBOX_ID = "sbx_0000000000000000"
REQUEST = RunRequest(
    repo_url="https://github.com/fastapi/fastapi.git",
    repository="fastapi",
    prompt="Add better error handling",
    caller="sample",
)


async def sample_batches(pause_s: float = PAUSE_S) -> AsyncGenerator[list[StoredEvent]]:
    """Yield the sample's events one by one, as a run would."""
    run = Run.new(REQUEST)
    for update in UPDATES:
        event = run.next_event(update, now_ms=time.time_ns() // 1_000_000)
        run = run.after(event)
        yield [StoredEvent.of(event)]
        if event.summary is None:
            await asyncio.sleep(pause_s)


def _started(step: str) -> StatusUpdate:
    return StatusUpdate(event="step.started", message=f"Step {step}", step=step)


def _completed(step: str, progress: int, duration_ms: int) -> StatusUpdate:
    return StatusUpdate(
        event="step.completed",
        message=f"Step {step} completed in {duration_ms} ms",
        type=EventType.SUCCESS,
        progress=progress,
        data={"duration_ms": duration_ms},
    )


def _check(phase: str) -> StatusUpdate:
    return StatusUpdate(
        event="check.finished",
        message=f"Check on the {phase} passed",
        type=EventType.SUCCESS,
        data={"phase": phase, "command": "python -m pytest", "status": "passed", "exit_code": 0},
    )


UPDATES: tuple[StatusUpdate, ...] = (
    StatusUpdate(
        event=RUN_CREATED,
        message="Run created for fastapi",
        step="init",
        progress=0,
        data={"repository": REQUEST.repository, "repo_url": REQUEST.repo_url, "ref": None},
    ),
    StatusUpdate(event=RUN_STARTED, message="Run started"),
    _started("init"),
    StatusUpdate(
        event=SANDBOX_CHOSEN,
        message=f"Sandbox {SANDBOX_ID}: local, isolation level L3",
        progress=5,
        data={"sandbox_id": SANDBOX_ID, "provider": "local", "level": "L3"},
    ),
    _completed("init", 10, 4),
    _started("validation"),
    StatusUpdate(
        event="request.validated",
        message="Request accepted: fastapi with the agent builtin",
        progress=15,
        data={"repository": "fastapi", "agent": "builtin"},
    ),
    _completed("validation", 20, 2),
    _started("clone"),
    StatusUpdate(
        event="repository.fetched",
        message="Receiving objects: 64%",
        progress=30,
        data={"phase": "Receiving objects", "percent": 64},
    ),
    StatusUpdate(
        event="repository.cloned",
        message="Repository cloned: fastapi",
        type=EventType.SUCCESS,
        progress=48,
        data={"repository": "fastapi", "branch": "master", "file_count": 2417, "cached": False},
    ),
    _completed("clone", 50, 2310),
    _started("analysis"),
    StatusUpdate(
        event="repository.analysed",
        message="2417 files (Python 98%); checks: 'python -m pytest'",
        progress=54,
        data={"file_count": 2417, "languages": [{"name": "Python", "share": 0.98}]},
    ),
    _check("base"),
    _completed("analysis", 60, 8120),
    _started("planning"),
    StatusUpdate(
        event="plan.made",
        message="Chain lost causes and give network calls a timeout",
        progress=68,
        data={"steps": ["Raise from the cause", "Add timeouts"], "files": ["fastapi/client.py"]},
    ),
    _completed("planning", 70, 1940),
    _started("implementation"),
    StatusUpdate(
        event="agent.tool_finished",
        message="An edit did not apply: the file had changed; the agent reads it again",
        type=EventType.ERROR,
        data={"tool": "edit_file", "call_id": "call_1", "ok": False, "duration_ms": 3},
    ),
    StatusUpdate(
        event="agent.file_edited",
        message="Edited fastapi/client.py",
        progress=80,
        data={"path": "fastapi/client.py"},
    ),
    StatusUpdate(
        event="agent.price_unknown",
        message="The model's price is not known: the limit in dollars cannot hold",
        type=EventType.WARNING,
    ),
    StatusUpdate(
        event=PATCH_MADE,
        message="Patch made: 3 files, +21 -6",
        type=EventType.SUCCESS,
        progress=88,
        data={"files_modified": 3, "lines_added": 21, "lines_removed": 6},
    ),
    _completed("implementation", 90, 9400),
    _started("complete"),
    _check("result"),
    StatusUpdate(
        event="verdict.reached",
        message="Verdict: verified; the same checks pass before and after",
        type=EventType.SUCCESS,
        progress=98,
        data={"verdict": Verdict.VERIFIED.value},
    ),
    StatusUpdate(
        event=RUN_FINISHED,
        message="Processing completed",
        type=EventType.SUMMARY,
        step="complete",
        progress=100,
        summary={
            "repository": REQUEST.repository,
            "prompt": REQUEST.prompt,
            "files_modified": 3,
            "sandbox_id": SANDBOX_ID,
            "duration_ms": 21870,
            "outcome": Outcome.CHANGED.value,
            "verdict": Verdict.VERIFIED.value,
        },
    ),
)
