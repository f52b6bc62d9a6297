"""The command line: ``patchkiln serve``, ``run``, ``doctor``, ``sandbox run`` and the clients."""

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial

from patchkiln.cli.exit_codes import ExitCode
from patchkiln.errors import InvalidRequest, PatchkilnError, SettingsError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; wrong usage leaves by `SystemExit` with 2.

    A command's module is imported when the command is run, so that help costs next to nothing.
    """
    try:
        with _dying_of_interrupts():
            execute = _command(argv)
        return execute()
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


def _command(argv: Sequence[str] | None) -> Callable[[], int]:
    """Return the command, with all that it needs imported: a module may have a ``prepare``."""
    from patchkiln.cli.parser import build_parser  # noqa: PLC0415 - imported where Ctrl-C is safe

    arguments = build_parser().parse_args(argv)
    module = importlib.import_module(arguments.module)
    if hasattr(module, "prepare"):
        module.prepare(arguments)
    return partial(module.execute, arguments)


@contextmanager
def _dying_of_interrupts() -> Generator[None]:
    """Let SIGINT end the process at once, as nothing has begun that had to be ended well.

    An import may swallow `KeyboardInterrupt`: extension modules clear errors of their own. Where
    SIGINT is ignored, or is someone else's in another thread, it stays as it is.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
