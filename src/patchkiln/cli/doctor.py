"""``patchkiln doctor``: what this machine can do, what it lacks, and how to mend it."""

import asyncio
import json
import platform
import sqlite3
import sys
from argparse import Namespace

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from patchkiln import __version__
from patchkiln.cli.exit_codes import ExitCode
from patchkiln.cli.findings import Finding, State, examine
from patchkiln.errors import SettingsError
from patchkiln.settings import load_settings

MARKS = {
    State.OK: ("✓", "green"),
    State.LIMITED: ("!", "yellow"),
    State.MISSING: ("✗", "red"),
    State.OFF: ("·", "dim"),
}
NAME_WIDTH = 10
INDENT = 6 + NAME_WIDTH


def execute(arguments: Namespace) -> int:
    """Print the findings; 0 only when a run could start."""
    try:
        findings = asyncio.run(examine(load_settings()))
    except SettingsError as error:
        findings = [
            Finding(name="settings", state=State.MISSING, text=error.message, fix=error.remedy)
        ]
    ready = all(finding.state is not State.MISSING for finding in findings)
    if arguments.json:
        found = [finding.as_json() for finding in findings]
        print(json.dumps({"version": __version__, "ready": ready, "findings": found}, indent=2))
    else:
        _show(findings, ready=ready)
    return ExitCode.OK if ready else ExitCode.FAILED


def _show(findings: list[Finding], *, ready: bool) -> None:
    console = Console(highlight=False)
    console.print(Text(f"\n  Patchkiln {__version__}", "bold"), Text(_machine(), "dim"), end="\n\n")
    for finding in findings:
        mark, style = MARKS[finding.state]
        head = Text.assemble((f"  {mark} ", style), (f"{finding.name:<{NAME_WIDTH}}", "bold"), "  ")
        console.print(head, Text(finding.text), sep="")
        for label, words in (("", finding.detail), ("fix: ", finding.fix)):
            if words:
                console.print(
                    Padding(Text(f"{label}{words}", "dim" if not label else ""), (0, 0, 0, INDENT))
                )
    end = (
        ("  A run can start.", "green") if ready else ("  No run can start on this machine.", "red")
    )
    console.print(Text(), Text(*end), sep="\n")


def _machine() -> str:
    python = ".".join(str(part) for part in sys.version_info[:3])
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"Python {python}, SQLite {sqlite3.sqlite_version}, {kernel}"
