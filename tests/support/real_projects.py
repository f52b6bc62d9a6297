"""Real projects that nobody here wrote: source packages of the Python registry, pinned by hash.

    with GitServer(tmp_path / "served") as server:
        server.add(CONFIGOBJ.name, source_of(CONFIGOBJ))

Each brings its test suite along, which passes with the standard library and a bare pytest, without
a network, in seconds; and each has flaws in its error handling that the recipes mend. Packages are
fetched once by pip and kept in the user's cache. pip checks the hash before it asks a package's
build for metadata, and `GitServer.add` gives the commit a fixed author and date.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tests.support.git_server import Content, Program

DOWNLOAD_TIMEOUT_S = 300
MAX_UNPACKED_BYTES = 64 << 20
_EXECUTABLE = 0o100


@dataclass(frozen=True, slots=True, kw_only=True)
class RealProject:
    """A source package: where it is, what it must be, and what its own suite says of it.

    ``command`` is the end of the test command that must be found; ``tests`` the number that pass.
    """

    name: str
    version: str
    sha256: str
    command: str
    tests: int

    @property
    def archive(self) -> str:
        """Return the file name that the registry gives it."""
        return f"{self.name}-{self.version}.tar.gz"


# pytest by setup.cfg, src layout, doctests.
CONFIGOBJ = RealProject(
    name="configobj",
    version="5.0.9",
    sha256="03c881bbf23aa07bccf1b837005975993c4ab4427ba57f959afdd9d1a2386848",
    command="-m pytest -q -rfE --continue-on-collection-errors",
    tests=75,
)
# unittest in a single tests.py at the root.
JSONPOINTER = RealProject(
    name="jsonpointer",
    version="3.12",
    sha256="7a3dcc11b64053eaa9c549e85e413f8d40a075215f793a331bed9182a14251ae",
    command="unittest discover -s .",
    tests=99,
)
# unittest inside of the package itself.
SIMPLEJSON = RealProject(
    name="simplejson",
    version="4.3.0",
    sha256="ffe34ab51a0d37e6d1c661a5672df00d2d5e18804e38eac07abffb83fa5ec3d7",
    command="unittest discover -s simplejson/tests -t .",
    tests=238,
)
PROJECTS = (CONFIGOBJ, JSONPOINTER, SIMPLEJSON)


def source_of(project: RealProject) -> dict[str, Content]:
    """Return a project's files by path, fetched from the registry unless the cache has them."""
    return _unpacked(_archive(project))


def _archive(project: RealProject) -> Path:
    kept = _cache() / project.archive
    if not (kept.is_file() and _digest(kept) == project.sha256):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            _download(project, Path(scratch)).replace(kept)
    return kept


def _cache() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "patchkiln-tests"


def _download(project: RealProject, into: Path) -> Path:
    pinned = into / "pinned.txt"
    pinned.write_text(f"{project.name}=={project.version} --hash=sha256:{project.sha256}\n")
    options = ["--no-binary", ":all:", "--no-deps", "--require-hashes", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, "-r", str(pinned), "-d", str(into)],
        capture_output=True,
        text=True,
        timeout=DOWNLOAD_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{project.archive} could not be fetched: {done.stderr[-2000:]}")
    return into / project.archive


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _unpacked(archive: Path) -> dict[str, Content]:
    """Read the regular files below the archive's top directory; nothing touches the disk."""
    files: dict[str, Content] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            if not member.isfile() or path.is_absolute() or ".." in path.parts:
                continue
            stream = tar.extractfile(member)
            data = b"" if stream is None else stream.read(MAX_UNPACKED_BYTES)
            files[str(path)] = Program(data) if member.mode & _EXECUTABLE else data
    return files
