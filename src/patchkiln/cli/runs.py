"""``patchkiln runs``: what a server has run and is running."""

import json
import time
from argparse import Namespace
from collections.abc import Mapping
from urllib.parse import urlencode

from rich.console import Console
from rich.table import Table
from rich.text import Text

from patchkiln.cli.exit_codes import ExitCode
from patchkiln.cli.frame import items, number, text
from patchkiln.cli.run_words import ending, ending_style
from patchkiln.cli.server import server_of
from patchkiln.cli.wording import age, one_line
from patchkiln.domain.event import JsonObject

COLUMNS = ("RUN", "AGE", "REPOSITORY", "STATE")
WIDTH_OF_A_FILE = 1000


def execute(arguments: Namespace) -> int:
    """Print a table, newest first."""
    asked = {
        "status": arguments.status,
        "repository": arguments.repository,
        "limit": arguments.limit,
    }
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    answer = server_of(arguments).json("GET", f"/runs?{query}")
    if arguments.json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        _show([run for run in items(answer, "runs") if isinstance(run, Mapping)])
    return ExitCode.OK


def _show(runs: list[JsonObject]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH_OF_A_FILE)
    if not runs:
        console.print("No runs yet. Start one with 'patchkiln run --server URL REPO \"PROMPT\"'.")
        return
    now_ms = time.time_ns() // 1_000_000
    rows = [_row(run, now_ms) for run in runs]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for place, name in enumerate(COLUMNS):
        # Only the last one gives way where the terminal is narrow.
        table.add_column(name, no_wrap=True, min_width=max(len(row[place]) for row in rows))
    table.add_column("PROMPT", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _row(run: JsonObject, now_ms: int) -> tuple[Text, ...]:
    return (
        Text(one_line(text(run, "id"))),
        Text(age(now_ms - number(run, "created_at"))),
        Text(one_line(text(run, "repository"))),
        Text(ending(run), ending_style(run)),
        Text(one_line(text(run, "prompt")), "dim"),
    )
