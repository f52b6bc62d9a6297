"""Small questions to Python's own syntax tree, and the two calls that compile foreign text."""

import ast
import warnings
from typing import TypeAlias

# A line from 1 and a column from 0, in bytes of UTF-8, as `ast` counts.
Position: TypeAlias = tuple[int, int]
_SOURCE_NAME = "repository_source"


def parse(text: str) -> ast.Module:
    """Parse a repository's text; nothing of it is run.

    Raises SyntaxError, ValueError, RecursionError and MemoryError, as `ast.parse` does.
    """
    _keep_quiet()
    return ast.parse(text, filename=_SOURCE_NAME)


def check_compiles(text: str) -> None:
    """Raise what `compile` raises: SyntaxError, ValueError, RecursionError, MemoryError."""
    _keep_quiet()
    compile(text, _SOURCE_NAME, "exec", dont_inherit=True)


def start(node: ast.AST) -> Position:
    """Return where a node starts."""
    return (getattr(node, "lineno", 0), getattr(node, "col_offset", 0))


def end(node: ast.AST) -> Position:
    """Return where a node ends."""
    return (getattr(node, "end_lineno", 0), getattr(node, "end_col_offset", 0))


def contains(outer: ast.AST, position: Position) -> bool:
    """Tell whether a position lies in a node."""
    return start(outer) <= position < end(outer)


def dotted(node: ast.AST) -> str | None:
    """Return ``a.b.c`` for a chain of plain attributes, None for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def mentions(*nodes: ast.AST) -> frozenset[str]:
    """Return every variable and attribute that is named in some nodes."""
    found: set[str] = set()
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
    return frozenset(found)


def first_line(node: ast.stmt) -> int:
    """Return the first line of a statement, its decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def last_line(node: ast.stmt | ast.excepthandler) -> int:
    """Return the last line of a statement."""
    return node.end_lineno or node.lineno


def _keep_quiet() -> None:
    """Have no warning about a repository's text reach the server's own log.

    Filters belong to the process, not to a thread; one that names this source alone may stay.
    """
    warnings.filterwarnings("ignore", module=_SOURCE_NAME)
