"""What a command reads and writes: the server's ends, and those that go to the box."""

import os
from collections.abc import Callable
from typing import NamedTuple

from patchkiln.ports.execution import TerminalSize
from patchkiln.sandboxes.local.box import wire
from patchkiln.sandboxes.local.commands.inputs import CommandInput
from patchkiln.sandboxes.local.commands.outputs import ReadingEnd
from patchkiln.sandboxes.local.commands.terminals import Terminals


class Streams(NamedTuple):
    """The server's ends; ``given`` are the box's, in the order in which PID 1 expects them.

    ``terminal`` is the server's side of the command's terminal, one of ``outputs``.
    """

    outputs: tuple[ReadingEnd, ...]
    input: CommandInput | None
    given: list[int]
    terminal: int | None = None

    def close_given(self) -> None:
        """Close the box's ends, which it has by now."""
        wire.close_all(self.given)
        self.given.clear()


def open_pipes(give_pipe: Callable[[int], None], *, with_input: bool) -> Streams:
    """Open a pipe a stream; ``give_pipe`` makes an end the box's own."""
    opened: list[int] = []
    try:
        for number in range(3 if with_input else 2):
            reading, writing = os.pipe2(os.O_CLOEXEC)
            opened += [reading, writing]
            ours, theirs = (writing, reading) if with_input and not number else (reading, writing)
            os.set_blocking(ours, False)
            give_pipe(theirs)
    except BaseException:
        wire.close_all(opened)
        raise
    *stdin, out, their_out, err, their_err = opened
    outputs = (ReadingEnd("stdout", out), ReadingEnd("stderr", err))
    own_input = CommandInput(stdin[1]) if stdin else None
    return Streams(outputs, own_input, [*stdin[:1], their_out, their_err])


async def open_terminal(terminals: Terminals, size: TerminalSize) -> Streams:
    """Open a terminal, which is all three streams."""
    ours, theirs = await terminals.open(size)
    try:
        own_input = CommandInput(os.dup(ours), terminal=True)
    except BaseException:
        wire.close_all([ours, theirs])
        raise
    return Streams((ReadingEnd("stdout", ours, terminal=True),), own_input, [theirs], ours)
