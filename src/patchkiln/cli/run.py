"""``patchkiln run``: one run from the terminal, its patch, and its outcome as the exit code."""

import importlib
from argparse import Namespace

from patchkiln.cli.exit_codes import exit_code_of
from patchkiln.cli.frame import Frame, text
from patchkiln.cli.local_clone import LocalClone, find_clone, is_path
from patchkiln.cli.patch_output import check_output, write_patch
from patchkiln.cli.progress import Progress, open_progress
from patchkiln.cli.run_there import run_there
from patchkiln.domain.run import Outcome
from patchkiln.errors import InvalidRequest


def prepare(arguments: Namespace) -> None:
    """Import what the run needs: without a server that is the server's parts, for a second."""
    if arguments.server is None:
        importlib.import_module("patchkiln.cli.run_here")


def execute(arguments: Namespace) -> int:
    """Run once, show it on stderr, write the patch, and return the outcome's exit code."""
    check_output(arguments.output)
    clone = find_clone(arguments.repo) if is_path(arguments.repo) else None
    if arguments.apply and (clone is None or clone.bare):
        raise InvalidRequest(
            "--apply needs a local clone with a working tree.",
            field="--apply",
            remedy="Name the clone's directory as REPO, or apply the patch with 'git apply'.",
        )
    progress = open_progress(as_json=arguments.json)
    if clone is not None and clone.uncommitted():
        progress.note(
            "Uncommitted changes are not part of the run: it starts from the last commit."
        )
    with progress:
        last, diff = _run(arguments, clone, progress)
    outcome = text(last.summary or {}, "outcome")
    if diff and (arguments.output is not None or not arguments.json):
        write_patch(diff, arguments.output)
    if diff and arguments.apply and clone is not None:
        _apply(clone, diff, outcome, progress)
    return exit_code_of(outcome)


def _run(
    arguments: Namespace, clone: LocalClone | None, progress: Progress
) -> tuple[Frame, bytes | None]:
    if arguments.server is not None:
        return run_there(arguments, clone, progress)
    from patchkiln.cli.run_here import run_here  # noqa: PLC0415 - the server's parts take a second

    return run_here(arguments, clone, progress)


def _apply(clone: LocalClone, diff: bytes, outcome: str, progress: Progress) -> None:
    if outcome != Outcome.CHANGED:
        progress.note(f"The patch was not applied: the run ended {outcome.replace('_', ' ')}.")
        return
    clone.apply(diff)
    progress.note("The patch is applied to the local clone; nothing is committed.")
