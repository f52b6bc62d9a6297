"""What of an event a person is shown, as lines that know their tone but no terminal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from patchkiln.cli.frame import Frame, items, mapping, number, text
from patchkiln.cli.wording import duration, one_line, plain
from patchkiln.domain.wording import counted

TAIL_LINES = 15
SAID_LINES = 6
LISTED_FILES = 12
STEP_COMPLETED = "step.completed"
# Told by the live part alone: what is going on, until the event that says how it ended. What an
# agent says at its end, the summary says again.
PASSING_EVENTS = frozenset(
    {
        "run.created",
        "run.started",
        "step.started",
        "repository.fetched",
        "check.started",
        "agent.tool_called",
        "agent.tool_finished",
        "agent.usage_updated",
        "agent.finished",
    }
)


class Tone(Enum):
    """How a line is meant; ``QUIET`` is for what backs up the line above it."""

    PLAIN = "plain"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of text without control characters, to be wrapped by who prints it."""

    text: str
    tone: Tone = Tone.PLAIN


_TONES = {"success": Tone.GOOD, "warning": Tone.WARNING, "error": Tone.BAD}
_CHECK_TONES = {"passed": Tone.GOOD, "unrunnable": Tone.WARNING}
_KINDS = {"added": "A", "modified": "M", "deleted": "D", "renamed": "R", "type_changed": "T"}


def lines_of(frame: Frame) -> list[Line]:
    """Return what stays on the screen of an event; nothing for those that pass."""
    if frame.event in PASSING_EVENTS or frame.event == STEP_COMPLETED or frame.summary is not None:
        return []
    return _DESCRIBED.get(frame.event, _told)(frame)


def summary_lines(frame: Frame) -> list[Line]:
    """Return the end of a run: its outcome and verdict, and what the agent had to say."""
    summary = frame.summary or {}
    outcome, verdict = text(summary, "outcome"), text(summary, "verdict")
    files = number(summary, "files_modified")
    parts = [
        outcome.replace("_", " "),
        "" if verdict == "skipped" else verdict,
        counted(files, "file") if files else "",
        duration(number(summary, "duration_ms")),
        *_usage(mapping(summary, "usage")),
    ]
    lines = [Line(text=" · ".join(filter(None, parts)), tone=_summary_tone(outcome, verdict))]
    said = one_line(text(summary, "agent_message"))
    return [*lines, Line(text=said, tone=Tone.QUIET)] if said else lines


def _summary_tone(outcome: str, verdict: str) -> Tone:
    if outcome == "changed":
        return Tone.BAD if verdict == "regressed" else Tone.GOOD
    return {"no_change": Tone.PLAIN, "failed": Tone.BAD}.get(outcome, Tone.WARNING)


def _usage(usage: Mapping[str, object]) -> list[str]:
    read, written = usage.get("input_tokens"), usage.get("output_tokens")
    if not isinstance(read, int) or not isinstance(written, int) or not read + written:
        return []
    cost = usage.get("cost_usd")
    price = f"${cost:.4f}" if isinstance(cost, int | float) else "cost unknown"
    return [f"{read:,} tokens in, {written:,} out", price]


def _told(frame: Frame) -> list[Line]:
    tone = _TONES.get(frame.type, Tone.PLAIN)
    lines = [Line(text=one_line(frame.message), tone=tone)]
    remedy = one_line(text(frame.data, "remedy"))
    if remedy:
        lines.append(Line(text=f"fix: {remedy}"))
    return lines + _tail(text(frame.data, "stderr"))


def _cloned(frame: Frame) -> list[Line]:
    return [Line(text=one_line(text(frame.data, "text") or frame.message))]


def _plan(frame: Frame) -> list[Line]:
    lines = plain(text(frame.data, "text") or frame.message).splitlines()
    return [Line(text=line) for line in lines if line.strip()]


def _check(frame: Frame) -> list[Line]:
    data = frame.data
    status = text(data, "status")
    words = f"{text(data, 'phase')}: {one_line(text(data, 'command'))}"
    reason = one_line(text(data, "reason"))
    end = f"{status.replace('_', ' ')} in {duration(number(data, 'duration_ms'))}"
    line = Line(
        text=f"{words}  {end}" + (f" ({reason})" if reason else ""),
        tone=_CHECK_TONES.get(status, Tone.BAD),
    )
    return [line] if status == "passed" else [line, *_tail(text(data, "tail"))]


def _patch(frame: Frame) -> list[Line]:
    files = items(frame.data, "files")
    lines = [_file(item) for item in files[:LISTED_FILES] if isinstance(item, Mapping)]
    total = max(number(frame.data, "files_modified"), len(files))
    if total > len(lines):
        lines.append(Line(text=f"and {counted(total - len(lines), 'more file')}", tone=Tone.QUIET))
    return lines or _told(frame)


def _file(change: Mapping[str, object]) -> Line:
    added, removed = change.get("added"), change.get("removed")
    counts = f"+{added} -{removed}" if isinstance(added, int) else "binary"
    old = change.get("old_path")
    name = f"{old} -> {change.get('path')}" if old else str(change.get("path"))
    kind = _KINDS.get(str(change.get("kind")), "?")
    return Line(text=f"{kind} {one_line(name)}  {counts}")


def _said(frame: Frame) -> list[Line]:
    lines = plain(text(frame.data, "text") or frame.message).strip().splitlines()
    return [Line(text=line, tone=Tone.QUIET) for line in lines[:SAID_LINES]]


def _command(frame: Frame) -> list[Line]:
    command, code = one_line(text(frame.data, "command")), number(frame.data, "exit_code")
    took = duration(number(frame.data, "duration_ms"))
    end = f"in {took}" if code == 0 else f"exit code {code}, in {took}"
    return [Line(text=f"$ {command}  {end}", tone=Tone.PLAIN if code == 0 else Tone.WARNING)]


def _tail(output: str) -> list[Line]:
    lines = plain(output).rstrip().splitlines()
    return [Line(text=line, tone=Tone.QUIET) for line in lines[-TAIL_LINES:]]


_DESCRIBED: Mapping[str, Callable[[Frame], list[Line]]] = {
    "repository.cloned": _cloned,
    "plan.made": _plan,
    "check.finished": _check,
    "patch.made": _patch,
    "agent.message": _said,
    "agent.command_finished": _command,
}
