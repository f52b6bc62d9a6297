"""A run on a server: posted, followed, and its patch brought here."""

import http
from argparse import Namespace
from collections.abc import Iterable

from patchkiln.cli.frame import Frame
from patchkiln.cli.local_clone import LocalClone
from patchkiln.cli.progress import Progress
from patchkiln.cli.remote_run import follow
from patchkiln.cli.request import body_of
from patchkiln.cli.server import Server, ServerRefused, run_path, server_of


def run_there(
    arguments: Namespace, clone: LocalClone | None, progress: Progress
) -> tuple[Frame, bytes | None]:
    """Post the run and follow it to its end; return the summary and the patch.

    Ctrl-C cancels the run on the server; a second one leaves it. Raises as `Server.open`
    does.
    """
    server = server_of(arguments)
    stream = server.open("POST", "/code", body_of(arguments, clone))
    run_id = stream.headers["X-Run-Id"]
    seen = _Seen(progress)
    try:
        seen.show_all(follow(server, run_id, stream=stream))
    except KeyboardInterrupt:
        progress.note("Cancelling, and keeping what is done so far. Ctrl-C again leaves it.")
        server.json("POST", run_path(run_id) + "/cancel")
        seen.show_all(follow(server, run_id, after=seen.last.seq))
    return seen.last, patch_of(server, run_id)


class _Seen:
    """Shows frames and remembers the last one, from which to go on."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.last = Frame(data={})

    def show_all(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            self.last = frame
            self._progress.show(frame)


def patch_of(server: Server, run_id: str) -> bytes | None:
    """Return a run's patch, None where it has none."""
    try:
        return server.bytes(run_path(run_id) + "/patch")
    except ServerRefused as error:
        if error.status == http.HTTPStatus.NOT_FOUND:
            return None
        raise
