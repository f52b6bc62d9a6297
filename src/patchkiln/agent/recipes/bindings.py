"""What gives a name its value, anywhere in a file."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

# Nodes with a name in a field of that name. Those of type parameters came with Python 3.12.
_TYPE_PARAMETERS = ("ParamSpec", "TypeVar", "TypeVarTuple")
_NAMED = {
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.ExceptHandler,
    ast.FunctionDef,
    ast.MatchAs,
    ast.MatchStar,
    *(getattr(ast, name) for name in _TYPE_PARAMETERS if hasattr(ast, name)),
}
_BINDING = _NAMED | {ast.arg, ast.Global, ast.MatchMapping, ast.Nonlocal}
_NAMING = _BINDING | {ast.alias}
_RELEVANT = _BINDING | {ast.AnnAssign, ast.Assign, ast.Import, ast.ImportFrom, ast.Name, ast.With}


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Something that gives a name a value.

    ``imported`` is the dotted name that an import brings, ``value`` the expression of a plain
    assignment or of ``with ... as``. ``top_level``: a statement of the module itself, under no
    condition.
    """

    node: ast.AST
    imported: str | None = None
    value: ast.expr | None = None
    top_level: bool = False

    @property
    def placeholder(self) -> bool:
        """Tell whether the value is None, as where an optional import is missing."""
        return isinstance(self.value, ast.Constant) and self.value.value is None


def names_of(node: ast.AST) -> Iterable[str]:
    """Return the names that a node itself uses, binds or declares."""
    # Most nodes are one of these two, and there are many.
    if isinstance(node, ast.Name):
        return (node.id,)
    if type(node) not in _NAMING:
        return ()
    match node:
        case ast.arg(arg=name):
            return (name,)
        case ast.alias(name=name, asname=asname):
            return (asname or name.partition(".")[0],)
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            return names
        case _:
            own: object = getattr(node, "rest" if isinstance(node, ast.MatchMapping) else "name")
            return (own,) if isinstance(own, str) else ()


def bindings_of(tree: ast.Module, nodes: Iterable[ast.AST]) -> Mapping[str, list[Binding]]:
    """Return the bindings of each name."""
    top_level = frozenset(map(id, tree.body))
    found: dict[str, list[Binding]] = defaultdict(list)
    assigned: dict[int, Binding] = {}
    for node in nodes:
        if type(node) not in _RELEVANT:
            continue
        direct = id(node) in top_level
        for target, value in _assignments(node):
            assigned[id(target)] = Binding(node=target, value=value, top_level=direct)
        for alias, imported in _imports(node):
            for name in names_of(alias):
                found[name].append(Binding(node=alias, imported=imported, top_level=direct))
        if _binds(node):
            for name in names_of(node):
                found[name].append(assigned.get(id(node)) or Binding(node=node, top_level=direct))
    return found


def _imports(node: ast.AST) -> Iterator[tuple[ast.alias, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias, alias.name if alias.asname else alias.name.partition(".")[0]
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield alias, f"{'.' * node.level}{node.module or ''}.{alias.name}"


def _assignments(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    match node:
        case ast.Assign(targets=[ast.Name() as target], value=value):
            yield target, value
        case ast.AnnAssign(target=ast.Name() as target, value=value):
            yield target, value
        case ast.With(items=items):
            for item in items:
                if isinstance(item.optional_vars, ast.Name):
                    yield item.optional_vars, item.context_expr
        case _:
            return


def _binds(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return not isinstance(node.ctx, ast.Load)
    return type(node) in _BINDING
