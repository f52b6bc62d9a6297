"""The clean-room diff: what a sandbox changed, compared where nothing of it runs."""

from patchkiln.domain.patch import Patch
from patchkiln.errors import PatchError
from patchkiln.sandboxes.local.sandbox import LocalSandbox


async def clean_room_diff(box: LocalSandbox) -> Patch:
    """Compare /workspace of a fresh box with the untouched checkout at /base.

    In ``box`` nothing of the first sandbox runs: /workspace shows its sealed layer over the base,
    with an upper layer of its own, and /base is read-only. Raises `PatchError`, `SandboxLost`.
    """
    raise PatchError(f"The local sandbox {box.id} makes no patches yet.")
