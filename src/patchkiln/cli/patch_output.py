"""Writes a patch: its exact bytes to a file or a pipe, in colour to a terminal."""

import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from patchkiln.cli.wording import plain
from patchkiln.errors import InvalidRequest

_STYLES = {"+++": "bold", "---": "bold", "@@": "cyan", "+": "green", "-": "red", "diff ": "bold"}


def write_patch(diff: bytes, output: str | None) -> None:
    """Write to ``output``, or to stdout where it is None."""
    if output is not None:
        Path(output).write_bytes(diff)
    elif sys.stdout.isatty():
        _show(diff.decode("utf-8", "backslashreplace"))
    else:
        sys.stdout.buffer.write(diff)
        sys.stdout.buffer.flush()


def check_output(output: str | None) -> None:
    """Raise `InvalidRequest` where a patch could not be written there, before any work is done."""
    if output is None:
        return
    if Path(output).is_dir() or not Path(output).absolute().parent.is_dir():
        raise InvalidRequest(
            f"{output} cannot be written.",
            field="--output",
            remedy="Name a file in a directory that exists.",
        )


def _show(diff: str) -> None:
    console = Console(highlight=False)
    console.print()
    for line in plain(diff).split("\n")[:-1]:
        console.print(Text(line, _style(line)), soft_wrap=True)


def _style(line: str) -> str:
    return next((style for start, style in _STYLES.items() if line.startswith(start)), "")
