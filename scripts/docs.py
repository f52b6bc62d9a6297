"""Writes docs/settings.md, docs/cli.md and the README's recorded run from what they describe."""
# ruff: noqa: INP001, T201 - a script that prints what it does

import argparse
import itertools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic_core import PydanticUndefined

from patchkiln.cli.parser import build_parser
from patchkiln.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT / "docs" / "recorded-run.txt"
RECORDED_BEGIN = "<!-- recorded run: made by scripts/docs from docs/recorded-run.txt -->\n"
RECORDED_END = "<!-- end of the recorded run -->\n"
SHOWN_CHARS = 112
MADE_BY = "<!-- Made by scripts/docs. Change the code, then run it again. -->\n"
SETTINGS_HEAD = """\
# Settings

Every setting is an environment variable, read once at start. A wrong value stops the start with a
message that says what to write; so does a name that begins with `PATCHKILN_` and is none of these,
because a mistyped limit that nobody reads is worse than no start.

| name | default | what |
|---|---|---|
"""
SETTINGS_TAIL = """
The command line reads two more, for the commands that speak to a server:

| name | default | what |
|---|---|---|
| `PATCHKILN_SERVER` | `http://127.0.0.1:8000` | URL of the server, in place of `--server`. |
| `PATCHKILN_KEY` | unset | API key, sent as `Authorization: Bearer KEY`. |

Keys are secrets: no event, answer, log line or patch holds them, and no sandbox ever sees them.
"""
CLI_HEAD = """\
# Command line

`patchkiln COMMAND --help` says the same in the terminal. What a command shows goes to stderr, what
it yields (a patch, a table, JSON) to stdout, so that it can be piped.
"""


def main() -> int:
    """Write the pages, or with ``--check`` compare them; 1 where one is not current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, compare")
    check = parser.parse_args().check
    stale = [name for name, text in pages().items() if not _current(ROOT / name, text)]
    for name in stale:
        if check:
            print(f"{name} is not current; run scripts/docs")
        else:
            (ROOT / name).write_text(pages()[name], encoding="utf-8")
            print(f"wrote {name}")
    return 1 if check and stale else 0


def pages() -> Mapping[str, str]:
    """Return every page that is made, by its path."""
    return {
        "docs/settings.md": settings_page(),
        "docs/cli.md": cli_page(),
        "README.md": readme_page(),
    }


def readme_page() -> str:
    """Return the README with the recorded run in its place: one line a frame, cut to the page."""
    head, _, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition(RECORDED_BEGIN)
    tail = rest.partition(RECORDED_END)[2]
    lines = RECORDED.read_text(encoding="utf-8").splitlines()
    frames = [line for line in lines if line.startswith("data: ") and not _passing(line)]
    run = "\n".join(itertools.chain.from_iterable(map(_shortened, frames)))
    return f"{head}{RECORDED_BEGIN}```text\n{run}\n```\n{RECORDED_END}{tail}"


def _passing(frame: str) -> bool:
    """Tell what the frame after it says again: a start, or git's percentages."""
    return '.started",' in frame or '"percent":' in frame


def _shortened(frame: str) -> Iterator[str]:
    """Yield the beginning of a frame; of the last one also where its summary begins."""
    yield f"{frame[:SHOWN_CHARS]}..."
    place = frame.find('"summary":{')
    if place > 0:
        yield f"      {frame[place : place + 2 * SHOWN_CHARS]}..."


def settings_page() -> str:
    """Return the table of settings."""
    rows = "".join(f"| `{name}` | {default} | {what} |\n" for name, default, what in _settings())
    return MADE_BY + SETTINGS_HEAD + rows + SETTINGS_TAIL


def cli_page() -> str:
    """Return every command with its options."""
    return MADE_BY + CLI_HEAD + "".join(_commands(build_parser()))


def _current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def _settings() -> Iterator[tuple[str, str, str]]:
    for field, info in Settings.model_fields.items():
        alias = info.validation_alias
        name = alias if isinstance(alias, str) else PREFIX + field.upper()
        default = None if info.default is PydanticUndefined else info.default
        yield name, _default(default), info.description or "Key of the vendor."


def _default(value: object) -> str:
    if value is None or value == ():
        return "unset"
    value = int(value) if isinstance(value, bool) else value
    words = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"`{words}`"


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001 - argparse shows its parts in no other way
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            for command in action.choices.values():
                yield from _commands(command)
            return
    yield _command(parser)


def _command(parser: argparse.ArgumentParser) -> str:
    actions = parser._actions  # noqa: SLF001 - as above
    positional = [action for action in actions if not action.option_strings]
    named = [action for action in actions if action.option_strings and action.dest != "help"]
    words = " ".join(str(action.metavar) for action in positional if action.help != "==SUPPRESS==")
    usage = (parser.usage or f"{parser.prog} [options] {words}").removesuffix(" ")
    usage = usage if named else usage.replace(" [options]", "")
    rows = [_row(action) for action in [*positional, *named] if action.help != "==SUPPRESS=="]
    table = "| | |\n|---|---|\n" + "".join(rows) if rows else ""
    epilog = f"\n```text\n{parser.epilog.rstrip()}\n```\n" if parser.epilog else ""
    body = f"{parser.description}\n" + (f"\n{table}" if table else "") + epilog
    return f"\n## `{usage}`\n\n{body}"


def _row(action: argparse.Action) -> str:
    name = ", ".join(action.option_strings) or str(action.metavar)
    value = ""
    if action.option_strings and action.nargs != 0:
        choices = "|".join(map(str, action.choices)) if action.choices else ""
        value = " " + str(action.metavar or choices or action.dest.upper())
    cell = f"{name}{value}".replace("|", "\\|")
    return f"| `{cell}` | {action.help} |\n"


if __name__ == "__main__":
    sys.exit(main())
