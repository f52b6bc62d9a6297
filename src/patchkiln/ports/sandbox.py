"""The isolated machine in which untrusted code runs, and what makes such machines.

Paths are POSIX paths inside the sandbox, absolute or relative to `WORKSPACE`. Everything that comes
out is data of an untrusted party: bounded, and never evaluated.
"""

import secrets
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

from patchkiln.domain.patch import Patch
from patchkiln.domain.repository import Checkout

WORKSPACE = "/workspace"
HOME = "/home/user"
DEFAULT_MAX_OUTPUT_BYTES = 64 << 20
DEFAULT_KEPT_OUTPUT_BYTES = 1 << 20


class IsolationLevel(StrEnum):
    """How far the sandbox isolates, by its own self-test."""

    FULL = "L3"
    NO_CGROUP = "L2"
    MASKED_PROC = "L1"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """The result of a provider's self-test: the level, why it is no higher, and the exact fix.

    ``remedy`` is empty at the highest level. ``facts`` are the single findings, for ``doctor``.
    """

    level: IsolationLevel
    reason: str
    remedy: str = ""
    facts: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """Hard limits of one sandbox. ``disk_bytes`` bounds the workspace's changes."""

    memory_bytes: int = 4 << 30
    disk_bytes: int = 2 << 30
    tmp_bytes: int = 1 << 30
    processes: int = 512
    open_files: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMount:
    """A host directory inside the sandbox; never one that a caller of the API named."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTarget:
    """One host and port that the sandbox may reach by that name.

    The name is resolved once, on the host; ``trusted`` admits a private address, because the
    operator allowed it.
    """

    host: str
    port: int
    trusted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """What to make: the base of the workspace (None: empty), and what the sandbox gets."""

    id: str
    base: Checkout | None = None
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    limits: SandboxLimits = field(default_factory=SandboxLimits)
    network: tuple[NetworkTarget, ...] = ()
    mounts: tuple[HostMount, ...] = ()


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


class Execution(Protocol):
    """A running command. Iterate it for its output, or `wait` for its end; once."""

    def __aiter__(self) -> AsyncIterator[Chunk]:
        """Yield output as it comes; back-pressure reaches the command."""
        ...

    async def wait(self) -> ExitStatus:
        """Return how the command ended; output that nobody iterated is drained and dropped.

        Raises `SandboxLost` (retryable) where the sandbox died under the command.
        """
        ...

    async def kill(self) -> None:
        """Kill the command and every process of its session. Idempotent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """A directory entry. ``kind``: what `os.lstat` says; ``size_bytes`` of the entry itself."""

    path: str
    kind: Literal["file", "directory", "symlink", "other"]
    size_bytes: int
    mode: int
    target_kind: Literal["file", "directory", "other", "missing"] | None = None


class Sandbox(Protocol):
    """One isolated machine. Its methods may run side by side.

    Every method raises `SandboxLost` (retryable) once the machine is gone.
    """

    @property
    def id(self) -> str:
        """Return the id that the spec named."""
        ...

    async def exec(
        self,
        argv: Sequence[str],
        *,
        cwd: str = WORKSPACE,
        env: Mapping[str, str] | None = None,
        stdin: bytes | AsyncIterable[bytes] = b"",
        timeout_s: float | None = None,
        max_output_bytes: int = DEFAULT_MAX_OUTPUT_BYTES,
    ) -> Execution:
        """Start a command without a shell, in a session of its own.

        ``stdin`` is written while the command runs, then closed; an iterable is read no faster
        than the command takes it, and no further once the command is over.
        ``env`` is added to the sandbox's. At ``timeout_s``, or past ``max_output_bytes`` of both
        streams together, the command's processes are killed. The command is over when its main
        process is, though a child may hold the pipe.
        """
        ...

    async def read(self, path: str, *, max_bytes: int) -> bytes:
        """Return a regular file's bytes. Raises `SandboxFileError`; ``EFBIG`` when it is larger."""
        ...

    async def write(self, path: str, data: bytes, *, mode: int | None = None) -> None:
        """Replace a file's bytes, making its parents; through a symlink, to its target.

        ``mode`` None keeps an existing file's mode, and gives a new one 0644. Raises
        `SandboxFileError`, ``ENOSPC`` among them.
        """
        ...

    async def list(self, path: str) -> list[FileInfo]:
        """Return the entries of a directory, by name.

        Raises `SandboxFileError`; ``EOVERFLOW`` where there are more than 10,000.
        """
        ...

    async def stat(self, path: str) -> FileInfo:
        """Describe one path without following it. Raises `SandboxFileError`."""
        ...

    async def realpath(self, path: str) -> str:
        """Resolve symlinks, missing last names allowed. Raises `SandboxFileError`."""
        ...

    async def make_directory(self, path: str) -> None:
        """Make a directory and its parents; an existing one is no error."""
        ...

    async def remove(self, path: str) -> None:
        """Delete a file or a whole tree. Raises `SandboxFileError`."""
        ...

    async def diff(self) -> Patch:
        """Return what changed since the base, made in a clean room.

        Kills what still runs here, then compares in a fresh sandbox with a trusted git directory.
        Files that the repository ignores and well-known caches are left out. Raises `PatchError`
        where the patch would be larger than the provider's limit.
        """
        ...

    async def destroy(self) -> None:
        """End every process and remove every file of it. Idempotent."""
        ...


class SandboxProvider(Protocol):
    """Makes sandboxes of one kind."""

    @property
    def name(self) -> str:
        """Return the name that requests use: ``local``, ``e2b``, ``container``."""
        ...

    async def isolation(self) -> Isolation:
        """Return the self-test's result; it runs once a process and never raises."""
        ...

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """Make a sandbox. Raises `SandboxUnavailable` with the cause and the fix."""
        ...

    async def close(self) -> None:
        """Destroy all that is left. Idempotent."""
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


def new_sandbox_id() -> str:
    """Return a fresh id, unguessable and fit for a file name."""
    return f"sbx_{secrets.token_hex(8)}"


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
    execution: Execution, *, max_bytes: int = DEFAULT_KEPT_OUTPUT_BYTES
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
