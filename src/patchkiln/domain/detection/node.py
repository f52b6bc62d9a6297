"""JavaScript and TypeScript: the ``test`` script of package.json."""

from patchkiln.domain.check import Check
from patchkiln.domain.detection.tree import Tree, as_table

MARKERS = ("package.json",)
# What ``npm init`` writes where there is no test.
NO_TEST = "no test specified"
_RUNNERS = (
    ("pnpm-lock.yaml", "pnpm test"),
    ("yarn.lock", "yarn test"),
    ("bun.lock", "bun run test"),
    ("bun.lockb", "bun run test"),
)


def detect(tree: Tree) -> Check | None:
    """Return the test script under the package manager whose lock file lies beside it.

    ``CI`` keeps jest, vitest and their kin from waiting for changes.
    """
    script = as_table(tree.json("package.json"), "scripts").get("test")
    if not isinstance(script, str) or not script.strip() or NO_TEST in script:
        return None
    command = next((command for lock, command in _RUNNERS if lock in tree.files), "npm test")
    return Check(command=command, source="package.json scripts.test", env={"CI": "true"})
