"""The change that comes out of a run."""

from dataclasses import dataclass
from enum import StrEnum

from patchkiln.domain.event import JsonValue


class ChangeKind(StrEnum):
    """What happened to a file, as git's raw diff tells it."""

    ADDED = "added"
    MODIFIED = "modified"
    DELETED = "deleted"
    RENAMED = "renamed"
    TYPE_CHANGED = "type_changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One changed file. Names that are no UTF-8 carry surrogate escapes until `as_json`.

    ``added`` and ``removed`` count lines; None for a binary file. ``old_path`` is set for a rename.
    """

    path: str
    kind: ChangeKind
    added: int | None = None
    removed: int | None = None
    old_path: str | None = None

    def as_json(self) -> dict[str, JsonValue]:
        """Return the object that events carry; bytes that are no UTF-8 are shown escaped."""
        return {
            "path": printable(self.path),
            "kind": self.kind.value,
            "added": self.added,
            "removed": self.removed,
            "old_path": None if self.old_path is None else printable(self.old_path),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A unified diff that ``git apply`` takes, and what it touches."""

    diff: bytes
    changes: tuple[FileChange, ...]
    notes: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Tell whether nothing was changed."""
        return not self.changes


def printable(name: str) -> str:
    """Return a file name that JSON and terminals can carry."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
