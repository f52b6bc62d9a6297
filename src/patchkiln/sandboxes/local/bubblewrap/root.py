"""Starts bubblewrap where the server is root: as the boxes' own user, who can reach no directory.

So the host's directories are shown to it at places of this process's own. Root of the host must
never be the user of a box, which under bubblewrap it would stay.
"""

import json
import os
import signal

from patchkiln.sandboxes.local.box import syscalls
from patchkiln.sandboxes.local.box.layout import HOST_GID, HOST_UID
from patchkiln.sandboxes.local.zygote import hostmounts

SHOWN = "/tmp"  # noqa: S108 - in a mount namespace of this process's own


def main(order: str) -> None:
    """Become bubblewrap. The order: its command line, and source and writability of each place."""
    asked = json.loads(order)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    mounts = [
        hostmounts.detach(source, writable=writable, as_root=True)
        for source, writable in asked["sources"]
    ]
    syscalls.mount("shown", SHOWN, "tmpfs", syscalls.MS_NOSUID, "mode=755,size=64k")
    for number, mount in enumerate(mounts):
        os.mkdir(f"{SHOWN}/{number}")
        syscalls.attach_mount(mount, f"{SHOWN}/{number}")
    os.setgroups([])
    os.setresgid(HOST_GID, HOST_GID, HOST_GID)
    os.setresuid(HOST_UID, HOST_UID, HOST_UID)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.execv(asked["command"][0], asked["command"])  # noqa: S606 - what this program is for
