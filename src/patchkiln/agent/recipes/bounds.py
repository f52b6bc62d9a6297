"""What keeps a hostile file from holding up or ending the server.

Python's parser and compiler hold the interpreter while they work, and some texts take them time
that grows with the square of their length. libcst recurses, in native code too, whose stack a chain
of some thousand operators overflows. No file that anyone writes comes near these bounds.
"""

import ast
import re
import sys
from collections import Counter

from patchkiln.agent.recipes.python_module import PythonModule
from patchkiln.agent.recipes.source import Unfit

MAX_CLAUSES = 2000
MAX_CODE_OBJECTS = 2000
MAX_KEYWORDS = 2000
MAX_FSTRING_WORK = 3_000_000_000
MAX_STATEMENT_CHARS = 128 << 10
MAX_NESTING = 100
_FSTRING = re.compile(r"\b(?:f|rf|fr)['\"]", re.IGNORECASE)
_CODE_OBJECTS = (
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.DictComp,
    ast.FunctionDef,
    ast.GeneratorExp,
    ast.Lambda,
    ast.ListComp,
    ast.SetComp,
)


def check_text(text: str) -> None:
    """Raise `Unfit` for a text that could take the parser seconds.

    Before Python 3.12 each ``{`` of an f-string is looked for from the string's start.
    """
    work = text.count("{") * len(text)
    if sys.version_info < (3, 12) and work > MAX_FSTRING_WORK and _FSTRING.search(text):
        raise Unfit("its f-strings could take minutes to parse")


def check_module(module: PythonModule) -> None:
    """Raise `Unfit` for a file that could take the rules seconds."""
    if len(module.clauses) > MAX_CLAUSES:
        raise Unfit(f"it has more than {MAX_CLAUSES} except clauses")


def check_compilable(module: PythonModule) -> None:
    """Raise `Unfit` for a file that could take the compiler seconds.

    It compares each keyword of a call with all others, and each function with those of its name.
    """
    names = Counter(_name(node) for node in module.nodes if isinstance(node, _CODE_OBJECTS))
    calls = (node for node in module.nodes if isinstance(node, ast.Call))
    if max(names.values(), default=0) > MAX_CODE_OBJECTS or any(
        len(call.keywords) > MAX_KEYWORDS for call in calls
    ):
        raise Unfit("it could take minutes to compile")


def check_statement(text: str, tree: ast.Module) -> None:
    """Raise `Unfit` for a statement that libcst could not take."""
    if len(text) > MAX_STATEMENT_CHARS:
        raise Unfit("a statement in it is too long")
    if _nesting(tree) > MAX_NESTING:
        raise Unfit("it is nested too deeply")


def _name(node: ast.AST) -> str:
    name: object = getattr(node, "name", None)
    return name if isinstance(name, str) else type(node).__name__


def _nesting(tree: ast.AST) -> int:
    """Return the depth of a tree, in which a chain of ``and`` or ``or`` counts by its length.

    The parser bounds everything else, but keeps such a chain flat.
    """
    deepest = 0
    pending = [(tree, 0)]
    while pending:
        node, depth = pending.pop()
        deepest = max(deepest, depth)
        depth += len(node.values) if isinstance(node, ast.BoolOp) else 1
        pending.extend((child, depth) for child in ast.iter_child_nodes(node))
    return deepest
