"""The logger that a file has, or the lines that give it one."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from patchkiln.agent.recipes.bindings import Binding
from patchkiln.agent.recipes.python_module import PythonModule
from patchkiln.agent.recipes.recipe import Insertion
from patchkiln.agent.recipes.syntax import dotted, first_line, last_line, mentions

NAME = "logger"
_USUAL_NAMES = frozenset({"log", "logger", "_log", "_logger", "LOG", "LOGGER", "_LOG", "_LOGGER"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Logger:
    """A name that code after ``ready_line`` can log with, and what must be added for it."""

    name: str
    ready_line: int
    insertions: tuple[Insertion, ...] = ()


def logger_of(module: PythonModule) -> Logger | None:
    """Return the file's own logger, else a new one; None where a name is in the way.

    A logger of the file's own is a name bound once, in the module itself, to
    ``logging.getLogger(...)``; it has one of the usual names, or is made of ``__name__``. Where a
    usual name means anything else, there is a way of logging that this recipe does not know.
    """
    for name, bindings in module.bindings.items():
        if len(bindings) == 1 and _makes_logger(module, name, bindings[0]):
            return Logger(name=name, ready_line=_line(bindings[0]))
    if not _USUAL_NAMES.isdisjoint(module.uses) or "logging" in module.shadowed:
        return None
    return _new_logger(module)


def _makes_logger(module: PythonModule, name: str, binding: Binding) -> bool:
    value = binding.value
    if not binding.top_level or not isinstance(value, ast.Call):
        return False
    usual = name in _USUAL_NAMES or "__name__" in mentions(*value.args)
    return usual and module.resolve(dotted(value.func)) == "logging.getLogger"


def _line(binding: Binding) -> int:
    return getattr(binding.value or binding.node, "end_lineno", 0)


def _new_logger(module: PythonModule) -> Logger | None:
    head = _Head(module)
    made = f"{NAME} = logging.getLogger(__name__){module.newline}"
    imports = module.bindings.get("logging", [])
    if head.whole_file:
        return None
    if imports:
        if module.resolve("logging") != "logging" or not imports[0].top_level:
            return None
        return _ready(head, max(head.last_line, _line(imports[0])), made)
    if "logging" in module.uses:
        return None
    if not head.imports:
        both = f"import logging{module.newline}{module.newline}{made}"
        return _ready(head, head.last_line, both)
    return _ready(head, head.last_line, made, head.import_of_logging())


def _ready(head: "_Head", line: int, text: str, *before: Insertion) -> Logger:
    addition = Insertion(after_line=line, text=head.spaced(text, line))
    return Logger(name=NAME, ready_line=line, insertions=(*before, addition))


class _Head:
    """The start of a file: docstring, ``__future__`` and the like, then the block of imports."""

    def __init__(self, module: PythonModule) -> None:
        self._module = module
        body = module.tree.body
        count = 0
        while count < len(body) and _is_preface(body[count]):
            count += 1
        self._before = body[:count]
        self.imports = list(_leading_imports(body[count:]))
        self._after = body[count + len(self.imports) :]

    @property
    def whole_file(self) -> bool:
        """Tell whether nothing follows."""
        return not self._after

    @property
    def last_line(self) -> int:
        """Return the line after which the file's own statements begin."""
        head = [*self._before, *self.imports]
        line = last_line(head[-1]) if head else self._top(self._after)
        # Statements may share a line with the last import.
        for node in self._after:
            if node.lineno <= line:
                line = max(line, last_line(node))
        return line

    def import_of_logging(self) -> Insertion:
        """Return the import, sorted into the first section where that is the standard library's."""
        text = f"import logging{self._module.newline}"
        section = self._first_section()
        if not section:
            line = self._top(self.imports)
            return Insertion(after_line=line, text=text + self._module.newline)
        for node in section:
            if isinstance(node, ast.ImportFrom) or node.names[0].name > "logging":
                return Insertion(after_line=node.lineno - 1, text=text)
        return Insertion(after_line=last_line(section[-1]), text=text)

    def spaced(self, text: str, line: int) -> str:
        """Return a statement with the blank lines that it needs after a line."""
        module, newline = self._module, self._module.newline
        before = newline if line and module.lines[line - 1].strip() else ""
        following = module.lines[line:]
        if following and not following[0].strip():
            return before + text
        definition = isinstance(
            self._after[0], ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        )
        return before + text + newline * (2 if definition else 1)

    def _first_section(self) -> list[ast.Import | ast.ImportFrom]:
        """Return the first imports of the standard library, with nothing between them."""
        section: list[ast.Import | ast.ImportFrom] = []
        for node in self.imports:
            adjacent = not section or node.lineno == last_line(section[-1]) + 1
            if not isinstance(node, ast.Import | ast.ImportFrom) or not adjacent:
                break
            if not _is_standard(node):
                break
            section.append(node)
        return section

    def _top(self, nodes: list[ast.stmt]) -> int:
        """Return the line after which something can be put before some statements.

        That is above the comments that stand right on them, but not above those that open the
        file: a licence, ``#!``, an encoding.
        """
        line = before = first_line(nodes[0]) - 1
        while line and self._module.lines[line - 1].startswith("#"):
            line -= 1
        return line or before


def _is_preface(node: ast.stmt) -> bool:
    """Tell whether a statement belongs before the imports: ``__future__``, ``__version__``."""
    match node:
        case ast.ImportFrom(module="__future__"):
            return True
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name.startswith("__") and name.endswith("__")
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case _:
            return False


def _leading_imports(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the block of imports, those under a condition or with a fallback among them."""
    for node in body:
        inner = node.body if isinstance(node, ast.If | ast.Try) else [node]
        if not all(isinstance(part, ast.Import | ast.ImportFrom) for part in inner):
            return
        yield node


def _is_standard(node: ast.Import | ast.ImportFrom) -> bool:
    if isinstance(node, ast.ImportFrom):
        names = ["" if node.level else node.module or ""]
    else:
        names = [alias.name for alias in node.names]
    return all(name.partition(".")[0] in sys.stdlib_module_names for name in names)
