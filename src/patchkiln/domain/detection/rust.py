"""Rust: a package or workspace of Cargo."""

from patchkiln.domain.check import Check
from patchkiln.domain.detection.tree import Tree

MARKERS = ("Cargo.toml",)


def detect(tree: Tree) -> Check | None:
    """Return ``cargo test --offline`` where a Cargo.toml exists.

    Unit tests stand inside of any source file, so that no name tells whether there are some. All
    targets run even after a failure, because only whole lists of failures can be compared.
    """
    if "Cargo.toml" not in tree.files:
        return None
    return Check(
        command="cargo test --offline --no-fail-fast",
        source="Cargo.toml",
        env={"CARGO_TERM_COLOR": "never"},
    )
