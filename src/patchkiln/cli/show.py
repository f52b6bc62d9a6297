"""``patchkiln show``: one run of a server."""

import json
import time
from argparse import Namespace

from rich.console import Console
from rich.table import Table
from rich.text import Text

from patchkiln.cli.exit_codes import ExitCode
from patchkiln.cli.frame import mapping, number, text
from patchkiln.cli.run_words import ending, ending_style
from patchkiln.cli.server import run_path, server_of
from patchkiln.cli.wording import age, duration, one_line
from patchkiln.domain.event import JsonObject


def execute(arguments: Namespace) -> int:
    """Print what was asked, where the run stands and what it cost."""
    run = server_of(arguments).json("GET", run_path(arguments.id))
    if arguments.json:
        print(json.dumps(run, indent=2, ensure_ascii=False))
    else:
        _show(run)
    return ExitCode.OK


def _show(run: JsonObject) -> None:
    console = Console(highlight=False)
    console.print(Text(one_line(text(run, "id")), "bold"), Text(ending(run), ending_style(run)))
    table = Table.grid(padding=(0, 2))
    for name, value in _rows(run):
        if value:
            table.add_row(Text(f"  {name}", "dim"), Text(one_line(value)))
    console.print(table)


def _rows(run: JsonObject) -> list[tuple[str, str]]:
    error = mapping(run, "error")
    return [
        ("repository", text(run, "repo_url")),
        ("ref", text(run, "ref")),
        ("prompt", text(run, "prompt")),
        ("agent", " ".join(filter(None, [text(run, "agent"), text(run, "model")]))),
        ("sandbox", " ".join(filter(None, [text(run, "sandbox"), text(run, "sandbox_id")]))),
        ("step", f"{text(run, 'step')}, {number(run, 'progress')}%"),
        ("files", str(number(run, "files_modified"))),
        ("usage", _usage(mapping(run, "usage"))),
        ("created", f"{age(time.time_ns() // 1_000_000 - number(run, 'created_at'))} ago"),
        ("took", _took(run)),
        ("error", text(error, "code")),
        ("fix", text(error, "remedy")),
    ]


def _usage(usage: JsonObject) -> str:
    if not number(usage, "turns"):
        return "no language model used"
    tokens = number(usage, "input_tokens") + number(usage, "output_tokens")
    cost = usage.get("cost_usd")
    price = f"${cost:.4f}" if isinstance(cost, int | float) else "cost unknown"
    return f"{number(usage, 'turns')} turns, {tokens:,} tokens, {price}"


def _took(run: JsonObject) -> str:
    started, finished = number(run, "started_at"), number(run, "finished_at")
    return duration(finished - started) if started and finished else ""
