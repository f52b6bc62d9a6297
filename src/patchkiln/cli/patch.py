"""``patchkiln patch``: the change that a run made."""

from argparse import Namespace

from patchkiln.cli.exit_codes import ExitCode
from patchkiln.cli.patch_output import check_output, write_patch
from patchkiln.cli.server import run_path, server_of


def execute(arguments: Namespace) -> int:
    """Write the patch to stdout or a file; an empty one where nothing had to be changed."""
    check_output(arguments.output)
    diff = server_of(arguments).bytes(run_path(arguments.id) + "/patch")
    write_patch(diff, arguments.output)
    return ExitCode.OK
