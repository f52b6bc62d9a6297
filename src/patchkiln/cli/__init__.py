"""The command line: ``patchkiln serve``, ``run``, ``doctor``, ``sandbox run`` and the clients."""

import importlib
import os
import signal
import sys
from collections.abc import Sequence

from patchkiln.cli.exit_codes import ExitCode
from patchkiln.cli.parser import build_parser
from patchkiln.errors import InvalidRequest, PatchkilnError, SettingsError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; wrong usage leaves by `SystemExit` with 2.

    A command's module is imported when the command is run, so that help costs next to nothing.
    """
    arguments = build_parser().parse_args(argv)
    try:
        return int(importlib.import_module(arguments.module).execute(arguments))
    except PatchkilnError as error:
        print_error(error)
        usage = isinstance(error, InvalidRequest | SettingsError)
        return ExitCode.USAGE if usage else ExitCode.FAILED
    except BrokenPipeError:
        # Whoever read our output has gone; nothing may be written to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.SIGNALLED + signal.SIGPIPE
    except KeyboardInterrupt:
        return ExitCode.CANCELLED


def print_error(error: PatchkilnError) -> None:
    """Say on stderr what went wrong and what can be done."""
    print(f"patchkiln: {error.message}\n  fix: {error.remedy}", file=sys.stderr)
