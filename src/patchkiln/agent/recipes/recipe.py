"""What a recipe is made of: the prompts that it knows, and rules that find and rewrite places.

A rule decides on the syntax tree of the standard library, which is quick and knows every position,
and edits with libcst, which keeps every byte. `Rule.find` names the places; `Rule.edit` is given
nothing but the statements around them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import libcst as cst
from libcst.metadata import CodeRange

from patchkiln.agent.recipes.python_module import PythonModule

# A line from 1 and a column from 0, in characters, as both syntax trees count after conversion.
Place: TypeAlias = tuple[int, int]
_WITHOUT_PLACES = (
    cst.BaseParenthesizableWhitespace,
    cst.Comma,
    cst.EmptyLine,
    cst.Name,
    cst.TrailingWhitespace,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One edit that a rule wants.

    ``line`` is told to people; ``place`` is where the rule's edit looks; ``first_line`` to
    ``last_line`` is the statement that libcst is given; ``text`` is what the edit writes.
    ``counted`` is False for an edit that only serves another finding.
    """

    line: int
    place: Place
    first_line: int
    last_line: int
    text: str = ""
    counted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Insertion:
    """Whole lines to add after a line (0: at the top), each with its newline."""

    after_line: int
    text: str


class Edit(cst.CSTTransformer):
    """Rewrites the places that a rule has found, in one statement.

    ``done`` holds the places that were found again. ``indent`` is what the file's blocks add.
    """

    def __init__(
        self,
        wanted: Mapping[Place, str],
        positions: Mapping[cst.CSTNode, CodeRange],
        indent: str,
    ) -> None:
        """Take the texts by place, and where the nodes of the statement are."""
        super().__init__()
        self._wanted = wanted
        self._positions = positions
        self.indent = indent
        self.done: set[Place] = set()

    def on_visit(self, node: cst.CSTNode) -> bool:
        """Go into everything that can hold a place; the base class would look for more hooks."""
        return not isinstance(node, _WITHOUT_PLACES)

    def on_visit_attribute(self, node: cst.CSTNode, attribute: str) -> None:
        """Have no hook for attributes."""

    def on_leave_attribute(self, original_node: cst.CSTNode, attribute: str) -> None:
        """Have no hook for attributes."""

    def wanted_at(self, node: cst.CSTNode, *, end: bool = False) -> str | None:
        """Return the text for the place where an original node starts (or ends), or None."""
        span = self._positions[node]
        position = span.end if end else span.start
        place = (position.line, position.column)
        if place not in self._wanted:
            return None
        self.done.add(place)
        return self._wanted[place]


def _nothing(_module: PythonModule) -> tuple[Insertion, ...]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rewrite. ``title`` is an imperative, ``risk`` one sentence for the plan.

    ``insert`` gives the lines that the rule's findings need elsewhere in the file.
    """

    id: str
    title: str
    risk: str
    find: Callable[[PythonModule], Iterable[Finding]]
    edit: type[Edit]
    insert: Callable[[PythonModule], tuple[Insertion, ...]] = _nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A prompt that a recipe has recognised. ``paths`` limit it to files that the prompt named."""

    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A kind of change. ``example`` is a prompt that it knows, ``intent`` what it will do.

    ``needle`` is an extended regular expression (POSIX) that every file worth a look matches.
    Rules run in their order, each on what the one before has made.
    """

    id: str
    example: str
    intent: str
    needle: str
    recognise: Callable[[str], Request | None]
    rules: tuple[Rule, ...] = field(default=())
