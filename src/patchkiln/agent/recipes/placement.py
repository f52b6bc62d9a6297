"""Where a statement stands: which function, handlers and statements are around it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Part: TypeAlias = ast.stmt | ast.excepthandler | ast.match_case
TryStatement: TypeAlias = ast.Try | ast.TryStar
_COMPOUND = (
    ast.AsyncFor,
    ast.AsyncFunctionDef,
    ast.AsyncWith,
    ast.ClassDef,
    ast.excepthandler,
    ast.For,
    ast.FunctionDef,
    ast.If,
    ast.Match,
    ast.match_case,
    ast.Try,
    ast.TryStar,
    ast.While,
    ast.With,
)
_BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """An ``except`` clause and the statement that it belongs to."""

    node: ast.ExceptHandler
    owner: TryStatement


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is around a statement, the innermost last.

    ``scope`` is the function, None in the module and its classes. ``names`` are functions and
    classes. ``handlers`` are those whose exception is the current one: none from beyond a function
    or a class.
    """

    scope: Function | None = None
    names: tuple[str, ...] = ()
    handlers: tuple[Handler, ...] = ()
    statements: tuple[ast.stmt, ...] = ()

    @property
    def qualified_name(self) -> str:
        """Return the dotted name of the function or class, empty in the module."""
        return ".".join(self.names)

    def inside(self, node: Part) -> "Context":
        """Return where the blocks of a statement stand, when it stands here itself."""
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                return self._named(node, scope=node)
            case ast.ClassDef():
                return self._named(node, scope=self.scope)
            case ast.ExceptHandler():
                return self._handling(node)
            case ast.stmt():
                return self._within(node, self.handlers)
            case _:
                return self

    def _named(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, scope: Function | None
    ) -> "Context":
        names = (*self.names, node.name)
        return Context(scope=scope, names=names, statements=(*self.statements, node))

    def _handling(self, node: ast.ExceptHandler) -> "Context":
        owner = self.statements[-1]
        if not isinstance(owner, ast.Try | ast.TryStar):
            return self
        return self._within(None, (*self.handlers, Handler(node=node, owner=owner)))

    def _within(self, node: ast.stmt | None, handlers: tuple[Handler, ...]) -> "Context":
        return Context(
            scope=self.scope,
            names=self.names,
            handlers=handlers,
            statements=self.statements if node is None else (*self.statements, node),
        )


def walk(tree: ast.Module) -> Iterator[tuple[Part, Context]]:
    """Yield every statement and clause with its place, in the order of the text.

    Expressions hold no statement, and most of a tree is expressions: they are not visited.
    """
    pending: list[tuple[Part, Context]] = [(node, Context()) for node in reversed(tree.body)]
    while pending:
        node, context = pending.pop()
        yield node, context
        if isinstance(node, _COMPOUND):
            blocks: list[Part] = [part for name in _BLOCKS for part in getattr(node, name, ())]
            inner = context.inside(node)
            pending.extend((part, inner) for part in reversed(blocks))
