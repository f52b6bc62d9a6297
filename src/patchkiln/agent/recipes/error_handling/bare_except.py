"""``bare-except``: ``except:`` becomes ``except Exception:`` where nothing can depend on the rest.

Known to linters as E722 (pycodestyle, ruff) and W0702 (pylint). A bare clause also catches
KeyboardInterrupt, SystemExit, GeneratorExit and asyncio.CancelledError, and so makes a program
deaf to Ctrl-C. Whoever wants them may have written it on purpose, so that a clause stays bare when

* the clause raises what it caught again, leaves the program, does clean-up or keeps the exception
  for somebody else: a ``raise`` alone, or a name that says so (`_ON_THE_WAY_OUT`);
* the protected statements may end by one of these four in ordinary work: they await or yield, loop
  for ever, leave the program, read a command line, wait, ask a person or run another program's
  main function (`_ENDS_OTHERWISE`);
* an earlier clause of the same statement names Exception or one of the four;
* the file binds the name Exception itself.
"""

import ast
import re
from collections.abc import Iterator

import libcst as cst

from patchkiln.agent.recipes.error_handling.silencing import silenced
from patchkiln.agent.recipes.placement import TryStatement
from patchkiln.agent.recipes.python_module import PythonModule
from patchkiln.agent.recipes.recipe import Edit, Finding, Rule
from patchkiln.agent.recipes.syntax import last_line, mentions, start

CODES = ("E722", "W0702", "bare-except", "B001")
BROAD = frozenset(
    {
        "BaseException",
        "CancelledError",
        "Exception",
        "GeneratorExit",
        "KeyboardInterrupt",
        "SystemExit",
    }
)
_ON_THE_WAY_OUT = re.compile(
    "abort|cancel|clean|clear|close|delete|destroy|disconnect|discard|dispose|exc_info|exit|finali"
    "|finish|flush|free|kill|quit|release|remove|reset|restore|revert|rmdir|rmtree|rollback"
    "|set_exception|shut|stop|teardown|terminat|undo|unlink|unlock|unregister|unset|unsubscribe",
    re.IGNORECASE,
)
_ENDS_OTHERWISE = re.compile(
    "_*import_*|_*exit|abort|accept|eval|exec(file|_module)?|getpass|import_module|input"
    "|load_module|main(loop)?|parse_(.+_)?args|poll|prompt|quit|raw_input|recv|run(_.+)?|select"
    "|serve(_.+)?|sleep|start|wait",
    re.IGNORECASE,
)
_SUSPENDS = (ast.AsyncFor, ast.AsyncWith, ast.Await, ast.Yield, ast.YieldFrom)


def find(module: PythonModule) -> Iterator[Finding]:
    """Yield each clause that can be narrowed."""
    for node, _ in module.statements:
        if not isinstance(node, ast.Try) or not node.handlers or node.handlers[-1].type is not None:
            continue
        clause = node.handlers[-1]
        if silenced(module, clause.lineno, clause.lineno, CODES) or not _can_be_narrowed(node):
            continue
        if "Exception" not in module.bindings:
            yield Finding(
                line=clause.lineno,
                place=(clause.lineno, module.column(start(clause))),
                first_line=node.lineno,
                last_line=last_line(node),
            )


def _can_be_narrowed(node: TryStatement) -> bool:
    *earlier, clause = node.handlers
    named = mentions(*(other.type for other in earlier if other.type is not None))
    return not (
        named & BROAD
        or any(_raises_again(inner) for part in clause.body for inner in ast.walk(part))
        or any(map(_ON_THE_WAY_OUT.search, mentions(*clause.body)))
        or any(_suspends(inner) for part in node.body for inner in ast.walk(part))
        or any(map(_ends_otherwise, mentions(*node.body)))
    )


def _raises_again(node: ast.AST) -> bool:
    return isinstance(node, ast.Raise) and node.exc is None


def _suspends(node: ast.AST) -> bool:
    endless = isinstance(node, ast.While) and isinstance(node.test, ast.Constant)
    return endless or isinstance(node, _SUSPENDS)


def _ends_otherwise(name: str) -> bool:
    return name in BROAD - {"Exception"} or _ENDS_OTHERWISE.fullmatch(name) is not None


class BareExcept(Edit):
    """Writes the class that was missing."""

    def leave_ExceptHandler(  # noqa: N802 - libcst's name
        self, original_node: cst.ExceptHandler, updated_node: cst.ExceptHandler
    ) -> cst.ExceptHandler:
        """Narrow one clause."""
        if self.wanted_at(original_node) is None:
            return updated_node
        return updated_node.with_changes(
            type=cst.Name("Exception"), whitespace_after_except=cst.SimpleWhitespace(" ")
        )


RULE = Rule(
    id="bare-except",
    title="Let Ctrl-C and program exit pass: 'except:' becomes 'except Exception:'",
    risk="Code that counted on catching KeyboardInterrupt or SystemExit sees them pass.",
    find=find,
    edit=BareExcept,
)
