"""A name for a caught exception that nothing else in the file can trip over.

Python binds the name when the clause begins and deletes it when the clause ends.
"""

import ast
from collections import Counter
from functools import cached_property

from patchkiln.agent.recipes.placement import Context, Handler
from patchkiln.agent.recipes.python_module import PythonModule, within
from patchkiln.agent.recipes.syntax import Position, contains, start

NEW_NAMES = ("exc", "err", "error")
CUSTOMARY_NAMES = frozenset({*NEW_NAMES, "e", "ex", "exception"})
_SEES_NAMES = ("dir", "eval", "exec", "globals", "locals", "vars")


class CauseNames:
    """Answers for one file, and remembers which names it has given away."""

    def __init__(self, module: PythonModule) -> None:
        """Take the file."""
        self._module = module
        self._answers: dict[ast.ExceptHandler, str | None] = {}

    def name_for(self, handler: Handler, context: Context) -> str | None:
        """Return the name of a clause or one that it can be given; None where neither is sure."""
        node = handler.node
        if node not in self._answers:
            self._answers[node] = self._own(node) if node.name else self._new(node, context)
        return self._answers[node]

    def _own(self, node: ast.ExceptHandler) -> str | None:
        stores = within(node, self._module.stores[node.name or ""])
        return node.name if len(stores) == 1 else None

    def _new(self, node: ast.ExceptHandler, context: Context) -> str | None:
        root = context.scope or self._module.tree
        if any(within(root, self._module.uses.get(name, [])) for name in _SEES_NAMES):
            return None
        given = {self._answers.get(outer.node) for outer in context.handlers}
        given |= {name for inner, name in self._answers.items() if contains(node, start(inner))}
        candidates = (name for name in self._candidates if name not in given)
        return next((name for name in candidates if self._free(name, node, root)), None)

    @cached_property
    def _candidates(self) -> list[str]:
        """Return the customary name that the file uses most, then the others."""
        names = (clause.name for clause in self._module.clauses)
        counts = Counter(name for name in names if name in CUSTOMARY_NAMES)
        return list(dict.fromkeys([*(name for name, _ in counts.most_common(1)), *NEW_NAMES]))

    def _free(self, name: str, node: ast.ExceptHandler, root: ast.AST) -> bool:
        """Tell whether each other use around lies in a clause that binds the name itself.

        Such a clause must neither hold this one nor lie in it.
        """
        uses = within(root, self._module.uses.get(name, []))
        others = [
            clause
            for clause in self._module.clauses
            if clause.name == name and not _nested(clause, node)
        ]
        return all(_in_any(position, others) for position in uses)


def _nested(one: ast.AST, other: ast.AST) -> bool:
    return contains(one, start(other)) or contains(other, start(one))


def _in_any(position: Position, clauses: list[ast.ExceptHandler]) -> bool:
    return any(contains(clause, position) for clause in clauses)
