"""Carrying files from one container to another, as a tar archive that the server never reads.

Both ends run in containers: the sender's tree is hostile, and what it becomes is unpacked where it
can do no harm, by a tar that follows no link and leaves no directory.
"""

from collections.abc import AsyncIterator
from importlib.resources import files

from patchkiln.errors import SandboxError
from patchkiln.ports.execution import Execution, ExitReason, capture
from patchkiln.sandboxes.local.lined import LinedSandbox

TIMEOUT_S = 600.0
_MAX_LIST_BYTES = 16 << 20
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TAR_OPTIONS": ""}
_PACK = ("sh", "-c", 'exec tar -c --sparse --format=posix -C / -- "$@" 2>/dev/null', "sh")
_UNPACK = ("tar", "-x", "-p", "--delay-directory-restore", "--no-same-owner", "-C", "/", "-f", "-")
_CHANGED = 1  # tar's word for a file that changed meanwhile, or was a socket
_NOTHING = b"[]"


async def carry(
    source: LinedSandbox, target: LinedSandbox, places: tuple[str, ...], max_bytes: int
) -> int:
    """Copy directories, named without the first slash; return how many bytes travelled.

    Nothing may run in the source meanwhile. Raises `SandboxError`.
    """
    locked = await _unlock(source, places)
    try:
        size_bytes = await _pipe(source, target, places, max_bytes)
    finally:
        await _lock(source, locked)
    await _lock(target, locked)
    return size_bytes


async def _pipe(
    source: LinedSandbox, target: LinedSandbox, places: tuple[str, ...], max_bytes: int
) -> int:
    packing = await _start(source, (*_PACK, *places), max_output_bytes=max_bytes)
    size_bytes = 0

    async def archive() -> AsyncIterator[bytes]:
        nonlocal size_bytes
        async for chunk in packing:
            size_bytes += len(chunk.data)
            yield chunk.data

    unpacking = await _start(target, (*_UNPACK, "--", *places), stdin=archive())
    received = await unpacking.wait()
    sent = await packing.wait()
    if sent.reason is ExitReason.OUTPUT_LIMIT:
        raise SandboxError("The files of the sandbox are larger than its disks.")
    if sent.exit_code > _CHANGED or received.exit_code:
        raise SandboxError(
            "The files of the sandbox could not be copied.",
            remedy="Remove what is unusual among them (names of more than 4,000 bytes), or raise "
            "the sandbox's disk limit.",
        )
    return size_bytes


async def _unlock(box: LinedSandbox, places: tuple[str, ...]) -> bytes:
    """Let the owner read everything; return what was locked, as the container tells it."""
    execution = await _start(box, (*_python("unlock.py"), *places))
    told = await capture(execution, max_bytes=2 * _MAX_LIST_BYTES)
    if told.status.exit_code:
        raise SandboxError(
            "The files of the sandbox could not be listed.",
            remedy="Remove directories that lie too deep for a path name.",
        )
    return told.stdout


async def _lock(box: LinedSandbox, locked: bytes) -> None:
    if locked != _NOTHING:
        await (await _start(box, _python("lock.py"), stdin=locked)).wait()


def _python(script: str) -> tuple[str, ...]:
    code = files("patchkiln.sandboxes.container").joinpath(script).read_text(encoding="utf-8")
    return ("python3", "-I", "-S", "-c", code)


async def _start(
    box: LinedSandbox,
    argv: tuple[str, ...],
    *,
    stdin: bytes | AsyncIterator[bytes] = b"",
    max_output_bytes: int = _MAX_LIST_BYTES,
) -> Execution:
    return await box.exec(
        argv,
        cwd="/",
        env=_ENVIRONMENT,
        stdin=stdin,
        timeout_s=TIMEOUT_S,
        max_output_bytes=max_output_bytes,
    )
