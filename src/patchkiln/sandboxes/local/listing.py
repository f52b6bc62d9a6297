"""Reading what a box says about its files: data of an untrusted party."""

import json
from typing import Any

from patchkiln.errors import SandboxLost
from patchkiln.ports.sandbox import FileInfo

_KINDS = frozenset({"file", "directory", "symlink", "other"})
_TARGET_KINDS = frozenset({"file", "directory", "other", "missing", None})


def parse_entries(data: bytes) -> list[FileInfo]:
    """Return the entries of a directory. Raises `SandboxLost` for anything else."""
    entries = _parse(data)
    if not isinstance(entries, list):
        raise _nonsense()
    return [_entry(entry) for entry in entries]


def parse_entry(data: bytes) -> FileInfo:
    """Return one entry. Raises `SandboxLost` for anything else."""
    return _entry(_parse(data))


def parse_path(data: bytes) -> str:
    """Return a path. Raises `SandboxLost` for anything else."""
    path = _parse(data)
    if not isinstance(path, str):
        raise _nonsense()
    return path


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _nonsense() from error


def _entry(fields: Any) -> FileInfo:
    match fields:
        case [str(path), str(kind), int(size), int(mode), (str() | None) as target_kind]:
            if kind in _KINDS and target_kind in _TARGET_KINDS:
                return FileInfo(
                    path=path,
                    kind=kind,
                    size_bytes=size,
                    mode=mode,
                    target_kind=target_kind,
                )
    raise _nonsense()


def _nonsense() -> SandboxLost:
    return SandboxLost("The sandbox answered nonsense.")
