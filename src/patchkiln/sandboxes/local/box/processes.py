"""Starting commands in a box and killing them with everything that they started."""

import errno
import os
import signal
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from patchkiln.sandboxes.local.box.census import Process, living

NOT_FOUND = 127
NOT_RUNNABLE = 126
_SIGNALLED = 128
_KILL_ROUNDS = 20
_ROUND_PAUSE_S = 0.002
_DEFAULT_SIGNALS = (
    signal.SIGCHLD,
    signal.SIGINT,
    signal.SIGPIPE,
    signal.SIGXFSZ,
)


Streams: TypeAlias = list[tuple[Any, ...]]


class CannotStart(Exception):
    """A program could not be started; ``exit_code`` as a shell gives it."""

    def __init__(self, message: str, exit_code: int) -> None:
        """Take the sentence for stderr and the code."""
        super().__init__(message)
        self.exit_code = exit_code


def on_pipes(streams: Sequence[int]) -> Streams:
    """Let descriptors become a program's 0, 1 and 2."""
    return [(os.POSIX_SPAWN_DUP2, stream, place) for place, stream in enumerate(streams)]


def on_terminal(terminal: int) -> Streams:
    """Let a terminal be all three; who opens it first in a session is controlled by it."""
    first = (os.POSIX_SPAWN_OPEN, 0, os.ttyname(terminal), os.O_RDWR, 0)
    return [first, *((os.POSIX_SPAWN_DUP2, 0, place) for place in (1, 2))]


def start(argv: list[str], env: Mapping[str, str], streams: Streams) -> int:
    """Start a program in a session of its own, in the working directory; return its pid.

    Raises `CannotStart`.
    """
    program = _find_program(argv[0], env.get("PATH", ""))
    try:
        return os.posix_spawn(
            program,
            argv,
            env,
            file_actions=streams,
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULT_SIGNALS,
        )
    except OSError as error:
        code = NOT_FOUND if error.errno in {errno.ENOENT, errno.ENOTDIR} else NOT_RUNNABLE
        raise CannotStart(f"{argv[0]}: {os.strerror(error.errno or 0)}", code) from error
    except ValueError as error:
        raise CannotStart(f"{argv[0]}: {error}", NOT_RUNNABLE) from error


def exit_code(wait_status: int) -> int:
    """Return the exit code, or 128 and the number of the signal that killed it."""
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else _SIGNALLED - code


def signal_group(leader: int, number: int) -> None:
    """Send a signal to the process group that a process leads."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:  # it has just ended
        return


def kill_session(session: int) -> None:
    """Kill all processes of a session and all that descend from them, wherever they went.

    A session that starts processes faster than they are killed takes the box's others with it.
    """
    sessions = {session}
    for _ in range(_KILL_ROUNDS):
        members = list(_members(sessions))
        if not members:
            return
        sessions.update(member.session for member in members)
        for member in members:
            _kill(member.pid)
        time.sleep(_ROUND_PAUSE_S)
    kill_everything()


def kill_everything() -> None:
    """Kill every process of the box but this one."""
    _kill(-1)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _find_program(name: str, path: str) -> str:
    if "/" in name:
        return name
    found = ""
    for directory in path.split(":"):
        candidate = f"{directory or '.'}/{name}"
        try:
            mode = os.stat(candidate).st_mode
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(mode):
            if os.access(candidate, os.X_OK):
                return candidate
            found = candidate
    if found:
        return found
    raise CannotStart(f"{name}: command not found", NOT_FOUND)


def _members(sessions: set[int]) -> Iterator[Process]:
    """Yield the living processes of some sessions, and their descendants of other sessions."""
    processes = list(living())
    chosen = {process.pid for process in processes if process.session in sessions}
    grown = True
    while grown:
        children = {process.pid for process in processes if process.parent in chosen}
        grown = not children <= chosen
        chosen |= children
    return (process for process in processes if process.pid in chosen)
