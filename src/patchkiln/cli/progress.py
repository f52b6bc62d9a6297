"""Shows a run while it happens: a live block in a terminal, plain lines anywhere else.

The one renderer of events, used by ``run`` and ``logs``. It gets events as JSON objects and knows
nothing of where they come from.
"""

import sys
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from patchkiln.cli.frame import Frame, number
from patchkiln.cli.lines import STEP_COMPLETED, Line, Tone, lines_of, summary_lines
from patchkiln.cli.wording import duration, one_line

STYLES = {
    Tone.PLAIN: "",
    Tone.GOOD: "green",
    Tone.WARNING: "yellow",
    Tone.BAD: "red",
    Tone.QUIET: "dim",
}
MARKS = {Tone.GOOD: "✓", Tone.WARNING: "!", Tone.BAD: "✗"}
INDENT = 4
NAME_WIDTH = 16
BAR_WIDTH = 28
REFRESH_PER_S = 10
# The block under the spinner, the bar below it and the line of the shell all have to fit.
RESERVED_ROWS = 6
MIN_ROWS = 3


class Progress(Protocol):
    """Shows one run; used as a context manager around its stream."""

    def show(self, frame: Frame) -> None:
        """Show one event."""
        ...

    def note(self, message: str) -> None:
        """Say something beside the events, such as that Ctrl-C was seen."""
        ...

    def __enter__(self) -> Self:
        """Begin to draw."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was found."""
        ...


def open_progress(*, as_json: bool) -> Progress:
    """Return what fits: JSON on stdout; else on stderr, live in a terminal, plain in a pipe."""
    if as_json:
        return JsonProgress()
    console = Console(stderr=True, highlight=False)
    return LiveProgress(console) if console.is_terminal else PlainProgress(console)


class _Immediate:
    """A context in which every line is out as soon as it is told, so that nothing ends with it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


class JsonProgress(_Immediate):
    """One event's JSON a line on stdout, as it came."""

    def show(self, frame: Frame) -> None:
        """Write the event."""
        print(frame.payload, flush=True)

    def note(self, message: str) -> None:
        """Write the words on stderr: stdout is for events alone."""
        print(message, file=sys.stderr)


class PlainProgress(_Immediate):
    """One line for each thing told, with the percentage and the step in front."""

    def __init__(self, console: Console) -> None:
        """Take where to write."""
        self._console = console

    def show(self, frame: Frame) -> None:
        """Write what the event tells."""
        if frame.event == STEP_COMPLETED:
            self._write(frame, f"done in {duration(number(frame.data, 'duration_ms'))}")
        lines = summary_lines(frame) if frame.summary is not None else lines_of(frame)
        for line in lines:
            self._write(frame, _marked(line))

    def note(self, message: str) -> None:
        """Write the words."""
        self._print(message)

    def _write(self, frame: Frame, words: str) -> None:
        step = one_line(frame.step)
        self._print(f"[{frame.progress:3d}%] {step:<14}  {words}")

    def _print(self, words: str) -> None:
        self._console.print(Text(words), soft_wrap=True)


class LiveProgress:
    """The step at work with a spinner and a bar below; finished steps stay above it."""

    def __init__(self, console: Console) -> None:
        """Take the terminal."""
        self._console = console
        self._step = ""
        self._since = time.monotonic()
        self._lines: list[Line] = []
        self._activity = "Starting"
        self._percent = 0
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(
            get_renderable=self._draw,
            console=console,
            refresh_per_second=REFRESH_PER_S,
            transient=True,
        )

    def show(self, frame: Frame) -> None:
        """Take one event into the picture."""
        if frame.step != self._step and frame.summary is None:
            self._begin(frame)
        self._percent = frame.progress
        self._activity = one_line(frame.message)
        self._lines += lines_of(frame)
        if frame.event == STEP_COMPLETED:
            self._activity = ""
            self._end(Tone.GOOD, number(frame.data, "duration_ms"))
        elif frame.summary is not None:
            self._finish(frame)

    def note(self, message: str) -> None:
        """Write the words above the live part."""
        self._console.print(Text(f"  {message}", "dim"))

    def _begin(self, frame: Frame) -> None:
        if self._lines:
            self._end(Tone.QUIET, None)
        self._step, self._since = one_line(frame.step), time.monotonic()

    def _end(self, tone: Tone, milliseconds: int | None) -> None:
        mark = Text(MARKS.get(tone, "·"), STYLES[tone])
        heading, lines = _heading(mark, self._step, milliseconds), self._lines
        self._lines, self._step = [], ""
        # Before the block is printed for good, so that it never stands there twice.
        self._live.refresh()
        for part in (heading, *map(_indented, lines)):
            self._console.print(part)

    def _finish(self, frame: Frame) -> None:
        if self._lines:
            failed = any(line.tone is Tone.BAD for line in self._lines)
            self._end(Tone.BAD if failed else Tone.WARNING, None)
        first, *rest = summary_lines(frame)
        self._console.print()
        self._console.print(Text(f"  {_marked(first)}", f"bold {STYLES[first.tone]}"))
        for line in rest:
            self._console.print(_indented(line))

    def _draw(self) -> RenderableType:
        if not self._step:
            return self._bar()
        elapsed_ms = int((time.monotonic() - self._since) * 1000)
        room = max(MIN_ROWS, self._console.height - RESERVED_ROWS)
        heading = _heading(self._spinner, self._step, elapsed_ms)
        shown = [_indented(line, wrap=False) for line in self._lines[-room:]]
        return Group(heading, *shown, self._bar())

    def _bar(self) -> RenderableType:
        row = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=100, completed=self._percent, width=BAR_WIDTH)
        activity = Text(self._activity, "dim", no_wrap=True, overflow="ellipsis")
        row.add_row(" ", bar, f"{self._percent:3d}%", activity)
        return row

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the live part away; what was finished stays."""
        if self._lines:
            self._end(Tone.QUIET, None)
        self._step = ""
        self._live.__exit__(kind, error, trace)


def _heading(mark: RenderableType, step: str, milliseconds: int | None) -> RenderableType:
    row = Table.grid(padding=(0, 1))
    spent = "" if milliseconds is None else duration(milliseconds)
    row.add_row(" ", mark, Text(f"{step:<{NAME_WIDTH}}", "bold"), Text(spent, "dim"))
    return row


def _indented(line: Line, *, wrap: bool = True) -> RenderableType:
    style = STYLES[line.tone]
    body = Text(line.text, "" if line.tone is Tone.GOOD else style, no_wrap=not wrap)
    body.overflow = "fold" if wrap else "ellipsis"
    row = Table.grid(padding=(0, 1))
    mark = MARKS.get(line.tone)
    row.add_row(*([] if mark is None else [Text(mark, style)]), body)
    return Padding(row, (0, 0, 0, INDENT))


def _marked(line: Line) -> str:
    mark = MARKS.get(line.tone)
    return line.text if mark is None else f"{mark} {line.text}"
