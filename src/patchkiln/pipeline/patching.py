"""Puts a patch on a workspace that is as the base was."""

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
