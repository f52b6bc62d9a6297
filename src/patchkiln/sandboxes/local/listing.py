"""Reading what a box says about its files: data of an untrusted party.

A listing is one entry a line, because only between small pieces does the JSON parser let other
threads go on.
"""

import json
import posixpath
from typing import Literal, TypeAlias

from patchkiln.errors import SandboxLost
from patchkiln.ports.sandbox import FileInfo
from patchkiln.sandboxes.local.box.files import MAX_ENTRIES

MAX_ENTRY_BYTES = 64 << 10
# A name has at most 255 bytes, of which JSON makes six characters each.
MAX_LISTING_BYTES = MAX_ENTRIES * (255 * 6 + 100)

_Kind: TypeAlias = Literal["file", "directory", "symlink", "other"]
_TargetKind: TypeAlias = Literal["file", "directory", "other", "missing"] | None

_KINDS: dict[str, _Kind] = {
    "file": "file",
    "directory": "directory",
    "symlink": "symlink",
    "other": "other",
}
_TARGET_KINDS: dict[str | None, _TargetKind] = {
    "file": "file",
    "directory": "directory",
    "other": "other",
    "missing": "missing",
    None: None,
}


def parse_entries(data: bytes, directory: str) -> list[FileInfo]:
    """Return the entries of a directory. Raises `SandboxLost` for anything else."""
    *lines, rest = data.split(b"\n", MAX_ENTRIES)
    if rest or any(len(line) > MAX_ENTRY_BYTES for line in lines):
        raise _nonsense()
    return [_entry(_parse(line), directory) for line in lines]


def parse_entry(data: bytes) -> FileInfo:
    """Return one entry. Raises `SandboxLost` for anything else."""
    return _entry(_parse(data), "")


def parse_path(data: bytes) -> str:
    """Return a path. Raises `SandboxLost` for anything else."""
    path = _parse(data)
    if not isinstance(path, str):
        raise _nonsense()
    return path


def _parse(data: bytes) -> object:
    try:
        parsed: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _nonsense() from error
    return parsed


def _entry(fields: object, directory: str) -> FileInfo:
    match fields:
        case [str(name), str(kind), int(size), int(mode), (str() | None) as target_kind] if (
            kind in _KINDS and target_kind in _TARGET_KINDS
        ):
            return FileInfo(
                path=posixpath.join(directory, name),
                kind=_KINDS[kind],
                size_bytes=size,
                mode=mode,
                target_kind=_TARGET_KINDS[target_kind],
            )
        case _:
            raise _nonsense()


def _nonsense() -> SandboxLost:
    return SandboxLost("The sandbox answered nonsense.")
