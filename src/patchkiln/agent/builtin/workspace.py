"""A sandbox as the workspace that pydantic-ai's tools and capabilities act in."""

import asyncio
import errno
import os
import posixpath
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

from pydantic_ai.workspaces import (
    CommandResult,
    FileEntry,
    SupportsCommands,
    SupportsFilesystem,
    SupportsRealpath,
    WorkspaceBackend,
    WorkspaceCommand,
    WorkspaceOutputLimitError,
    WorkspaceRef,
    WorkspaceTimeoutError,
    WorkspaceUnavailableError,
)

from patchkiln.errors import SandboxFileError, SandboxLost
from patchkiln.ports.execution import CapturedOutput, ExitReason, capture
from patchkiln.ports.sandbox import WORKSPACE, FileInfo, Sandbox

MAX_FILE_BYTES = 16 << 20
MAX_COMMAND_OUTPUT_BYTES = 4 << 20
LEADS_NOWHERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


class SandboxWorkspace(WorkspaceBackend, SupportsCommands, SupportsFilesystem, SupportsRealpath):
    """Passes every operation to the sandbox; nothing here touches the host.

    Its rules are those of `pydantic_ai.workspaces.protocol`, whose public suite it passes.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        """Take the sandbox; it is contacted at the first operation."""
        self._sandbox = sandbox
        self._alive = False

    @property
    def ref(self) -> WorkspaceRef:
        """Return the sandbox's identity."""
        return WorkspaceRef(provider="patchkiln", id=self._sandbox.id)

    async def working_dir(self) -> str:
        """Return the workspace's root, after a look whether the sandbox is there at all."""
        if not self._alive:
            with _translated(WORKSPACE):
                await self._sandbox.stat(WORKSPACE)
            self._alive = True
        return WORKSPACE

    async def run(
        self,
        command: WorkspaceCommand,
        *,
        shell: bool = False,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the protocol names it
    ) -> CommandResult:
        """Run a command and return its whole output; more than 4 MiB of it is an error."""
        argv = _argv(command, shell=shell)
        with _translated(WORKSPACE):
            output = await run_in(
                self._sandbox,
                argv,
                env=env,
                timeout_s=timeout,
                kept_bytes=4 * MAX_COMMAND_OUTPUT_BYTES,
                max_output_bytes=MAX_COMMAND_OUTPUT_BYTES,
            )
        return _result(output)

    async def read_bytes(self, path: str) -> bytes:
        """Read a regular file of at most 16 MiB."""
        with _translated(path):
            return await self._sandbox.read(path, max_bytes=MAX_FILE_BYTES)

    async def write_bytes(self, path: str, data: bytes) -> None:
        """Replace a file's bytes, making its parents."""
        try:
            with _translated(path):
                await self._sandbox.write(path, data)
        except FileExistsError as error:
            # What exists is a file where a parent should be; writing over a file is no error.
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from error

    async def stat(self, path: str) -> FileEntry:
        """Describe what a path leads to, through symlinks."""
        with _translated(path):
            info = await self._sandbox.stat(path)
            if info.kind == "symlink":
                info = await self._sandbox.stat(await self._sandbox.realpath(path))
        return _entry(path, info)

    async def list_dir(self, path: str) -> Sequence[FileEntry]:
        """List the entries of a directory, by name."""
        with _translated(path):
            entries = await self._sandbox.list(path)
        return [_entry(posixpath.join(path, _name(info)), info) for info in entries]

    async def make_dir(self, path: str) -> None:
        """Make a directory and its parents."""
        with _translated(path):
            await self._sandbox.make_directory(path)

    async def remove(self, path: str) -> None:
        """Delete a file or a tree, never the workspace itself or what it lies in."""
        with _translated(path):
            parent = await self._sandbox.realpath(posixpath.dirname(path))
            target = posixpath.join(parent, posixpath.basename(path))
            if target == WORKSPACE or WORKSPACE.startswith(target.rstrip("/") + "/"):
                raise ValueError("the workspace itself cannot be removed")
            await self._sandbox.remove(path)

    async def exists(self, path: str) -> bool:
        """Tell whether a path leads to anything."""
        try:
            await self.stat(path)
        except OSError as error:
            if error.errno in LEADS_NOWHERE:
                return False
            raise
        return True

    async def realpath(self, path: str) -> str:
        """Resolve symlinks inside the sandbox."""
        with _translated(path):
            return await self._sandbox.realpath(path)


async def run_in(
    sandbox: Sandbox,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None,
    kept_bytes: int,
    max_output_bytes: int,
) -> CapturedOutput:
    """Run a command to its end; a cancelled caller takes the command with it.

    ``kept_bytes`` bounds what is held of each stream. Raises `SandboxLost`.
    """
    execution = await sandbox.exec(
        argv, env=env, timeout_s=timeout_s, max_output_bytes=max_output_bytes
    )
    try:
        return await capture(execution, max_bytes=kept_bytes)
    except BaseException:
        # Shielded, because a cancel scope repeats itself until the task is over.
        await asyncio.shield(execution.kill())
        raise


def _argv(command: WorkspaceCommand, *, shell: bool) -> list[str]:
    if isinstance(command, str) != shell:
        raise TypeError("a string needs shell=True, and a sequence shell=False")
    return ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)


def _result(output: CapturedOutput) -> CommandResult:
    stdout = output.stdout.decode(errors="replace")
    stderr = output.stderr.decode(errors="replace")
    if output.status.reason is ExitReason.TIMED_OUT:
        raise WorkspaceTimeoutError("the command timed out", stdout=stdout, stderr=stderr)
    if output.status.reason is ExitReason.OUTPUT_LIMIT:
        raise WorkspaceOutputLimitError(
            "the command printed too much",
            limit=MAX_COMMAND_OUTPUT_BYTES,
            stdout=stdout,
            stderr=stderr,
        )
    return CommandResult(exit_code=output.status.exit_code, stdout=stdout, stderr=stderr)


def _entry(path: str, info: FileInfo) -> FileEntry:
    kind = info.target_kind if info.kind == "symlink" else info.kind
    return FileEntry(
        name=posixpath.basename(path),
        path=path,
        is_dir=kind == "directory",
        size=info.size_bytes if info.kind == "file" else None,
    )


def _name(info: FileInfo) -> str:
    return posixpath.basename(info.path)


@contextmanager
def _translated(path: str) -> Generator[None]:
    """Speak the protocol's errors: the built-in file errors, and one for a dead sandbox."""
    try:
        yield
    except SandboxFileError as error:
        raise OSError(error.errno, os.strerror(error.errno), path) from error
    except SandboxLost as error:
        raise WorkspaceUnavailableError(error.message) from error
