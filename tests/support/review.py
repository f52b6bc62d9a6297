"""A sandbox on a repository, and what its patch makes of a pristine clone.

async with reviewed(provider, tmp_path, {"a": b"1"}) as review:
await review.run("echo 2 >> a")
patch = await review.box.diff()
assert review.applied(patch) == await review.tree()
"""

import io
import os
import tarfile
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from patchkiln.domain.patch import Patch
from patchkiln.ports.execution import CapturedOutput, capture
from patchkiln.ports.sandbox import Sandbox, SandboxSpec, new_sandbox_id
from patchkiln.sandboxes.local.provider import LocalSandboxes
from tests.support.clones import fetch, git_source
from tests.support.git_server import Content, Program, Symlink, commit, git, init

_MAX_TREE_BYTES = 256 << 20

Tree = dict[str, Content]


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A box on a repository's one commit. Trees are files by name, without git's own."""

    repository: Path
    box: Sandbox

    async def run(self, script: str, *, stdin: bytes = b"") -> CapturedOutput:
        """Run a shell script in the workspace; it must succeed."""
        done = await self.try_to(script, stdin=stdin)
        if done.status.exit_code:
            raise RuntimeError(f"{script}: {done.stderr.decode(errors='replace')}")
        return done

    async def try_to(self, script: str, *, stdin: bytes = b"") -> CapturedOutput:
        """Run a shell script in the workspace, whatever comes of it."""
        return await capture(
            await self.box.exec(["sh", "-ec", script], stdin=stdin), max_bytes=_MAX_TREE_BYTES
        )

    async def tree(self) -> Tree:
        """Return the workspace's files as they are."""
        done = await self.run(
            "find . -path ./.git -prune -o ! -type d -print0"
            " | tar -c --format=pax --null --verbatim-files-from -T - -f -"
        )
        return read_tar(done.stdout)

    async def replace(self, tree: Mapping[str, Content]) -> None:
        """Make the workspace hold exactly these files."""
        await self.run(
            "find . -mindepth 1 -maxdepth 1 ! -name .git -exec rm -rf {} + && tar -x -f -",
            stdin=write_tar(tree),
        )

    def applied(self, patch: Patch) -> Tree:
        """Return the files of a pristine clone after ``git apply``."""
        with tempfile.TemporaryDirectory() as scratch:
            clone = Path(scratch) / "clone"
            git("clone", "--quiet", str(self.repository), str(clone), cwd=Path(scratch))
            if patch.diff:
                git("apply", "--index", "--whitespace=nowarn", cwd=clone, stdin=patch.diff)
            return read_directory(clone)


@asynccontextmanager
async def reviewed(
    provider: LocalSandboxes, directory: Path, files: Mapping[str, Content]
) -> AsyncGenerator[Review]:
    """Lend a box on a new repository in a directory; the box starts with these files."""
    source = git_source(provider, directory)
    repository = init(directory / "repository.git", bare=True)
    commit(repository, files)
    checkout = await fetch(source, f"file://{repository}", prefix=f"file://{directory}")
    box = await provider.create(SandboxSpec(id=new_sandbox_id(), base=checkout))
    try:
        yield Review(repository=repository, box=box)
    finally:
        await box.destroy()
        await source.release(checkout)


def read_directory(directory: Path) -> Tree:
    """Return the files below a directory of the host."""
    tree: Tree = {}
    for parent, directories, files in os.walk(directory):
        if Path(parent) == directory and ".git" in directories:
            directories.remove(".git")
        for name in (*files, *(name for name in directories if (Path(parent) / name).is_symlink())):
            path = Path(parent) / name
            tree[str(path.relative_to(directory))] = _content(path)
    return tree


def read_tar(archive: bytes) -> Tree:
    """Return the files of an archive."""
    tree: Tree = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if member.issym():
                tree[name] = Symlink(member.linkname)
            elif member.isfile():
                file = tar.extractfile(member)
                data = b"" if file is None else file.read()
                tree[name] = Program(data) if member.mode & 0o100 else data
    return tree


def write_tar(tree: Mapping[str, Content]) -> bytes:
    """Return files as an archive."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in tree.items():
            member = tarfile.TarInfo(name)
            data = content if isinstance(content, bytes) else b""
            if isinstance(content, Symlink):
                member.type, member.linkname = tarfile.SYMTYPE, content.target
            elif isinstance(content, Program):
                member.mode, data = 0o755, content.data
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return archive.getvalue()


def _content(path: Path) -> Content:
    if path.is_symlink():
        return Symlink(os.readlink(path))  # noqa: PTH115 - the target's own spelling
    data = path.read_bytes()
    return Program(data) if path.stat().st_mode & 0o100 else data
