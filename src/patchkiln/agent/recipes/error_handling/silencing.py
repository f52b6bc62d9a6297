"""Comments by which an author has told a linter, and so this recipe, to leave a place alone."""

import re

from patchkiln.agent.recipes.python_module import PythonModule

_COMMENT = re.compile(r"#\s*(noqa|nosec|nosemgrep|pylint:\s*disable)(.*)", re.IGNORECASE)


def silenced(module: PythonModule, first: int, last: int, codes: tuple[str, ...]) -> bool:
    """Tell whether a comment on some lines silences one of a rule's codes, or all there are."""
    return any(_silences(line, codes) for line in module.lines[first - 1 : last])


def _silences(line: str, codes: tuple[str, ...]) -> bool:
    comment = _COMMENT.search(line)
    if comment is None:
        return False
    named = comment[2].strip(" :=")
    return not named or any(code in named for code in codes)
