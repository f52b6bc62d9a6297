"""What tox and nox would run, without running them: they set up environments over the network."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from patchkiln.domain.detection.pytest_settings import split_words
from patchkiln.domain.detection.tree import Table, Tree, as_strings, as_table, read_ini

TASK_MARKERS = ("tox.ini", "tox.toml", "noxfile.py")
TOX_ENVIRONMENTS = ("testenv", "testenv:test", "testenv:tests", "testenv:unit", "testenv:py")
_SUBSTITUTIONS = {
    "{envpython}": "python",
    "{env_python}": "python",
    "{envbindir}/": "",
    "{env_bin_dir}/": "",
    "{toxinidir}": ".",
    "{tox_root}": ".",
    "{posargs}": "",
    "[]": "",
}
_POSARGS = "{posargs:"
_LITERAL = re.compile(r""""[^"\n]*"|'[^'\n]*'""")
_NOX_RUN = re.compile(
    rf"\bsession\.run\(\s*((?:{_LITERAL.pattern})(?:\s*,\s*(?:{_LITERAL.pattern}))*)"
)
_PYTHON_WITH_VALUE = frozenset({"-W", "-X"})
_COVERAGE_WITH_VALUE = frozenset({"--source", "--omit", "--include", "--rcfile", "--context"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The commands of one environment of tox or session of nox, each as its words."""

    source: str
    commands: tuple[tuple[str, ...], ...]


def python_tasks(tree: Tree) -> list[Task]:
    """Return what tox and then nox would run, the likeliest environment first."""
    return [*_tox_ini(tree), *_tox_toml(tree), *_nox(tree)]


def direct_command(words: Sequence[str]) -> tuple[str, ...]:
    """Return a command as the sandbox's own Python runs it, without coverage; else nothing.

    The first word of the answer is ``pytest`` or ``python3``.
    """
    if not words:
        return ()
    path, *rest = words
    program = path.rpartition("/")[2]
    if program in {"pytest", "py.test"}:
        return ("pytest", *rest)
    if program == "coverage" and rest[:1] == ["run"]:
        return _python(_after_options(rest[1:], _COVERAGE_WITH_VALUE))
    version = program.removeprefix("python")
    is_python = program.startswith("python") and not version.strip("0123456789.")
    return _python(_after_options(rest, _PYTHON_WITH_VALUE)) if is_python else ()


def _python(words: Sequence[str]) -> tuple[str, ...]:
    """Judge what follows ``python``: a module that tests, or a script."""
    if words[:1] != ["-m"]:
        return ("python3", *words) if words else ()
    if words[1:2] in (["pytest"], ["coverage"]):
        return direct_command(words[1:])
    return ("python3", *words) if words[1:2] == ["unittest"] else ()


def _after_options(words: Sequence[str], with_value: frozenset[str]) -> list[str]:
    """Drop the options before ``-m`` or a script."""
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-m":
        rest = rest[2:] if rest[0] in with_value else rest[1:]
    return rest


def _tox_ini(tree: Tree) -> Iterator[Task]:
    legacy = as_table(tree.toml("pyproject.toml"), "tool", "tox").get("legacy_tox_ini")
    yield from _tox_sections("tox.ini", tree.ini("tox.ini"))
    if isinstance(legacy, str):
        yield from _tox_sections("pyproject.toml", read_ini(legacy))


def _tox_sections(name: str, sections: Mapping[str, Mapping[str, str]]) -> Iterator[Task]:
    for section in TOX_ENVIRONMENTS:
        options = sections.get(section, {})
        # From another directory the paths mean something else.
        if "commands" in options and not options.keys() & {"changedir", "change_dir"}:
            text = options["commands"].replace("\\\n", " ")
            commands = tuple(split_words(_substitute(line)) for line in text.splitlines())
            yield Task(source=f"{name} [{section}]", commands=_cleaned(commands))


def _tox_toml(tree: Tree) -> Iterator[Task]:
    pyproject = as_table(tree.toml("pyproject.toml"), "tool", "tox")
    yield from _native("tox.toml", tree.toml("tox.toml"))
    yield from _native("pyproject.toml [tool.tox]", pyproject)


def _native(source: str, settings: Table) -> Iterator[Task]:
    """Read tox 4's own form: a list of lists, in which ``posargs`` are tables."""
    commands = as_table(settings, "env_run_base").get("commands")
    if isinstance(commands, list):
        rows = cast("list[object]", commands)
        yield Task(source=source, commands=_cleaned(tuple(tuple(as_strings(r)) for r in rows)))


def _substitute(line: str) -> str:
    for name, value in _SUBSTITUTIONS.items():
        line = line.replace(name, value)
    before, found, after = line.partition(_POSARGS)
    default, closed, rest = after.partition("}")
    return f"{before}{default}{rest}" if found and closed else line


def _cleaned(commands: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """Drop what only tox knows: factors (``unit:``), words in braces, the mark to go on."""
    cleaned = (
        tuple(word for word in words if not word.startswith("{") and word != "-")
        for words in commands
    )
    cleaned = (words[1:] if words and words[0].endswith(":") else words for words in cleaned)
    return tuple((words[0].lstrip("-!"), *words[1:]) for words in cleaned if words)


def _nox(tree: Tree) -> Iterator[Task]:
    """Read the constant first words of each ``session.run(...)``.

    By text and not by a syntax tree: Python's parser is no match for hostile nesting.
    """
    calls = _NOX_RUN.findall(tree.text("noxfile.py"))
    commands = tuple(tuple(word[1:-1] for word in _LITERAL.findall(call)) for call in calls)
    if commands:
        yield Task(source="noxfile.py", commands=commands)
