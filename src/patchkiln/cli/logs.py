"""``patchkiln logs``: the events of a run, those there are or all to its end."""

from argparse import Namespace
from collections.abc import Iterator, Mapping

from patchkiln.cli.exit_codes import ExitCode
from patchkiln.cli.frame import Frame, items
from patchkiln.cli.progress import open_progress
from patchkiln.cli.remote_run import follow
from patchkiln.cli.server import Server, run_path, server_of


def execute(arguments: Namespace) -> int:
    """Show the events on stderr, or as JSON on stdout."""
    server = server_of(arguments)
    read = follow if arguments.follow else _held
    with open_progress(as_json=arguments.json) as progress:
        for frame in read(server, arguments.id, after=arguments.after):
            progress.show(frame)
    return ExitCode.OK


def _held(server: Server, run_id: str, *, after: int) -> Iterator[Frame]:
    """Yield the events that the server holds now, page by page."""
    while True:
        page = server.json("GET", f"{run_path(run_id)}/events?after={after}")
        events = [event for event in items(page, "events") if isinstance(event, Mapping)]
        for event in events:
            frame = Frame.of(event)
            yield frame
            after = frame.seq
        if not events:
            return
