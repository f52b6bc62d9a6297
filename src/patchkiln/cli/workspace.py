"""Copies a directory into a sandbox as its workspace. Nothing ever comes back."""

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

from patchkiln.cli.wording import one_line
from patchkiln.errors import SandboxError
from patchkiln.ports.execution import capture
from patchkiln.ports.sandbox import WORKSPACE, Sandbox

# Archives, because they carry names that are no UTF-8, symlinks and modes as they are.
PACK = ("tar", "--create", "--sparse", "--file=-", "--directory")
UNPACK = (
    "tar",
    "--extract",
    "--file=-",
    f"--directory={WORKSPACE}",
    "--preserve-permissions",
    "--no-same-owner",
    "--no-overwrite-dir",
)
COPY_TIMEOUT_S = 600.0
PIECE_BYTES = 256 << 10
MAX_SAID_BYTES = 4 << 10
# GNU tar: a file changed while it was read. The copy is as good as any other moment's.
CHANGED_WHILE_READ = 1


async def copy_in(sandbox: Sandbox, directory: Path) -> None:
    """Copy what is in ``directory``, an absolute path, into the workspace.

    Raises `SandboxError` with tar's own words where something could not be read or written.
    """
    packer = await asyncio.create_subprocess_exec(*PACK, directory, ".", stdout=PIPE, stderr=PIPE)
    try:
        said = asyncio.create_task(_stderr(packer))
        unpacker = await sandbox.exec(
            UNPACK, cwd="/", stdin=_stdout(packer), timeout_s=COPY_TIMEOUT_S
        )
        unpacked = await capture(unpacker, max_bytes=MAX_SAID_BYTES)
        _check(unpacked.status.exit_code, unpacked.stderr, "written into the sandbox")
        _check(await packer.wait() - CHANGED_WHILE_READ, await said, "read")
    finally:
        if packer.returncode is None:
            packer.kill()
            await packer.wait()


def _check(exit_code: int, said: bytes, what: str) -> None:
    if exit_code > 0:
        lines = said.decode("utf-8", "backslashreplace").strip().splitlines()
        reason = lines[0] if lines else f"tar ended with exit code {exit_code}"
        raise SandboxError(
            f"The workspace could not be {what}: {one_line(reason)}",
            remedy="Make every file in it readable and smaller than the sandbox's disk, 2 GiB.",
        )


async def _stdout(packer: asyncio.subprocess.Process) -> AsyncIterator[bytes]:
    while packer.stdout is not None and (piece := await packer.stdout.read(PIECE_BYTES)):
        yield piece


async def _stderr(packer: asyncio.subprocess.Process) -> bytes:
    """Read all that it says, and keep the beginning."""
    kept = b""
    while packer.stderr is not None and (piece := await packer.stderr.read(PIECE_BYTES)):
        kept = (kept + piece)[:MAX_SAID_BYTES]
    return kept
