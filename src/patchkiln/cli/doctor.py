"""``patchkiln doctor``: what this machine can do, what it lacks, and how to mend it."""

import asyncio
import json
import platform
import sqlite3
import sys
from argparse import Namespace

from rich.console import Console
from rich.table import Table
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
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        mark, style = MARKS[finding.state]
        told = Text(finding.text)
        if finding.detail:
            told.append(f"\n{finding.detail}", "dim")
        if finding.fix:
            told.append(f"\nfix: {finding.fix}")
        table.add_row("", Text(mark, style), Text(finding.name, "bold"), told)
    console.print(table)
    end = (
        ("  A run can start.", "green") if ready else ("  No run can start on this machine.", "red")
    )
    console.print(Text(), Text(*end), sep="\n")


def _machine() -> str:
    python = ".".join(str(part) for part in sys.version_info[:3])
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"Python {python}, SQLite {sqlite3.sqlite_version}, {kernel}"
