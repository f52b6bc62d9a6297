"""What of the server's own Python is lent to boxes."""

import asyncio
import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path

from patchkiln.errors import SandboxError
from patchkiln.ports.sandbox import Sandbox
from patchkiln.sandboxes.local.box.layout import OPT_PYTHON, OPT_TOOLCHAIN
from patchkiln.sandboxes.local.box.plan import MountPlan, SitePlan
from patchkiln.sandboxes.local.selftest.examination import python_version
from patchkiln.sandboxes.local.selftest.toolchain import MIN_PYTHON, build_toolchain


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The interpreter, where boxes would not see it in /usr, and the packages for a test suite.

    ``python`` is the version that a box's ``python3`` has; None where there is none.
    """

    own_python: Path | None = None
    packages: Path | None = None
    python: str | None = None

    @property
    def mounts(self) -> list[MountPlan]:
        """Return the mounts that lend them."""
        lent = ((self.own_python, OPT_PYTHON), (self.packages, OPT_TOOLCHAIN))
        return [
            {"source": str(source), "target": target, "writable": False, "nameless": True}
            for source, target in lent
            if source is not None
        ]

    @property
    def site(self) -> SitePlan | None:
        """Return where Python finds the packages."""
        if self.packages is None or self.python is None:
            return None
        return {"version": self.python, "path": OPT_TOOLCHAIN}


def own_python(data_dir: Path) -> Path | None:
    """Return the interpreter's own directory unless every box sees it in /usr anyway."""
    prefix = Path(os.path.realpath(sys.base_prefix))
    return prefix if may_be_lent(prefix, data_dir) else None


def may_be_lent(prefix: Path, data_dir: Path) -> bool:
    """Tell whether a directory holds an interpreter only: no one's home, and not the server's data.

    Whoever builds Python with ``--prefix=$HOME`` would otherwise show boxes all that is theirs.
    """
    homes = {Path(os.path.expanduser("~")), *(Path(entry.pw_dir) for entry in pwd.getpwall())}
    private = {data_dir, *(home for home in homes if home.is_dir())}
    return not prefix.is_relative_to("/usr") and not any(
        Path(os.path.realpath(place)).is_relative_to(prefix) for place in private
    )


async def choose_tools(box: Sandbox, python: Path | None, parent: Path) -> Tools:
    """Try an interpreter in a box that was lent it, and lend the packages that fit what runs."""
    lent = f"{OPT_PYTHON}/bin/python3"
    version = None if python is None else await python_version(box, lent, sys.version)
    if version is None:
        python, version = None, await python_version(box, "python3")
    if version is None or tuple(map(int, version.split("."))) < MIN_PYTHON:
        return Tools(own_python=python, python=version)
    try:
        packages = await asyncio.to_thread(build_toolchain, parent)
    except (SandboxError, OSError):  # boxes work without, and checks say that pytest is missing
        return Tools(own_python=python, python=version)
    return Tools(own_python=python, packages=packages, python=version)
