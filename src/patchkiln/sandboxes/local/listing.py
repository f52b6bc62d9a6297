"""Reading what a box says about its files: data of an untrusted party."""

import json
import posixpath
from typing import Literal, TypeAlias, cast

from patchkiln.errors import SandboxLost
from patchkiln.ports.sandbox import FileInfo

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
    parsed = _parse(data)
    if not isinstance(parsed, list):
        raise _nonsense()
    return [_entry(entry, directory) for entry in cast("list[object]", parsed)]


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
