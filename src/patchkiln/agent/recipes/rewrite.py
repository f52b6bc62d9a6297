"""One file through a recipe's rules: bytes in, bytes out, every untouched byte the same.

Each rule decides on the whole file and edits only the statements around its findings, so that all
lines outside of them are copied. A file is left alone as a whole where anything is in doubt: it
does not parse, libcst does not give a statement back as it was, the result does not compile, or a
second pass would change it again.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import cast

import libcst as cst
from libcst.metadata import CodeRange, PositionProvider

from patchkiln.agent.recipes.bounds import (
    check_compilable,
    check_module,
    check_statement,
    check_text,
)
from patchkiln.agent.recipes.python_module import PythonModule
from patchkiln.agent.recipes.recipe import Finding, Rule
from patchkiln.agent.recipes.source import Unfit, read_source
from patchkiln.agent.recipes.syntax import check_compiles, parse

MAX_FINDINGS = 1000
_HEADER = "if _:"
_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What one rule did to a file. ``lines`` are those of the file before the change, from 1."""

    rule: str
    lines: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """The new bytes of a file and the rules that made them; none where nothing was found."""

    data: bytes
    applied: tuple[Applied, ...]


def rewrite(
    data: bytes, rules: Sequence[Rule], *, path: str = "", shadowed: frozenset[str] = frozenset()
) -> Rewritten:
    """Apply rules to a file's bytes. Raises `Unfit`, and nothing else, for whatever bytes."""
    source = read_source(data)
    try:
        check_text(source.text)
        module = PythonModule(source.text, path=path, shadowed=shadowed)
        check_module(module)
        result, applied = _apply_all(module, rules)
        if applied:
            _check(result, rules)
    except SyntaxError as error:
        raise Unfit(f"it is no valid Python {_VERSION}") from error
    except (RecursionError, MemoryError) as error:
        raise Unfit("it is nested too deeply") from error
    except ValueError as error:
        raise Unfit("it is no valid Python") from error
    return Rewritten(data=source.encode(result.text), applied=tuple(applied))


def _apply_all(module: PythonModule, rules: Sequence[Rule]) -> tuple[PythonModule, list[Applied]]:
    """Apply the rules one after the other; lines are told as they were at first."""
    applied: list[Applied] = []
    original = module
    for rule in rules:
        findings = _findings(rule, module)
        if not findings:
            continue
        told = findings if module is original else _findings(rule, original)
        lines = tuple(finding.line for finding in told if finding.counted)
        applied.append(Applied(rule=rule.id, lines=lines))
        edited = _again(module, _edited(module, rule, findings))
        if module is original and len(edited.lines) == len(original.lines):
            original = edited
        module = edited
    return module, applied


def _again(module: PythonModule, text: str) -> PythonModule:
    return PythonModule(text, path=module.path, shadowed=module.shadowed)


def _findings(rule: Rule, module: PythonModule) -> list[Finding]:
    findings = list(islice(rule.find(module), MAX_FINDINGS + 1))
    if len(findings) > MAX_FINDINGS:
        raise Unfit(f"a rule finds more than {MAX_FINDINGS} places in it")
    return sorted(findings, key=lambda finding: finding.place)


def _check(module: PythonModule, rules: Sequence[Rule]) -> None:
    """Raise `Unfit` where the result would not do as a last word."""
    check_compilable(module)
    check_compiles(module.text)
    if any(_findings(rule, module) for rule in rules):
        raise Unfit("a second pass would change it again")


def _edited(module: PythonModule, rule: Rule, findings: Sequence[Finding]) -> str:
    """Return the text with one rule's edits and insertions, everything else as it was."""
    pieces = [(each.after_line, each.after_line, each.text) for each in rule.insert(module)]
    pieces += [
        (region.first_line - 1, region.last_line, _edit(module, rule, region))
        for region in _regions(findings)
    ]
    result: list[str] = []
    line = 0
    for begin, stop, text in sorted(pieces, key=lambda piece: piece[0]):
        if begin < line:
            raise Unfit("two changes overlap")
        result += [*module.lines[line:begin], text]
        line = stop
    return "".join([*result, *module.lines[line:]])


@dataclass(slots=True, kw_only=True)
class _Region:
    """Whole lines with one or more findings."""

    first_line: int
    last_line: int
    findings: list[Finding]


def _regions(findings: Sequence[Finding]) -> list[_Region]:
    """Return the statements that the findings name; of two that overlap the union."""
    regions: list[_Region] = []
    for finding in sorted(findings, key=lambda finding: finding.first_line):
        if regions and finding.first_line <= regions[-1].last_line:
            regions[-1].last_line = max(regions[-1].last_line, finding.last_line)
            regions[-1].findings.append(finding)
        else:
            first, last = finding.first_line, finding.last_line
            regions.append(_Region(first_line=first, last_line=last, findings=[finding]))
    return regions


def _edit(module: PythonModule, rule: Rule, region: _Region) -> str:
    """Return the new text of a region."""
    text = "".join(module.lines[region.first_line - 1 : region.last_line])
    # An indented statement is no module; under a condition it is. And what libcst makes of a last
    # line without an end is not always what it was.
    header = _HEADER + module.newline if module.margin(region.first_line) else ""
    footer = "" if text.endswith(("\n", "\r")) else module.newline
    tree = _parse(header + text + footer)
    shift = bool(header) - region.first_line + 1
    wanted = {
        (finding.place[0] + shift, finding.place[1]): finding.text for finding in region.findings
    }
    edit = rule.edit(wanted, _Positions().of(tree), module.indent)
    changed = tree.visit(edit).code
    if edit.done != wanted.keys():
        raise Unfit("a place to change was not found again")
    return changed.removeprefix(header).removesuffix(footer)


class _Positions(PositionProvider):
    """Where the nodes of a tree are. The library's own wrapper visits the tree once more."""

    def of(self, tree: cst.Module) -> Mapping[cst.CSTNode, CodeRange]:
        self._gen_impl(tree)
        # The library leaves the type of lazy values open; this provider has none.
        return cast("Mapping[cst.CSTNode, CodeRange]", self._computed)  # pyright: ignore[reportUnknownMemberType]


def _parse(text: str) -> cst.Module:
    """Parse with libcst what it can write back exactly, and what cannot overflow its stack."""
    check_statement(text, parse(text))
    try:
        tree = cst.parse_module(text)
    except cst.ParserSyntaxError as error:
        raise Unfit("it is no valid Python for libcst") from error
    except BaseException as error:
        # A panic of libcst's native code arrives as a BaseException whose class has no public name.
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise Unfit("libcst cannot read it") from error
    if tree.code != text:
        raise Unfit("libcst cannot write it back exactly")
    return tree
