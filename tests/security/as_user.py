"""Becomes an ordinary user, and runs the driver as that user.

The interpreter and this repository may lie where only root can go, as below /root. So they are
shown to the user at another place, in a mount namespace of this process's own.
"""

import os
import sys
from pathlib import Path

from patchkiln.sandboxes.local.box import syscalls
from tests.security import conditions

USER_ID = 54321
SHOWN = Path("/mnt")


def main(data_dir: str, *narrowed: str) -> None:
    """Show what is needed, give up root, and become the driver."""
    repository = Path(__file__).parents[2]
    packages = Path(next(place for place in sys.path if place.endswith("site-packages")))
    prefix = Path(os.path.realpath(sys.base_prefix))
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    places = {"python": prefix, "repository": repository, "packages": packages}
    sources = {name: syscalls.clone_mount(str(place)) for name, place in places.items()}
    syscalls.mount("shown", str(SHOWN), "tmpfs", 0, "mode=755")
    for name, source in sources.items():
        (SHOWN / name).mkdir()
        syscalls.attach_mount(source, str(SHOWN / name))
    conditions.prepare(data_dir, narrowed)
    os.setgroups([])
    os.setresgid(USER_ID, USER_ID, USER_ID)
    os.setresuid(USER_ID, USER_ID, USER_ID)
    _become_driver(prefix, data_dir, *narrowed)


def _become_driver(prefix: Path, *driven: str) -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    in_usr = prefix.is_relative_to("/usr")
    python = str((prefix if in_usr else SHOWN / "python") / "bin" / version)
    paths = (SHOWN / "repository" / "src", SHOWN / "repository", SHOWN / "packages")
    env = {
        **os.environ,
        "PYTHONPATH": ":".join(map(str, paths)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/nonexistent",
        # Its own library, which an interpreter that was built in a home looks for there alone.
        "LD_LIBRARY_PATH": "" if in_usr else str(SHOWN / "python" / "lib"),
    }
    arguments = [python, "-m", "tests.security.driver", *driven]
    os.execve(python, arguments, env)  # noqa: S606 - this is what the test starts


if __name__ == "__main__":
    main(*sys.argv[1:])
