"""Where a repository has set up pytest, and with which options."""

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from patchkiln.domain.detection.tree import Table, Tree, as_strings, as_table

# shlex builds its words character by character, in quadratic time for a single endless word.
MAX_COMMAND_CHARS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PytestSettings:
    """A repository's settings of pytest.

    ``options`` are the words of ``addopts``. ``strict_warnings``: warnings are errors.
    ``required_plugins``: pytest refuses to start without some plugins.
    """

    source: str
    options: tuple[str, ...] = ()
    strict_warnings: bool = False
    required_plugins: bool = False


def find_settings(tree: Tree) -> PytestSettings | None:
    """Return the settings that pytest would read; files and order as in its own documentation.

    https://docs.pytest.org/en/stable/reference/customize.html#configuration-file-formats
    """
    for name, tables in _READERS:
        if name not in tree.files:
            continue
        for section, table in tables(tree, name):
            return _settings(f"{name} [{section}]" if section else name, table)
    return None


def _dedicated_toml(tree: Tree, name: str) -> Iterator[tuple[str, Table]]:
    yield "", as_table(tree.toml(name), "pytest")


def _dedicated_ini(tree: Tree, name: str) -> Iterator[tuple[str, Table]]:
    yield "", tree.ini(name).get("pytest", {})


def _pyproject(tree: Tree, name: str) -> Iterator[tuple[str, Table]]:
    tool = as_table(tree.toml(name), "tool")
    if "ini_options" in as_table(tool, "pytest"):
        yield "tool.pytest.ini_options", as_table(tool, "pytest", "ini_options")
    elif "pytest" in tool:
        yield "tool.pytest", as_table(tool, "pytest")


def _section(section: str) -> Callable[[Tree, str], Iterator[tuple[str, Table]]]:
    def read(tree: Tree, name: str) -> Iterator[tuple[str, Table]]:
        sections = tree.ini(name)
        if section in sections:
            yield section, sections[section]

    return read


_READERS: tuple[tuple[str, Callable[[Tree, str], Iterator[tuple[str, Table]]]], ...] = (
    ("pytest.toml", _dedicated_toml),
    (".pytest.toml", _dedicated_toml),
    ("pytest.ini", _dedicated_ini),
    (".pytest.ini", _dedicated_ini),
    ("pyproject.toml", _pyproject),
    ("tox.ini", _section("pytest")),
    ("setup.cfg", _section("tool:pytest")),
)
PYTEST_MARKERS = tuple(name for name, _ in _READERS)


def _settings(source: str, table: Mapping[str, object]) -> PytestSettings:
    filters = [
        line.strip()
        for text in as_strings(table.get("filterwarnings"))
        for line in text.splitlines()
    ]
    return PytestSettings(
        source=source,
        options=_options(table.get("addopts")),
        strict_warnings=any(line.startswith("error") for line in filters),
        required_plugins="required_plugins" in table,
    )


def _options(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return split_words(value)
    return tuple(as_strings(value))


def split_words(text: str) -> tuple[str, ...]:
    """Split a command line as a shell would; nothing where it is too long or ill-formed."""
    if len(text) > MAX_COMMAND_CHARS:
        return ()
    try:
        return tuple(shlex.split(text, comments=True))
    except ValueError:
        return ()
