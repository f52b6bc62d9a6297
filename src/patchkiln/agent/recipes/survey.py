"""A recipe's look at a whole repository: what it would write, and what it leaves alone and why."""

import asyncio
import errno
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from patchkiln.agent.recipes.files import Listing, Shadows, is_named, list_files
from patchkiln.agent.recipes.recipe import Recipe, Request
from patchkiln.agent.recipes.rewrite import Applied, rewrite
from patchkiln.agent.recipes.source import Unfit
from patchkiln.domain.project import Project
from patchkiln.errors import SandboxFileError
from patchkiln.ports.sandbox import Sandbox

MAX_FILES = 2000
MAX_FILE_BYTES = 1 << 20
MAX_READ_BYTES = 32 << 20
# Read side by side, then rewritten one by one in a thread, so that a cancelled run soon rests.
BATCH_FILES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEdit:
    """A file and what it becomes. ``before`` is the digest of the bytes that were read."""

    path: str
    before: bytes
    after: bytes
    applied: tuple[Applied, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftAlone:
    """A file that is not looked at or not changed, and why, as half a sentence."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a recipe found. ``looked_at`` counts files; ``limits`` say what was not searched."""

    edits: tuple[FileEdit, ...]
    left_alone: tuple[LeftAlone, ...]
    looked_at: int
    limits: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Return how much memory the new files take."""
        return sum(len(edit.after) for edit in self.edits)


class Surveyor:
    """Looks at one repository in its sandbox for one recipe."""

    def __init__(self, recipe: Recipe, project: Project, sandbox: Sandbox) -> None:
        """Take what is looked for and where."""
        self._recipe = recipe
        self._shadows = Shadows(project)
        self._sandbox = sandbox
        self._read_bytes = 0

    async def survey(self, request: Request) -> Survey:
        """Work out every edit, changing nothing. Bounded whatever the repository holds."""
        listing = await list_files(self._sandbox, self._recipe.needle)
        paths = [
            path for path in listing.paths if not request.paths or is_named(path, request.paths)
        ]
        found: list[FileEdit | LeftAlone | None] = []
        chosen = paths[:MAX_FILES]
        for begin in range(0, len(chosen), BATCH_FILES):
            found += await self.edits(chosen[begin : begin + BATCH_FILES])
            if self._read_bytes > MAX_READ_BYTES:
                break
        unreadable = [
            LeftAlone(path=path, reason="its name is no plain text") for path in listing.unreadable
        ]
        return Survey(
            edits=tuple(item for item in found if isinstance(item, FileEdit)),
            left_alone=(*unreadable, *(item for item in found if isinstance(item, LeftAlone))),
            looked_at=len(found),
            limits=tuple(_limits(listing, looked_at=len(found), of=len(paths))),
        )

    async def edits(self, paths: Sequence[str]) -> list[FileEdit | LeftAlone | None]:
        """Return what becomes of some files; None for one in which nothing was found."""
        contents = await asyncio.gather(*map(self._read, paths))
        return [
            await asyncio.to_thread(self._rewrite, path, content)
            if isinstance(content, bytes)
            else content
            for path, content in zip(paths, contents, strict=True)
        ]

    async def _read(self, path: str) -> bytes | LeftAlone:
        try:
            data = await self._sandbox.read(path, max_bytes=MAX_FILE_BYTES)
        except SandboxFileError as error:
            large = error.errno == errno.EFBIG
            reason = "it is larger than 1 MiB" if large else "it cannot be read"
            return LeftAlone(path=path, reason=reason)
        self._read_bytes += len(data)
        return data

    def _rewrite(self, path: str, data: bytes) -> FileEdit | LeftAlone | None:
        shadowed = self._shadows.over(path)
        try:
            rewritten = rewrite(data, self._recipe.rules, path=path, shadowed=shadowed)
        except Unfit as reason:
            return LeftAlone(path=path, reason=str(reason))
        if not rewritten.applied:
            return None
        return FileEdit(
            path=path,
            before=digest(data),
            after=rewritten.data,
            applied=rewritten.applied,
        )


def count_rules(edits: Iterable[FileEdit]) -> Counter[str]:
    """Return how many places each rule changes."""
    counts: Counter[str] = Counter()
    for applied in (applied for edit in edits for applied in edit.applied):
        counts[applied.rule] += len(applied.lines)
    return counts


def digest(data: bytes) -> bytes:
    """Return what tells whether a file is still the one that was read."""
    return hashlib.sha256(data).digest()


def _limits(listing: Listing, *, looked_at: int, of: int) -> Iterator[str]:
    if not listing.complete:
        yield "The search for Python files was cut short; a part of the repository was not seen."
    if looked_at < of:
        yield f"Only the first {looked_at} of {of} Python files were looked at."
