"""A command in a sandbox: what starts it, what comes out of it, how it ends."""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Literal, Protocol, TypeAlias

DEFAULT_MAX_OUTPUT_BYTES = 64 << 20
DEFAULT_KEPT_OUTPUT_BYTES = 1 << 20


class Stdin(Enum):
    """Ways of giving a command its input besides giving the bytes."""

    OPEN = "open"


# Bytes, or an iterable of them, are written while the command runs and then its input is closed; an
# iterable is read no faster than the command takes it; where it raises, the command is killed, and
# `Execution.wait` raises the same. `Stdin.OPEN` waits for `Execution.write`.
Input: TypeAlias = bytes | AsyncIterable[bytes] | Stdin


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalSize:
    """The size of a terminal, in characters."""

    rows: int = 24
    columns: int = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of a command's output, as it came."""

    stream: Literal["stdout", "stderr"]
    data: bytes


class ExitReason(StrEnum):
    """Why a command is over."""

    EXITED = "exited"
    TIMED_OUT = "timed_out"
    OUTPUT_LIMIT = "output_limit"
    KILLED = "killed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitStatus:
    """How a command ended. ``exit_code`` is 128 + the signal's number for a killed one.

    A program that does not exist exits 127, one that may not be run 126.
    """

    exit_code: int
    reason: ExitReason
    duration_ms: int
    max_rss_bytes: int = 0


class Readable(Protocol):
    """What comes out of a running command. Iterate it, or `wait` for its end; once."""

    def __aiter__(self) -> AsyncIterator[Chunk]:
        """Yield output as it comes; back-pressure reaches the command.

        What a terminal shows is all ``stdout``. A background command's output begins with what was
        kept of it.
        """
        ...

    async def wait(self) -> ExitStatus:
        """Return how the command ended; output that nobody iterated is drained and dropped.

        Raises `SandboxLost` (retryable) where the sandbox died under the command.
        """
        ...


class Execution(Readable, Protocol):
    """A running command."""

    async def pid(self) -> int:
        """Return the number of the command's process inside the sandbox.

        Raises `SandboxError` for a command that never ran, or has ended.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Write to the input of a command started with `Stdin.OPEN` or on a terminal.

        Waits while the command does not take it. Raises `SandboxError` once its input is closed,
        and for a command that was given its whole input at the start.
        """
        ...

    async def close_stdin(self) -> None:
        """End the command's input; on a terminal, as control and D do. Idempotent."""
        ...

    async def resize(self, size: TerminalSize) -> None:
        """Change the size of the command's terminal. Raises `SandboxError` where it has none."""
        ...

    async def signal(self, number: int) -> None:
        """Send a signal to the command's process group; one that has ended takes none.

        Needs `Capability.SIGNAL` for any but SIGKILL.
        """
        ...

    async def kill(self) -> None:
        """Kill the command and every process of its session. Idempotent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedOutput:
    """A finished command with the ends of its output; ``dropped_bytes`` were left out between.

    ``stdout`` and ``stderr`` each keep at most half of the bound at their head and half at their
    tail.
    """

    stdout: bytes
    stderr: bytes
    dropped_bytes: int
    status: ExitStatus


class _Ends:
    """Keeps the first and the last half of a stream within a bound."""

    def __init__(self, max_bytes: int) -> None:
        self._half = max_bytes // 2
        self._head = bytearray()
        self._tail = bytearray()
        self.dropped_bytes = 0

    def add(self, data: bytes) -> None:
        room = self._half - len(self._head)
        self._head += data[:room] if room > 0 else b""
        self._tail += data[max(room, 0) :]
        excess = len(self._tail) - self._half
        if excess > 0:
            del self._tail[:excess]
            self.dropped_bytes += excess

    def bytes(self) -> bytes:
        if not self.dropped_bytes:
            return bytes(self._head + self._tail)
        mark = f"\n... {self.dropped_bytes} bytes left out ...\n".encode()
        return bytes(self._head) + mark + bytes(self._tail)


async def capture(
    execution: Readable, *, max_bytes: int = DEFAULT_KEPT_OUTPUT_BYTES
) -> CapturedOutput:
    """Run a command to its end and keep the ends of its output, in bounded memory."""
    kept = {"stdout": _Ends(max_bytes), "stderr": _Ends(max_bytes)}
    async for chunk in execution:
        kept[chunk.stream].add(chunk.data)
    return CapturedOutput(
        stdout=kept["stdout"].bytes(),
        stderr=kept["stderr"].bytes(),
        dropped_bytes=sum(ends.dropped_bytes for ends in kept.values()),
        status=await execution.wait(),
    )
