"""``patchkiln cancel``: end a run of a server; what it had so far is kept."""

from argparse import Namespace

from patchkiln.cli.exit_codes import ExitCode
from patchkiln.cli.frame import text
from patchkiln.cli.run_words import ending
from patchkiln.cli.server import run_path, server_of


def execute(arguments: Namespace) -> int:
    """Ask for it; a run that has ended stays as it is, which is no error."""
    run = server_of(arguments).json("POST", run_path(arguments.id) + "/cancel")
    if text(run, "status") == "finished":
        print(f"The run has ended already: {ending(run)}.")
    else:
        print("Cancelling. What the run had so far is kept as its patch.")
    return ExitCode.OK
