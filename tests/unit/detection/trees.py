"""Small repositories, written as a mapping from path to text."""

from patchkiln.domain.check import Check
from patchkiln.domain.detection import Tree, detect_checks


def detect(files: dict[str, str]) -> tuple[Check, ...]:
    """Return the checks of a repository with these files, all of them read."""
    texts = {path: text.encode("utf-8", "surrogateescape") for path, text in files.items()}
    return detect_checks(Tree(paths=tuple(files), texts=texts))


def the_check(files: dict[str, str]) -> Check:
    """Return the only check of a repository with these files."""
    (check,) = detect(files)
    return check
