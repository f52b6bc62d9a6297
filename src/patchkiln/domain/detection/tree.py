"""A directory of the repository as the detection sees it: names, and the texts of a few files.

Everything here was written by strangers. Reading never raises: a file that is missing, malformed or
of an unexpected shape reads as empty.
"""

import configparser
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

Table = Mapping[str, object]
# What the parsers of the standard library raise on hostile text: a nesting too deep, an integer too
# long (a ValueError, as the decode errors are), a memory limit of the compiler.
MAX_TOML_CHARS = 64 << 10
MAX_TOML_DOTS = 200
PARSE_ERRORS = (ValueError, RecursionError, MemoryError, configparser.Error)


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The files below one directory, relative to it, and the bytes of those that were read."""

    paths: Sequence[str]
    texts: Mapping[str, bytes]

    @cached_property
    def files(self) -> frozenset[str]:
        """Return the paths as a set."""
        return frozenset(self.paths)

    @cached_property
    def directories(self) -> frozenset[str]:
        """Return every directory that holds a file, at any depth; the top one is left out."""
        found: set[str] = set()
        for path in self.paths:
            parent = path.rpartition("/")[0]
            while parent and parent not in found:
                found.add(parent)
                parent = parent.rpartition("/")[0]
        return frozenset(found)

    def first(self, names: Iterable[str]) -> str | None:
        """Return the first of the names that is a file here."""
        return next((name for name in names if name in self.files), None)

    def below(self, directory: str) -> "Tree":
        """Return a directory of this tree as a tree of its own."""
        prefix = f"{directory}/"
        cut = len(prefix)
        return Tree(
            paths=tuple(path[cut:] for path in self.paths if path.startswith(prefix)),
            texts={p[cut:]: text for p, text in self.texts.items() if p.startswith(prefix)},
        )

    def text(self, path: str) -> str:
        """Return a file's text, bytes that are no UTF-8 replaced."""
        return self.texts.get(path, b"").decode("utf-8-sig", "replace")

    def toml(self, path: str) -> Table:
        """Return a TOML file's top table.

        tomllib takes time in the square of the depth of a dotted key, minutes for one long line.
        """
        text = self.text(path)
        if len(text) > MAX_TOML_CHARS or any(
            line.count(".") > MAX_TOML_DOTS for line in text.split("\n")
        ):
            return {}
        try:
            return tomllib.loads(text)
        except PARSE_ERRORS:
            return {}

    def json(self, path: str) -> Table:
        """Return a JSON file's top object."""
        try:
            return as_table(json.loads(self.text(path)))
        except PARSE_ERRORS:
            return {}

    def ini(self, path: str) -> Mapping[str, Mapping[str, str]]:
        """Return an INI file's sections; an option without a value is empty."""
        return read_ini(self.text(path))


def read_ini(text: str) -> Mapping[str, Mapping[str, str]]:
    """Return the sections of an INI text; an option without a value is empty."""
    parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
    try:
        parser.read_string(text)
    except PARSE_ERRORS:
        return {}
    return {
        name: {key: value or "" for key, value in parser.items(name)} for name in parser.sections()
    }


def as_table(value: object, *keys: str) -> Table:
    """Follow keys through nested tables; anything that is no table reads as an empty one."""
    for key in keys:
        value = as_table(value).get(key)
    return cast("Table", value) if isinstance(value, dict) else {}


def as_strings(value: object) -> list[str]:
    """Return the strings of a list, a single string as a list of one; else nothing."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        return []
    return [item for item in cast("list[object]", value) if isinstance(item, str)]
