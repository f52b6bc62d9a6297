"""Makefile: the ``test`` or ``check`` target."""

from patchkiln.domain.check import Check
from patchkiln.domain.detection.tree import Tree

# The order in which GNU make itself looks.
MARKERS = ("GNUmakefile", "makefile", "Makefile")
TARGETS = ("test", "check")


def detect(tree: Tree) -> Check | None:
    """Return ``make test``, or ``make check``, where a Makefile has such a target."""
    marker = tree.first(MARKERS)
    if marker is None:
        return None
    defined = _targets(tree.text(marker))
    for target in TARGETS:
        if target in defined:
            return Check(command=f"make {target}", source=f"{marker} target {target}")
    return None


def _targets(text: str) -> set[str]:
    found: set[str] = set()
    for line in text.splitlines():
        names, colon, rest = line.partition(":")
        # Recipes begin with a tab; ``:=`` and ``::=`` are assignments.
        if colon and names[:1] not in {"\t", " ", "#"} and not rest.lstrip(":").startswith("="):
            found.update(names.split())
    return found
