"""What a repository is made of, as far as its files tell."""

from dataclasses import dataclass

from patchkiln.domain.check import Check
from patchkiln.domain.event import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedFile:
    """A file of the repository, relative to its root; ``size_bytes`` None where it is not known.

    A name that is no UTF-8 carries surrogate escapes.
    """

    path: str
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """Languages by share of source bytes, file count, the repository's own checks.

    ``paths`` are the tracked files relative to the root, bounded by the analysis.
    """

    languages: tuple[tuple[str, float], ...] = ()
    file_count: int = 0
    paths: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()

    def as_json(self) -> dict[str, JsonValue]:
        """Return the object that ``repository.analysed`` carries."""
        return {
            "languages": [{"name": name, "share": share} for name, share in self.languages],
            "file_count": self.file_count,
            "checks": [{"command": check.command, "source": check.source} for check in self.checks],
        }
