"""``raise-from``: an exception raised while another is handled names it as its cause.

Known to linters as B904 (flake8-bugbear, ruff) and W0707 (pylint). In an ``except`` clause
``raise X(...)`` becomes ``raise X(...) from exc``; a clause without a name gets ``as exc`` first,
in the spelling that the file uses most. Only the traceback changes.

Left alone:

* an exception that has a cause, ``from None`` among them, and one that is already caught or kept in
  a variable: ``raise error``, ``raise self.error``;
* what a function makes (``raise wrap(error)``): it may be the caught exception itself. A class is
  told by its name, which has a capital first and a small letter somewhere;
* exceptions that steer rather than tell: SystemExit, KeyboardInterrupt, StopIteration and such;
* clauses of ``except*``, and bare ones that `bare_except` leaves bare;
* functions, lambdas and classes inside of the clause: they run at another time;
* files that import what only Python 2 lacked from ``__future__``: it cannot read ``from``;
* a clause whose own name is bound or deleted again inside of it;
* a clause without a name where every usual one is in use around it, or where ``locals()`` and its
  kin could see the new name.
"""

import ast
import builtins
import re
from collections.abc import Iterator

import libcst as cst

from patchkiln.agent.recipes.error_handling.cause_names import CauseNames
from patchkiln.agent.recipes.error_handling.silencing import silenced
from patchkiln.agent.recipes.placement import Context, Handler
from patchkiln.agent.recipes.python_module import PythonModule
from patchkiln.agent.recipes.recipe import Edit, Finding, Rule
from patchkiln.agent.recipes.syntax import dotted, last_line, start

CODES = ("B904", "W0707", "raise-missing-from")
STEERING = frozenset(
    {
        "BaseException",
        "GeneratorExit",
        "KeyboardInterrupt",
        "StopAsyncIteration",
        "StopIteration",
        "SystemExit",
    }
)
_PYTHON_2_FEATURES = frozenset(
    {"absolute_import", "division", "print_function", "unicode_literals", "with_statement"}
)
_CLASS_NAME = re.compile(r"_*[A-Z]\w*")
_FACTORIES = frozenset({ast.FunctionDef, ast.AsyncFunctionDef})
_CLASSES = frozenset({ast.ClassDef, ast.alias})


def find(module: PythonModule) -> Iterator[Finding]:
    """Yield each ``raise`` that loses its cause, and each clause that needs a name for it."""
    if _runs_on_python_2(module):
        return
    names = CauseNames(module)
    named: set[ast.ExceptHandler] = set()
    for node, context in module.statements:
        if not isinstance(node, ast.Raise) or not _loses_cause(module, node, context):
            continue
        handler = context.handlers[-1]
        name = names.name_for(handler, context)
        if name is None:
            continue
        if handler.node.name is None and handler.node not in named:
            named.add(handler.node)
            yield _finding(module, handler.node, handler, name, counted=False)
        yield _finding(module, node, handler, name)


def _finding(
    module: PythonModule,
    node: ast.Raise | ast.ExceptHandler,
    handler: Handler,
    name: str,
    *,
    counted: bool = True,
) -> Finding:
    return Finding(
        line=node.lineno,
        place=(node.lineno, module.column(start(node))),
        first_line=handler.owner.lineno,
        last_line=last_line(handler.owner),
        text=name,
        counted=counted,
    )


def _loses_cause(module: PythonModule, node: ast.Raise, context: Context) -> bool:
    if not context.handlers or node.exc is None or node.cause is not None:
        return False
    handler = context.handlers[-1]
    if isinstance(handler.owner, ast.TryStar) or handler.node.type is None:
        return False
    return _makes_exception(module, node.exc) and not silenced(
        module, node.lineno, last_line(node), CODES
    )


def _makes_exception(module: PythonModule, raised: ast.expr) -> bool:
    """Tell whether a new exception is raised, by a call of a class or by the class alone."""
    called = isinstance(raised, ast.Call)
    name = dotted(raised.func if isinstance(raised, ast.Call) else raised) or ""
    root, _, rest = name.partition(".")
    last = name.rpartition(".")[2]
    if not _CLASS_NAME.fullmatch(last) or last.isupper() or last in STEERING:
        return False
    kinds = module.kinds.get(root, frozenset())
    if called:
        return kinds.isdisjoint(_FACTORIES)
    if not kinds:
        return not rest and _is_builtin_exception(root)
    return kinds <= _CLASSES


def _runs_on_python_2(module: PythonModule) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and not _PYTHON_2_FEATURES.isdisjoint(alias.name for alias in node.names)
        for node in module.tree.body
    )


def _is_builtin_exception(name: str) -> bool:
    kind = getattr(builtins, name, None)
    return isinstance(kind, type) and issubclass(kind, BaseException)


class RaiseFrom(Edit):
    """Adds ``from NAME``, and ``as NAME`` where the clause has none."""

    def leave_Raise(  # noqa: N802 - libcst's name
        self, original_node: cst.Raise, updated_node: cst.Raise
    ) -> cst.Raise:
        """Name the cause."""
        name = self.wanted_at(original_node)
        if name is None:
            return updated_node
        return updated_node.with_changes(cause=cst.From(item=cst.Name(name)))

    def leave_ExceptHandler(  # noqa: N802 - libcst's name
        self, original_node: cst.ExceptHandler, updated_node: cst.ExceptHandler
    ) -> cst.ExceptHandler:
        """Name the caught exception."""
        name = self.wanted_at(original_node)
        if name is None:
            return updated_node
        return updated_node.with_changes(name=cst.AsName(name=cst.Name(name)))


RULE = Rule(
    id="raise-from",
    title="Name the cause of an exception that is raised while another is handled",
    risk="Tracebacks read 'direct cause' where they read 'during handling'.",
    find=find,
    edit=RaiseFrom,
)
