"""``swallowed-exception``: an exception that nobody would ever hear of is logged.

Known to linters as S110 and S112 (flake8-bandit, ruff). A clause ``except Exception:`` whose body
is only ``pass``, ``...`` or ``continue`` logs a warning with the traceback, through the file's own
logger or a new one (`logger`). The program goes on as before.

Left alone:

* narrow clauses (``except KeyError: pass``), bare ones that `bare_except` leaves bare, and clauses
  of ``except*``;
* a clause with a comment on it, in it or right above it: somebody has thought about it;
* optional imports, where the protected statements only import;
* probing, where an exception is as ordinary as none: a ``try`` with an ``else``, and one whose
  protected statements call nothing (``size = image.size``);
* statements that log themselves: logging may be what failed;
* ``__del__``, ``emit``, classes that extend a class of logging, and modules that set logging up;
* clauses that may run before the logger exists.
"""

import ast
import re
from collections.abc import Iterator

import libcst as cst

from patchkiln.agent.recipes.error_handling.logger import Logger, logger_of
from patchkiln.agent.recipes.placement import Context
from patchkiln.agent.recipes.python_module import PythonModule
from patchkiln.agent.recipes.recipe import Edit, Finding, Insertion, Rule
from patchkiln.agent.recipes.syntax import dotted, last_line, mentions, start

_LOGGING_MODULE = re.compile(r"(.*_)?log(s|ger|gers|ging)?(_.*)?", re.IGNORECASE)
_LOGGING_BASE = re.compile(r".*(Filter|Formatter|Handler|Logger|LoggerAdapter)")
_UNSAFE_FUNCTIONS = frozenset({"__del__", "emit", "handleError"})


def find(module: PythonModule) -> Iterator[Finding]:
    """Yield each clause that swallows without a word."""
    swallowing = list(_swallowing(module))
    if not swallowing or "Exception" in module.bindings or _extends(module):
        return
    logger = logger_of(module)
    if logger is None:
        return
    for owner, clause, context in swallowing:
        if clause.lineno > logger.ready_line and _may_log(owner, logger):
            yield Finding(
                line=clause.lineno,
                place=(clause.lineno, module.column(start(clause))),
                first_line=owner.lineno,
                last_line=last_line(owner),
                text=_statement(logger, context),
            )


def insert(module: PythonModule) -> tuple[Insertion, ...]:
    """Return the lines that make a logger, none where the file has one."""
    logger = logger_of(module)
    return logger.insertions if logger else ()


def _statement(logger: Logger, context: Context) -> str:
    where = f" in {context.qualified_name}" if context.names else ""
    return f'{logger.name}.warning("Ignored an exception{where}", exc_info=True)'


def _swallowing(module: PythonModule) -> Iterator[tuple[ast.Try, ast.ExceptHandler, Context]]:
    stem = module.path.rpartition("/")[2].removesuffix(".py")
    if _LOGGING_MODULE.fullmatch(stem):
        return
    for node, context in module.statements:
        if not isinstance(node, ast.Try) or not _UNSAFE_FUNCTIONS.isdisjoint(context.names):
            continue
        if _probes(node):
            continue
        for clause in node.handlers:
            if _swallows(clause) and not _explained(module, clause):
                yield node, clause, context


def _probes(node: ast.Try) -> bool:
    """Tell whether a statement tries what may well fail; an import is no call."""
    parts = (part for statement in node.body for part in ast.walk(statement))
    return bool(node.orelse) or not any(isinstance(part, ast.Call) for part in parts)


def _extends(module: PythonModule) -> bool:
    """Tell whether the file defines a part of a logging system."""
    bases = (base for node in module.nodes if isinstance(node, ast.ClassDef) for base in node.bases)
    targets = (module.resolve(dotted(base)) or "" for base in bases)
    return any(
        target.startswith("logging.") and _LOGGING_BASE.fullmatch(target) for target in targets
    )


def _swallows(clause: ast.ExceptHandler) -> bool:
    broad = isinstance(clause.type, ast.Name) and clause.type.id == "Exception"
    return broad and len(clause.body) == 1 and _does_nothing(clause.body[0])


def _does_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant) and statement.value.value is ...
    return isinstance(statement, ast.Pass | ast.Continue)


def _explained(module: PythonModule, clause: ast.ExceptHandler) -> bool:
    """Tell whether a comment stands on a clause, in it, above it or at its end."""
    first, last = clause.lineno, last_line(clause)
    lines = module.lines
    if any("#" in line for line in lines[first - 1 : last]):
        return True
    if first > 1 and lines[first - 2].lstrip().startswith("#"):
        return True
    margin = len(module.margin(first))
    after = next((lines[n] for n in range(last, len(lines)) if lines[n].strip()), "")
    return after.lstrip().startswith("#") and len(after) - len(after.lstrip()) > margin


def _may_log(owner: ast.Try, logger: Logger) -> bool:
    named = mentions(*owner.body)
    return named.isdisjoint({logger.name, "logging", "logger", "log", "warnings"})


class SwallowedException(Edit):
    """Puts the logging statement in the place of ``pass``, or before ``continue``."""

    def leave_ExceptHandler(  # noqa: N802 - libcst's name
        self, original_node: cst.ExceptHandler, updated_node: cst.ExceptHandler
    ) -> cst.ExceptHandler:
        """Give one clause a voice."""
        code = self.wanted_at(original_node)
        if code is None:
            return updated_node
        call = cst.Expr(cst.parse_expression(code))
        body = updated_node.body
        if isinstance(body, cst.IndentedBlock):
            return updated_node.with_changes(body=_in_block(body, call))
        if isinstance(body, cst.SimpleStatementSuite):
            return updated_node.with_changes(body=self._as_block(body, call))
        return updated_node

    def _as_block(self, suite: cst.SimpleStatementSuite, call: cst.Expr) -> cst.IndentedBlock:
        """Return ``except Exception: pass`` on lines of its own."""
        line = cst.SimpleStatementLine(
            body=suite.body, trailing_whitespace=suite.trailing_whitespace
        )
        block = cst.IndentedBlock(body=[line], indent=self.indent)
        return _in_block(block, call)


def _in_block(block: cst.IndentedBlock, call: cst.Expr) -> cst.IndentedBlock:
    line = cst.ensure_type(block.body[0], cst.SimpleStatementLine)
    if not isinstance(line.body[0], cst.Continue):
        return block.with_changes(body=[line.with_changes(body=[call])])
    said = cst.SimpleStatementLine(body=[call], leading_lines=line.leading_lines)
    return block.with_changes(body=[said, line.with_changes(leading_lines=())])


RULE = Rule(
    id="swallowed-exception",
    title="Log an exception that is caught and dropped without a word",
    risk="Failures that went unheard now show up in the log.",
    find=find,
    edit=SwallowedException,
    insert=insert,
)
