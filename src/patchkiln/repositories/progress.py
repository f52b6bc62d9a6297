"""What git says on stderr while it works: a few lines worth telling, and the end for errors."""

import re

from patchkiln.ports.repository import FetchProgress

TAIL_CHARS = 2000
STEP_PERCENT = 25
_LINE_CHARS = 400
_PROGRESS = re.compile(
    r"(?P<phase>Receiving objects|Resolving deltas|Updating files): +(?P<percent>\d{1,3})% "
    r"\((?P<done>\d+)/(?P<total>\d+)\)(?P<rest>[^\r\n]*)"
)
_NOISE = re.compile(
    r"(remote: )?(Enumerating|Counting|Compressing|Receiving|Resolving|Updating|Unpacking|Total)"
)
_SIZE = re.compile(r", (?P<size>[\d.]+ [KMGT]?i?B|[\d.]+ bytes)\b")


class GitStderr:
    """Takes git's stderr as it comes. Progress is thinned out, the last other lines are kept."""

    def __init__(self) -> None:
        """Begin with nothing told."""
        self._open = ""
        self._tail: list[str] = []
        self._told: dict[str, int] = {}

    def feed(self, data: bytes) -> list[FetchProgress]:
        """Take a piece and return what is worth telling of it."""
        *lines, self._open = re.split(r"[\r\n]", self._open + data.decode("utf-8", "replace"))
        self._open = self._open[-_LINE_CHARS:]
        told = [self._take(line) for line in lines]
        return [progress for progress in told if progress is not None]

    @property
    def tail(self) -> str:
        """Return the last lines that are no progress, printable and bounded."""
        lines = [*self._tail, *self._kept(self._open)]
        return "\n".join(lines)[-TAIL_CHARS:]

    def _take(self, line: str) -> FetchProgress | None:
        match = _PROGRESS.match(line)
        if match is not None:
            return self._progress(match)
        self._tail = (self._tail + self._kept(line))[-50:]
        return None

    def _kept(self, line: str) -> list[str]:
        text = "".join(c if c.isprintable() else " " for c in line[:_LINE_CHARS]).rstrip()
        return [] if not text or _NOISE.match(text) else [text]

    def _progress(self, match: re.Match[str]) -> FetchProgress | None:
        phase, percent = match["phase"], min(int(match["percent"]), 100)
        step = percent // STEP_PERCENT
        if step <= self._told.get(phase, 0):
            return None
        self._told[phase] = step
        size = _SIZE.match(match["rest"])
        amount = f", {size['size']}" if size else ""
        return FetchProgress(
            message=f"{phase}: {percent}% ({match['done']} of {match['total']}{amount})",
            data={"phase": phase.lower(), "percent": percent, "total": int(match["total"])},
        )
