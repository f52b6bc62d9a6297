"""Reads what ``git diff --raw --numstat -z`` prints (git-diff(1), "Raw output format"). Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from patchkiln.domain.patch import ChangeKind, FileChange

_KINDS = {
    "A": ChangeKind.ADDED,
    "D": ChangeKind.DELETED,
    "M": ChangeKind.MODIFIED,
    "R": ChangeKind.RENAMED,
    "T": ChangeKind.TYPE_CHANGED,
}


def parse_changes(output: Iterable[bytes]) -> tuple[FileChange, ...]:
    """Return the changed files in git's order, from its fields without their NULs.

    Raises `ValueError` for anything else.
    """
    fields = (field.decode("utf-8", "surrogateescape") for field in output)
    changes: dict[str, FileChange] = {}
    for field in fields:
        if field.startswith(":"):
            change = _raw(field, fields)
            changes[change.path] = change
        else:
            added, removed, path = _counted(field, fields)
            changes[path] = replace(changes[path], added=added, removed=removed)
    return tuple(changes.values())


def _raw(field: str, rest: Iterator[str]) -> FileChange:
    kind = _KINDS.get(field.rsplit(" ", 1)[-1][:1])
    if kind is None:
        raise ValueError(f"no change that git add makes: {field!r}")
    old_path = next(rest) if kind is ChangeKind.RENAMED else None
    return FileChange(path=next(rest), kind=kind, old_path=old_path)


def _counted(field: str, rest: Iterator[str]) -> tuple[int | None, int | None, str]:
    added, removed, path = field.split("\t", 2)
    if not path:  # a rename: the old and the new name follow
        next(rest)
        path = next(rest)
    return _count(added), _count(removed), path


def _count(text: str) -> int | None:
    return None if text == "-" else int(text)
