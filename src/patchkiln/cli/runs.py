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
    if not runs:
        console.print("No runs yet. Start one with 'patchkiln run --server URL REPO \"PROMPT\"'.")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("RUN", "AGE", "REPOSITORY", "STATE"):
        table.add_column(name, no_wrap=True)
    table.add_column("PROMPT", no_wrap=True, overflow="ellipsis", ratio=1)
    now_ms = time.time_ns() // 1_000_000
    for run in runs:
        table.add_row(
            Text(one_line(text(run, "id"))),
            Text(age(now_ms - number(run, "created_at"))),
            Text(one_line(text(run, "repository"))),
            Text(ending(run), ending_style(run)),
            Text(one_line(text(run, "prompt")), "dim"),
        )
    console.print(table)
