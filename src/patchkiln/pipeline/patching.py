"""Puts a patch on a workspace that is as the base was, and takes one from it for a restart."""

from patchkiln.domain.terminal import plain_text
from patchkiln.errors import PatchError
from patchkiln.ports.execution import capture
from patchkiln.ports.sandbox import Sandbox

PATCH_FILE = "/tmp/change.patch"  # noqa: S108 - inside a sandbox of its own
APPLY_TIMEOUT_S = 120.0
MAX_STDERR_BYTES = 2048


async def apply_patch(sandbox: Sandbox, diff: bytes) -> None:
    """Apply a diff that `Sandbox.diff` made of the same base. Raises `PatchError`."""
    await sandbox.write(PATCH_FILE, diff)
    argv = ["git", "apply", "--binary", "--whitespace=nowarn", PATCH_FILE]
    output = await capture(await sandbox.exec(argv, timeout_s=APPLY_TIMEOUT_S))
    if output.status.exit_code != 0:
        raise PatchError(
            "The patch does not apply to its own base.",
            exit_code=output.status.exit_code,
            stderr_tail=plain_text(output.stderr[-MAX_STDERR_BYTES:]),
        )
    await sandbox.remove(PATCH_FILE)


# By the workspace's own git, whose word is good enough for a workspace: unlike `Sandbox.diff` it
# ends no process, and takes a moment. Its index is a copy, with what that knows of the files.
_WORK = """
index=/tmp/.work-index
cp "$(git rev-parse --git-path index)" "$index" 2>/dev/null || rm -f "$index"
GIT_INDEX_FILE=$index; export GIT_INDEX_FILE
set -- git -c safe.directory=* -c core.hooksPath=/dev/null -c core.fsmonitor=false
"$@" add -A && "$@" diff --cached --binary --full-index --no-ext-diff --no-textconv "$0"
"""


async def work_of(sandbox: Sandbox, commit: str, *, max_bytes: int) -> bytes | None:
    """Return what has changed in a workspace since a commit, None where that cannot be told.

    For `apply_patch` in another sandbox, never for users: it is the word of an untrusted party.
    """
    argv = ["/bin/sh", "-c", _WORK, commit]
    output = await capture(
        await sandbox.exec(argv, timeout_s=APPLY_TIMEOUT_S), max_bytes=2 * max_bytes
    )
    whole = output.status.exit_code == 0 and not output.dropped_bytes
    return output.stdout if whole and len(output.stdout) <= max_bytes else None
