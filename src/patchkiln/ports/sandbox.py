"""The isolated machine in which untrusted code runs, and what makes such machines.

Paths are POSIX paths inside the sandbox, absolute or relative to `WORKSPACE`. Everything that comes
out is data of an untrusted party: bounded, and never evaluated.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

from patchkiln.domain.network import NetworkPolicy, NetworkRefusal
from patchkiln.domain.patch import Patch
from patchkiln.domain.repository import Checkout
from patchkiln.ports.execution import DEFAULT_MAX_OUTPUT_BYTES, Execution, Input, TerminalSize

WORKSPACE = "/workspace"
HOME = "/home/user"


class IsolationLevel(StrEnum):
    """How far the sandbox isolates, by its own self-test."""

    FULL = "L3"
    NO_CGROUP = "L2"
    MASKED_PROC = "L1"
    NONE = "none"


class Capability(StrEnum):
    """What not every provider's sandboxes can do. It is declared, and never found out by trying."""

    ATTACH = "attach"
    BACKGROUND = "background"
    CREDENTIALS = "credentials"
    DISK_LIMIT = "disk_limit"
    FORK = "fork"
    HOST_MOUNTS = "host_mounts"
    MEMORY_LIMIT = "memory_limit"
    NETWORK = "network"
    NETWORK_CHANGE = "network_change"
    PAUSE = "pause"
    PROCESS_LIMIT = "process_limit"
    SIGNAL = "signal"
    SNAPSHOT = "snapshot"
    TERMINAL = "terminal"
    # Terminals in a sandbox whose network is open, too.
    TERMINAL_WITH_NETWORK = "terminal_with_network"


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
    """Hard limits of one sandbox.

    ``disk_bytes`` bounds all that it changes or adds in the workspace, the home directory and /tmp,
    together with what the snapshot that it began from holds of such changes.
    """

    memory_bytes: int = 4 << 30
    disk_bytes: int = 2 << 30
    processes: int = 512
    open_files: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMount:
    """A host directory inside the sandbox; never one that a caller of the API named."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The files of a sandbox at one moment, from which others can be made; never its processes.

    ``base`` is what the first of them began from: patches are made against it. A snapshot lives
    until `SandboxProvider.remove_snapshot`, at the latest until the provider is closed.
    """

    id: str
    base: Checkout | None
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """What to make: the base of the workspace (None: empty), and what the sandbox gets.

    ``on_refused`` is called, in the server, for each connection that ``network`` did not admit.
    """

    id: str
    base: Checkout | Snapshot | None = None
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    limits: SandboxLimits = field(default_factory=SandboxLimits)
    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    on_refused: Callable[[NetworkRefusal], None] | None = None
    mounts: tuple[HostMount, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxMetrics:
    """What a sandbox uses now, and its bounds; None where the provider cannot tell."""

    cpu_ms: int | None
    memory_bytes: int | None
    memory_limit_bytes: int | None
    processes: int | None
    disk_bytes: int | None
    disk_limit_bytes: int | None


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
        stdin: Input = b"",
        timeout_s: float | None = None,
        max_output_bytes: int = DEFAULT_MAX_OUTPUT_BYTES,
        terminal: TerminalSize | None = None,
        background: bool = False,
    ) -> Execution:
        """Start a command without a shell, in a session of its own.

        ``env`` is added to the sandbox's. At ``timeout_s``, or past ``max_output_bytes`` of both
        streams together, the command's processes are killed. The command is over when its main
        process is, though a child may hold the pipe.

        With a ``terminal`` the command runs on one, whose input stays open; needs
        `Capability.TERMINAL`, and where the network is open `Capability.TERMINAL_WITH_NETWORK`.

        A ``background`` command never waits for a reader: of what nobody has read yet, the last
        ``max_output_bytes`` are kept.
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

    async def snapshot(self) -> Snapshot:
        """Keep the files of the workspace, the home directory and /tmp as they are now.

        Ends what runs in the sandbox first, so that no file is half written; the sandbox then goes
        on. Needs `Capability.SNAPSHOT`.
        """
        ...

    async def fork(self, count: int = 1) -> Sequence["Sandbox"]:
        """Make sandboxes with this one's files, environment, limits and network policy.

        As `snapshot`, then `SandboxProvider.create` for each; all or none. Neither side sees what
        the other changes afterwards. Needs `Capability.FORK`.
        """
        ...

    async def pause(self) -> None:
        """Stop every process where it stands; none takes processor time or can go on by itself.

        The time limits of commands stand still as well, and who reads or awaits one waits on. All
        but `resume`, `metrics` and `destroy` raise `SandboxPaused` until then. Idempotent. Needs
        `Capability.PAUSE`.
        """
        ...

    async def resume(self) -> None:
        """Let what was paused go on. Idempotent."""
        ...

    async def set_network(self, policy: NetworkPolicy) -> None:
        """Change what may be reached; connections that the new policy does not admit are cut.

        Needs `Capability.NETWORK_CHANGE`.
        """
        ...

    async def metrics(self) -> SandboxMetrics:
        """Return what the sandbox uses now."""
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

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Return what its sandboxes can do; the rest raises `SandboxUnsupported`."""
        ...

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """Make a sandbox. Raises `SandboxUnavailable` with the cause and the fix.

        Raises `SandboxNotFound` for a snapshot that is gone, and `SandboxUnsupported` for what the
        spec asks beyond the capabilities.
        """
        ...

    async def attach(self, sandbox_id: str) -> Sandbox:
        """Return a living sandbox of this provider's. Raises `SandboxNotFound`."""
        ...

    async def remove_snapshot(self, snapshot_id: str) -> None:
        """Forget a snapshot; sandboxes made from it live on. Idempotent."""
        ...

    async def close(self) -> None:
        """Destroy all that is left. Idempotent."""
        ...


def new_sandbox_id() -> str:
    """Return a fresh id, unguessable and fit for a file name."""
    return f"sbx_{secrets.token_hex(8)}"
