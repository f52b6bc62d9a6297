"""Looks at a repository inside of its sandbox: what files there are, and what they tell."""

import asyncio
from collections.abc import Mapping, Sequence

from patchkiln.domain.detection import MAX_MARKER_BYTES, Tree, detect_checks, files_to_read
from patchkiln.domain.languages import language_of, language_shares, vendored
from patchkiln.domain.project import Project, TrackedFile
from patchkiln.errors import SandboxError, SandboxFileError
from patchkiln.ports.sandbox import Sandbox

MAX_LISTING_BYTES = 32 << 20
MAX_PATHS = 5000
LISTING_TIMEOUT_S = 60.0
# Size, tab, path, NUL. The root's own files come first, so that a listing that is cut short still
# holds the settings. find, because git would ask the repository's own configuration for advice.
_FILES = r"\( -type f -o -type l \) -printf '%s\t%P\0'"
_LISTING = rf"find . -maxdepth 1 {_FILES}; find . -name .git -prune -o -path './*/*' {_FILES}; true"


async def analyse(sandbox: Sandbox) -> Project:
    """Return languages, files and checks of the workspace, which must be as it was checked out.

    Bounded whatever the repository holds: past `MAX_LISTING_BYTES` of names the rest is not seen,
    and ``paths`` holds at most `MAX_PATHS`, source files before others. Raises `SandboxLost`
    (retryable), and `SandboxError` where the sandbox can not list files.
    """
    files = await _files(sandbox)
    paths = tuple(file.path for file in files)
    wanted = await asyncio.to_thread(files_to_read, paths)
    texts = await _texts(sandbox, wanted)
    # Hostile settings can take a second to parse; the streams of other runs must not wait.
    return await asyncio.to_thread(_project, files, paths, texts)


def _project(
    files: Sequence[TrackedFile], paths: tuple[str, ...], texts: Mapping[str, bytes]
) -> Project:
    return Project(
        languages=language_shares(files),
        file_count=len(files),
        paths=_chosen(paths),
        checks=detect_checks(Tree(paths=paths, texts=texts)),
    )


def _chosen(paths: tuple[str, ...]) -> tuple[str, ...]:
    if len(paths) <= MAX_PATHS:
        return paths
    return tuple(sorted(sorted(paths, key=_rank)[:MAX_PATHS]))


def _rank(path: str) -> tuple[bool, bool, int, str]:
    return (vendored(path), language_of(path) is None, path.count("/"), path)


async def _files(sandbox: Sandbox) -> list[TrackedFile]:
    execution = await sandbox.exec(
        ["/bin/sh", "-c", _LISTING],
        timeout_s=LISTING_TIMEOUT_S,
        max_output_bytes=MAX_LISTING_BYTES,
    )
    listing, complaint = bytearray(), bytearray()
    async for chunk in execution:
        (listing if chunk.stream == "stdout" else complaint).extend(chunk.data)
    await execution.wait()
    if complaint and not listing:
        raise SandboxError(
            "The sandbox could not list the repository's files.",
            remedy="Use a sandbox that has a POSIX shell and GNU find.",
        )
    return await asyncio.to_thread(_parse, bytes(listing))


def _parse(listing: bytes) -> list[TrackedFile]:
    """Return the files by path; what follows the last NUL is an entry that was cut off."""
    files: list[TrackedFile] = []
    for entry in listing.split(b"\0")[:-1]:
        size, tab, name = entry.partition(b"\t")
        if tab and size.isdigit():
            path = name.decode("utf-8", "surrogateescape")
            files.append(TrackedFile(path=path, size_bytes=int(size)))
    return sorted(files, key=lambda file: file.path)


async def _texts(sandbox: Sandbox, paths: Sequence[str]) -> dict[str, bytes]:
    """Read the files that can be read; a missing text counts as an empty file."""
    texts: dict[str, bytes] = {}
    for path in paths:
        try:
            texts[path] = await sandbox.read(path, max_bytes=MAX_MARKER_BYTES)
        except SandboxFileError:
            continue
    return texts
