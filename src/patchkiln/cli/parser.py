"""Every command with its options, in one place, and nothing that takes time to import."""

import argparse
from argparse import REMAINDER, ArgumentParser, RawDescriptionHelpFormatter

from patchkiln import __version__
from patchkiln.cli import arguments

RUN_EXIT_CODES = """\
exit codes:
  0    changed, or nothing had to be changed
  1    failed, or refused
  2    wrong usage
  3    a limit of the run was reached
  130  cancelled (Ctrl-C; a second one stops at once)
"""
SANDBOX_EXIT_CODES = """\
exit codes:
  the command's own; or
  2    wrong usage
  124  the time limit was reached
  125  no sandbox can be had; the cause and the fix are on stderr
  130  interrupted (Ctrl-C)
"""
SERVER_NOTE = """\
environment:
  PATCHKILN_SERVER  the server's URL, in place of --server
  PATCHKILN_KEY     the API key, where the server wants one
"""
_SERVER_HELP = "URL of the server (default: PATCHKILN_SERVER, else http://127.0.0.1:8000)"


class _Commands:
    """Adds commands to a parser; each names the module that runs it."""

    def __init__(self, parser: ArgumentParser) -> None:
        self._group = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        self, name: str, module: str, summary: str, *, epilog: str = "", usage: str | None = None
    ) -> ArgumentParser:
        parser = self._group.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=epilog,
            usage=usage,
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.set_defaults(module=f"patchkiln.cli.{module}")
        return parser


def build_parser() -> ArgumentParser:
    """Return the parser of the whole command line."""
    parser = ArgumentParser(
        prog="patchkiln",
        description="A prompt and a repository go in, a checked patch comes out, told live.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"patchkiln {__version__}")
    commands = _Commands(parser)
    commands.add("serve", "serve", "run the server until it is told to stop")
    _add_run(commands)
    doctor = commands.add("doctor", "doctor", "show what this machine can do, and what it lacks")
    _add_json(doctor, "the findings as one JSON object")
    _add_sandbox(commands)
    _add_runs(commands)
    _add_logs(commands)
    _add_cancel(commands)
    _add_patch(commands)
    return parser


def _add_run(commands: _Commands) -> None:
    parser = commands.add(
        "run", "run", "make one change from the terminal, told live", epilog=RUN_EXIT_CODES
    )
    parser.add_argument("repo", metavar="REPO", help="a repository's URL, or a local clone")
    parser.add_argument(
        "prompt", metavar="PROMPT", type=arguments.prompt, help="what should be changed"
    )
    parser.add_argument("--ref", help="branch, tag or commit (default: the remote's HEAD)")
    parser.add_argument("--agent", help="builtin or recipes (default: what the settings allow)")
    parser.add_argument("--model", help="provider:name (default: PATCHKILN_MODEL)")
    parser.add_argument(
        "--checks",
        action="append",
        metavar="auto|off|COMMAND",
        help="what judges the change; a command may be given several times (default: auto)",
    )
    _add_network(parser)
    parser.add_argument("--output", metavar="FILE", help="write the patch there, not to stdout")
    parser.add_argument("--apply", action="store_true", help="apply the patch to the local clone")
    _add_json(parser, "the events as JSON lines on stdout; the patch only with --output")
    parser.add_argument(
        "--server", metavar="URL", help="run it on that server instead of in this process"
    )


def _add_network(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--network",
        metavar="HOST[,HOST]",
        type=arguments.network_rules,
        default=(),
        help="hosts that commands may reach: a name, *.domain or an address, each with an "
        "optional :port (default: none; without a port: 443 and 80)",
    )


def _add_sandbox(commands: _Commands) -> None:
    sandbox = commands.add("sandbox", "sandbox", "use the sandbox by itself")
    inner = _Commands(sandbox)
    parser = inner.add(
        "run",
        "sandbox",
        "run one command in a fresh sandbox; its output and exit code pass through",
        epilog=SANDBOX_EXIT_CODES,
        usage="patchkiln sandbox run [options] -- COMMAND ...",
    )
    _add_sandbox_contents(parser)
    parser.add_argument(
        "--tty", action="store_true", help="run the command on this terminal, such as a shell"
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=arguments.seconds, help="end the command after that"
    )
    parser.add_argument(
        "--memory",
        metavar="BYTES",
        type=arguments.memory_bytes,
        help="as bytes, or with K, M or G (default: 4G)",
    )
    parser.add_argument(
        "--provider",
        choices=("local", "e2b", "container"),
        help="what makes the sandbox (default: the first of PATCHKILN_SANDBOX, else local)",
    )
    parser.add_argument("command", metavar="COMMAND", nargs=REMAINDER, help=argparse.SUPPRESS)


def _add_sandbox_contents(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--workspace", metavar="DIR", help="copied in as the work directory, never written back"
    )
    _add_network(parser)
    parser.add_argument(
        "--credential",
        metavar="HOST=[HEADER:]VARIABLE",
        type=arguments.credential,
        action="append",
        default=[],
        help="send that variable's value to HOST as HEADER, outside of the sandbox's sight "
        "(default: as a bearer token)",
    )
    parser.add_argument(
        "--env",
        metavar="NAME=VALUE",
        type=arguments.variable,
        action="append",
        default=[],
        help="a variable for the command, which gets none of yours",
    )


def _add_runs(commands: _Commands) -> None:
    runs = commands.add("runs", "runs", "list a server's runs, newest first", epilog=SERVER_NOTE)
    runs.add_argument("--status", choices=("queued", "running", "finished"), help="only these")
    runs.add_argument("--repository", metavar="NAME", help="only of the repository's short name")
    runs.add_argument(
        "--limit", type=arguments.page_size, default=20, help="at most so many (default: 20)"
    )
    _add_client(runs)
    show = commands.add("show", "show", "show one run of a server", epilog=SERVER_NOTE)
    _add_run_id(show)
    _add_client(show)


def _add_logs(commands: _Commands) -> None:
    parser = commands.add("logs", "logs", "show the events of a run", epilog=SERVER_NOTE)
    _add_run_id(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run ends")
    parser.add_argument(
        "--after",
        metavar="SEQ",
        type=arguments.sequence,
        default=0,
        help="only events after that one",
    )
    _add_client(parser)


def _add_cancel(commands: _Commands) -> None:
    parser = commands.add("cancel", "cancel", "cancel a run of a server", epilog=SERVER_NOTE)
    _add_run_id(parser)
    parser.add_argument("--server", metavar="URL", help=_SERVER_HELP)


def _add_patch(commands: _Commands) -> None:
    parser = commands.add("patch", "patch", "write a run's patch to stdout", epilog=SERVER_NOTE)
    _add_run_id(parser)
    parser.add_argument("--output", metavar="FILE", help="write it there")
    parser.add_argument("--server", metavar="URL", help=_SERVER_HELP)


def _add_run_id(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="RUN", help="the run's id, as 'patchkiln runs' lists it")


def _add_client(parser: ArgumentParser) -> None:
    _add_json(parser, "the server's own JSON")
    parser.add_argument("--server", metavar="URL", help=_SERVER_HELP)


def _add_json(parser: ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=what)
