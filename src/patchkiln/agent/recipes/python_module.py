"""A Python file as the rules see it: its lines, its syntax tree, and what its names stand for."""

import ast
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import cast

from patchkiln.agent.recipes.bindings import Binding, bindings_of, names_of
from patchkiln.agent.recipes.placement import Context, Part, walk
from patchkiln.agent.recipes.syntax import Position, contains, dotted, end, parse, start

# Python's own line ends; str.splitlines knows more, and would count other lines than the parser.
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+\Z")
_DEFAULT_INDENT = "    "


class PythonModule:
    """One parsed file, whose facts are worked out when a rule first asks for them.

    ``shadowed`` are names of well-known modules that a file of the repository hides from it.
    Raises what `parse` raises.
    """

    def __init__(
        self, text: str, *, path: str = "", shadowed: frozenset[str] = frozenset()
    ) -> None:
        """Parse the text, which has no byte order mark; ``path`` is relative to the root."""
        self.text = text
        self.path = path
        self.shadowed = shadowed
        self.tree = parse(text)
        self.lines: list[str] = _LINE.findall(text)

    @cached_property
    def newline(self) -> str:
        """Return the end of the first line."""
        first = self.lines[0] if self.lines else ""
        return first[len(first.rstrip("\r\n")) :] or "\n"

    @cached_property
    def statements(self) -> list[tuple[Part, Context]]:
        """Return every statement and clause with its place, in the order of the text."""
        return list(walk(self.tree))

    @cached_property
    def clauses(self) -> list[ast.ExceptHandler]:
        """Return every ``except`` clause."""
        return [node for node, _ in self.statements if isinstance(node, ast.ExceptHandler)]

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Return every node, outer ones first."""
        found: list[ast.AST] = [self.tree]
        # The list grows under the loop. ast.walk does the same at half the speed.
        for node in found:
            for name in node._fields:
                value: object = getattr(node, name, None)
                if isinstance(value, list):
                    parts = cast("list[object]", value)
                    found += [part for part in parts if isinstance(part, ast.AST)]
                elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
                    found.append(value)
        return found

    @cached_property
    def uses(self) -> Mapping[str, list[Position]]:
        """Return where each name is used, bound or declared; attributes are no names."""
        found: dict[str, list[Position]] = defaultdict(list)
        for node in self.nodes:
            for name in names_of(node):
                found[name].append(start(node))
        return _sorted(found)

    @cached_property
    def bindings(self) -> Mapping[str, list[Binding]]:
        """Return all that gives each name a value, in whatever scope; outer ones first."""
        return bindings_of(self.tree, self.nodes)

    @cached_property
    def stores(self) -> Mapping[str, list[Position]]:
        """Return where each name is given a value or declared."""
        return _sorted(
            {name: [start(each.node) for each in all_] for name, all_ in self.bindings.items()}
        )

    @cached_property
    def kinds(self) -> Mapping[str, frozenset[type[ast.AST]]]:
        """Return what gives each name a value, as classes of nodes."""
        return {
            name: frozenset(type(each.node) for each in all_)
            for name, all_ in self.bindings.items()
        }

    @cached_property
    def imports(self) -> Mapping[str, str]:
        """Return the full names of those that nothing but imports of one thing give a value.

        A fallback of None for a missing import does not count: nothing can be called on it.
        """
        found: dict[str, str] = {}
        for name, all_ in self.bindings.items():
            targets = {each.imported for each in all_ if not each.placeholder}
            target = targets.pop() if len(targets) == 1 else None
            if target is not None and target.partition(".")[0] not in self.shadowed:
                found[name] = target
        return found

    @cached_property
    def stored_attributes(self) -> frozenset[str]:
        """Return the dotted attributes that the file assigns, such as ``requests.get``."""
        stores = (
            dotted(node)
            for node in self.nodes
            if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load)
        )
        return frozenset(name for name in stores if name)

    @cached_property
    def indent(self) -> str:
        """Return the white space that the file's first block adds, four spaces without one."""
        for node, context in self.statements:
            if context.statements:
                outer = self.margin(context.statements[-1].lineno)
                inner = self.margin(node.lineno) if isinstance(node, ast.stmt) else outer
                if inner != outer and inner.startswith(outer):
                    return inner[len(outer) :]
        return _DEFAULT_INDENT

    def margin(self, line: int) -> str:
        """Return the white space at the start of a line."""
        text = self.lines[line - 1]
        return text[: len(text) - len(text.lstrip(" \t\f"))]

    def column(self, position: Position) -> int:
        """Return a position's column in characters."""
        line, byte_column = position
        text = self.lines[line - 1]
        return byte_column if text.isascii() else len(text.encode()[:byte_column].decode())

    def statement_around(self, node: ast.AST) -> ast.stmt | None:
        """Return the innermost statement with a node that shares its lines with no other."""
        position = start(node)
        around = [
            part
            for part, _ in self.statements
            if isinstance(part, ast.stmt) and contains(part, position)
        ]
        return next(filter(self._owns_lines, reversed(around)), None)

    def _owns_lines(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.If) and self.lines[node.lineno - 1].lstrip().startswith("elif"):
            return False
        line, _ = end(node)
        before = self.margin(node.lineno)
        after = self.lines[line - 1][self.column(end(node)) :].strip()
        return len(before) == self.column(start(node)) and after[:1] in {"", "#"}

    def resolve(self, name: str | None) -> str | None:
        """Return the full name behind a dotted one, None where its root may be anything else.

        ``requests.get`` for ``r.get`` after ``import requests as r``.
        """
        root, _, rest = (name or "").partition(".")
        target = self.imports.get(root)
        return f"{target}.{rest}" if target and rest else target


def within(node: ast.AST, positions: Sequence[Position]) -> Sequence[Position]:
    """Return those of some sorted positions that lie in a node, all of them for the module."""
    if isinstance(node, ast.Module):
        return positions
    return positions[bisect_left(positions, start(node)) : bisect_left(positions, end(node))]


def _sorted(found: Mapping[str, list[Position]]) -> Mapping[str, list[Position]]:
    return {name: sorted(positions) for name, positions in found.items()}
