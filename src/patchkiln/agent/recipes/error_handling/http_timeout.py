"""``http-timeout``: a call of requests or urllib gets a time limit, ``timeout=30``.

Known to linters as S113 (flake8-bandit, ruff). Both libraries wait for ever by default. Names are
followed through imports (``import requests as r``, ``from urllib.request import urlopen``); a
method counts where its object is called on the spot, ``requests.Session().get(url)``, or a name
that the file binds to nothing but sessions.

Left alone:

* a call that has a time limit, by name or as the third argument of ``urlopen``, and one with
  ``*args`` or ``**kwargs``, which may hold it;
* a call outside of any block that shares its line with another statement;
* a streamed answer (``stream=...``): its pauses may be long by design;
* calls for which the file has a default of its own: it assigns a function of the module or the
  session, mounts an adapter on the session, or calls ``socket.setdefaulttimeout`` (``urlopen``).
"""

import ast
import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import libcst as cst

from patchkiln.agent.recipes.bindings import Binding
from patchkiln.agent.recipes.error_handling.silencing import silenced
from patchkiln.agent.recipes.python_module import PythonModule
from patchkiln.agent.recipes.recipe import Edit, Finding, Rule
from patchkiln.agent.recipes.syntax import dotted, end, first_line, last_line

CODES = ("S113", "B113", "W3101", "missing-timeout")
TIMEOUT_S = 30
METHODS = frozenset({"delete", "get", "head", "options", "patch", "post", "put", "request"})
SESSIONS = frozenset({"requests.Session", "requests.session", "requests.sessions.Session"})
URLOPEN = "urllib.request.urlopen"
URLOPEN_POSITIONAL_TIMEOUT = 3
_REPLACEABLE = METHODS | {"send", "urlopen"}
# None is the name of **kwargs.
_LIMITED_BY = frozenset({"timeout", "stream", None})
_WORTH_A_LOOK = re.compile(r"^[ \t]*(import|from)\b.*\brequests\b|\burlopen\b", re.MULTILINE)
_Space: TypeAlias = cst.BaseParenthesizableWhitespace


def find(module: PythonModule) -> Iterator[Finding]:
    """Yield each call that can wait for ever."""
    if _WORTH_A_LOOK.search(module.text):
        yield from _Calls(module).findings()


class _Calls:
    """The calls of one file, and what its names are known to be."""

    def __init__(self, module: PythonModule) -> None:
        self._module = module
        self._calls = [node for node in module.nodes if isinstance(node, ast.Call)]
        self._called = {name for node in self._calls if (name := dotted(node.func))}
        self._socket_default = any(name.endswith("setdefaulttimeout") for name in self._called)
        self._patched = {
            name.partition(".")[0]
            for name in module.stored_attributes
            if name.rpartition(".")[2] in _REPLACEABLE
        }
        self._sessions = {
            name for name, all_ in module.bindings.items() if self._only_sessions(name, all_)
        }

    def findings(self) -> Iterator[Finding]:
        """Yield each call that can wait for ever."""
        module = self._module
        for node in self._calls:
            statement = module.statement_around(node) if self._waits_for_ever(node) else None
            if statement and not silenced(module, node.lineno, last_line(statement), CODES):
                yield Finding(
                    line=node.lineno,
                    place=(end(node.func)[0], module.column(end(node.func))),
                    first_line=first_line(statement),
                    last_line=last_line(statement),
                    text=f"{TIMEOUT_S}",
                )

    def _waits_for_ever(self, node: ast.Call) -> bool:
        name = dotted(node.func) or ""
        target = self._module.resolve(name)
        if target == URLOPEN:
            known = len(node.args) < URLOPEN_POSITIONAL_TIMEOUT and not self._socket_default
        elif target:
            known = _is_request(target)
        else:
            known = self._is_session_method(node.func)
        return known and name.partition(".")[0] not in self._patched and _takes_timeout(node)

    def _is_session_method(self, function: ast.expr) -> bool:
        if not isinstance(function, ast.Attribute) or function.attr not in METHODS - {"request"}:
            return False
        owner = function.value
        if isinstance(owner, ast.Call):
            return self._module.resolve(dotted(owner.func)) in SESSIONS
        return isinstance(owner, ast.Name) and owner.id in self._sessions

    def _only_sessions(self, name: str, bindings: Sequence[Binding]) -> bool:
        return f"{name}.mount" not in self._called and all(
            isinstance(each.value, ast.Call)
            and self._module.resolve(dotted(each.value.func)) in SESSIONS
            for each in bindings
        )


def _is_request(target: str) -> bool:
    module, _, method = target.rpartition(".")
    return module in {"requests", "requests.api"} and method in METHODS


def _takes_timeout(node: ast.Call) -> bool:
    """Tell whether a call has arguments, all of them in sight, and no limit among them."""
    names = {keyword.arg for keyword in node.keywords}
    hidden = any(isinstance(value, ast.Starred | ast.GeneratorExp) for value in node.args)
    return bool(node.args or names) and not hidden and names.isdisjoint(_LIMITED_BY)


class HttpTimeout(Edit):
    """Adds the argument, on a line of its own where the others have theirs."""

    def leave_Call(  # noqa: N802 - libcst's name
        self, original_node: cst.Call, updated_node: cst.Call
    ) -> cst.Call:
        """Limit one call."""
        seconds = self.wanted_at(original_node.func, end=True)
        if seconds is None:
            return updated_node
        return updated_node.with_changes(args=_with_timeout(updated_node, seconds))


def _with_timeout(call: cst.Call, seconds: str) -> Sequence[cst.Arg]:
    *others, last = call.args
    timeout = cst.Arg(
        keyword=cst.Name("timeout"),
        value=cst.Integer(seconds),
        equal=cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace("")),
    )
    between = _between(call)
    if isinstance(last.comma, cst.Comma):
        tail = last.comma.whitespace_after
        comma = last.comma.with_changes(whitespace_after=_carrying(tail, between))
        timeout = timeout.with_changes(comma=cst.Comma(whitespace_after=_without_comments(tail)))
        return [*others, last.with_changes(comma=comma), timeout]
    tail = last.whitespace_after_arg
    comma = cst.Comma(whitespace_after=_carrying(tail, between))
    last = last.with_changes(comma=comma, whitespace_after_arg=cst.SimpleWhitespace(""))
    return [*others, last, timeout.with_changes(whitespace_after_arg=_without_comments(tail))]


def _between(call: cst.Call) -> _Space:
    """Return the white space that separates two arguments of a call."""
    *_, before = [call.whitespace_before_args, *_gaps(call.args[:-1])]
    if isinstance(before, cst.ParenthesizedWhitespace):
        return before.with_changes(first_line=_without_comment(before.first_line), empty_lines=())
    return cst.SimpleWhitespace(" ")


def _gaps(args: Sequence[cst.Arg]) -> Iterator[_Space]:
    for arg in args:
        if isinstance(arg.comma, cst.Comma):
            yield arg.comma.whitespace_after


def _carrying(tail: _Space, between: _Space) -> _Space:
    """Return ``between`` with the comments that stood behind the last argument."""
    if not isinstance(tail, cst.ParenthesizedWhitespace):
        return between
    if isinstance(between, cst.ParenthesizedWhitespace):
        return between.with_changes(first_line=tail.first_line, empty_lines=tail.empty_lines)
    return tail if _has_comment(tail) else between


def _has_comment(space: cst.ParenthesizedWhitespace) -> bool:
    return space.first_line.comment is not None or any(line.comment for line in space.empty_lines)


def _without_comments(tail: _Space) -> _Space:
    if not isinstance(tail, cst.ParenthesizedWhitespace):
        return tail
    return tail.with_changes(first_line=_without_comment(tail.first_line), empty_lines=())


def _without_comment(line: cst.TrailingWhitespace) -> cst.TrailingWhitespace:
    if line.comment is None:
        return line
    return line.with_changes(whitespace=cst.SimpleWhitespace(""), comment=None)


RULE = Rule(
    id="http-timeout",
    title=f"Give calls of requests and urllib a limit: timeout={TIMEOUT_S}",
    risk=f"A server that is silent for more than {TIMEOUT_S} s now makes the call fail.",
    find=find,
    edit=HttpTimeout,
)
