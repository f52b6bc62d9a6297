"""Go: a module with test files."""

from patchkiln.domain.check import Check
from patchkiln.domain.detection.tree import Tree
from patchkiln.domain.languages import vendored

MARKERS = ("go.mod",)
# The sandbox has no network: without these the toolchain tries to download itself or a module and
# fails late and less clearly.
ENV = {"GOPROXY": "off", "GOTOOLCHAIN": "local"}


def detect(tree: Tree) -> Check | None:
    """Return ``go test ./...`` where a go.mod and at least one test file exist."""
    if "go.mod" not in tree.files:
        return None
    if not any(path.endswith("_test.go") and not vendored(path) for path in tree.paths):
        return None
    return Check(command="go test ./...", source="go.mod", env=dict(ENV))
