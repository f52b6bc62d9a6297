"""Bytes outside of the edited statements: they stay, whatever the file is written in."""

import codecs
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchkiln.agent.recipes.error_handling import RECIPE
from patchkiln.agent.recipes.rewrite import rewrite
from tests.unit.recipes.rewriting import CAUSE, RULES

# Lines that no rule wants, full of what careless editors lose. {i} is the indent.
FILLERS = (
    "",
    "    ",
    "# comment   ",
    "x = 1  ;  y=2",
    "z = ( 1,\n2 ,)",
    "s = '''a\n\n  # no comment\n\t'''",
    "t = 'it''s' \"it\" r'\\x'",
    "def plain( a,b = 1 ) :\n{i}return a",
    "class  A (object):\n\n{i}# inside\n{i}b = {{ 'k':1 }}\n  # odd margin",
    "try:\n{i}f()\nexcept  KeyError :\n{i}pass",
    "if x :\n{i}pass  # tail\nelse:\n{i}if y:\n{i}{i}f ( )",
    "\x0c",
    "@ decorated\ndef g(): return  1",
    "print ('requests.get(url)')",
)
# A statement, what becomes of it, and whether the edit keeps the number of lines.
TARGETS = (
    ("try:\n{i}f()\nexcept:\n{i}g( 1 )", "try:\n{i}f()\nexcept Exception:\n{i}g( 1 )", True),
    (
        "try :\n{i}f ()\nexcept  KeyError  as  exc :  # c\n{i}raise  E1x( exc )  # d",
        "try :\n{i}f ()\nexcept  KeyError  as  exc :  # c\n{i}raise  E1x( exc ) from exc  # d",
        True,
    ),
    (
        "def m(self):\n{i}try:\n{i}{i}f()\n{i}except ( A,B ):\n{i}{i}raise  Xy",
        "def m(self):\n{i}try:\n{i}{i}f()\n{i}except ( A,B ) as exc:\n{i}{i}raise  Xy from exc",
        True,
    ),
    ("r = requests . get( url )", "r = requests . get( url, timeout=30 )", True),
    (
        "while x:\n{i}try: f( )\n{i}except  Exception:\n{i}{i}continue",
        (
            "while x:\n{i}try: f( )\n{i}except  Exception:\n"
            '{i}{i}logger.warning("Ignored an exception", exc_info=True)\n{i}{i}continue'
        ),
        False,
    ),
    ("requests.post(\n{i}url,\n)", "requests.post(\n{i}url,\n{i}timeout=30,\n)", False),
)
HEAD = "import logging, requests\nfrom x import E1x, Xy\nlogger = logging.getLogger(__name__)"
LETTERS = {"utf-8": "äß€😀", "iso-8859-1": "äß", "cp1252": "ä€", "koi8-r": "яж", "ascii": "a"}


@dataclass(frozen=True)
class Written:
    """A text with how its bytes are made."""

    encoding: str
    mark: bytes
    newlines: tuple[str, ...]
    indent: str
    final_newline: bool

    def bytes(self, text: str) -> bytes:
        """Return the bytes; line n ends with the n-th newline, over and over."""
        lines = text.replace("{i}", self.indent).replace("{{", "{").replace("}}", "}").split("\n")
        ends = [self.newlines[n % len(self.newlines)] for n in range(len(lines))]
        ends[-1] = ends[-1] if self.final_newline else ""
        body = "".join(line + end for line, end in zip(lines, ends, strict=True))
        return self.mark + body.encode(self.encoding)


uniform = st.sampled_from(["\n", "\r\n"]).map(lambda newline: (newline,))
mixed = st.lists(st.sampled_from(["\n", "\r\n"]), min_size=1, max_size=4).map(tuple)


def written(newlines: st.SearchStrategy[tuple[str, ...]]) -> st.SearchStrategy[Written]:
    """Draw a way of writing a file."""
    return st.builds(
        Written,
        encoding=st.sampled_from(sorted(LETTERS)),
        mark=st.just(b""),
        newlines=newlines,
        indent=st.sampled_from(["  ", "    ", "\t", " "]),
        final_newline=st.booleans(),
    ) | st.builds(
        Written,
        encoding=st.just("utf-8"),
        mark=st.just(codecs.BOM_UTF8),
        newlines=newlines,
        indent=st.just("    "),
        final_newline=st.booleans(),
    )


def check(way: Written, pieces: list[tuple[str, str]]) -> None:
    """Compare what the rules make of the first texts with the second ones, byte for byte."""
    cookie = f"# -*- coding: {way.encoding} -*-\n# {LETTERS[way.encoding]}"
    before, expected = (
        way.bytes("\n".join([cookie, HEAD, *(piece[n] for piece in pieces)])) for n in (0, 1)
    )
    result = rewrite(before, RECIPE.rules)
    assert result.data == expected
    assert rewrite(result.data, RECIPE.rules).applied == ()
    compile(result.data, "result", "exec")


filler = st.sampled_from(FILLERS).map(lambda text: (text, text))


@settings(max_examples=60, deadline=None)
@given(
    way=written(uniform),
    pieces=st.lists(filler | st.sampled_from(TARGETS).map(lambda t: t[:2]), max_size=8),
)
def test_untouched_bytes_stay(way: Written, pieces: list[tuple[str, str]]) -> None:
    """Line ends, marks, encodings, tabs, form feeds and a missing last newline all survive."""
    check(way, pieces)


@settings(max_examples=40, deadline=None)
@given(
    way=written(mixed),
    pieces=st.lists(
        filler | st.sampled_from([target[:2] for target in TARGETS if target[2]]), max_size=8
    ),
)
def test_mixed_line_ends_stay_line_by_line(way: Written, pieces: list[tuple[str, str]]) -> None:
    """A file whose lines end differently keeps each of them."""
    check(way, pieces)


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
@pytest.mark.parametrize("indent", ["\t", "  "])
def test_new_lines_are_written_as_the_file_is(newline: str, indent: str) -> None:
    """Added lines take the file's newline and indent."""
    text = "def f():\n{i}try:\n{i}{i}g()\n{i}except Exception: pass\n"
    expected = (
        "import logging\n\nlogger = logging.getLogger(__name__)\n\n\n"
        "def f():\n{i}try:\n{i}{i}g()\n{i}except Exception:\n"
        '{i}{i}logger.warning("Ignored an exception in f", exc_info=True)\n'
    )
    before, after = (
        part.replace("{i}", indent).replace("\n", newline).encode() for part in (text, expected)
    )
    assert rewrite(before, RECIPE.rules).data == after


def test_a_last_line_without_newline_can_be_edited() -> None:
    """The edit adds none."""
    before = b"try:\n    f()\nexcept KeyError as e:\n    raise ValueError('x')"
    assert rewrite(before, [CAUSE]).data == before + b" from e"


def test_letters_of_an_old_encoding_stay_as_they_are() -> None:
    """A latin-1 file is not turned into UTF-8."""
    before = b"# coding: latin-1\ntry:\n    f('\xe4')\nexcept:\n    g('\xf6')\n"
    assert rewrite(before, [RULES["bare-except"]]).data == before.replace(
        b"except:", b"except Exception:"
    )


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("x = '\u2028\x0b\x1c'\ntry:\n    f()\nexcept:\n    g()\n", (4,)),
        ("x = 1\r\ntry:\r\n    f()\r\nexcept:\r\n    g()\r\n", (4,)),
        ("x = '''\r\n\r'''\ntry:\n    f()\nexcept:\n    g()\n", (6,)),
    ],
)
def test_lines_are_counted_as_python_counts_them(text: str, lines: tuple[int, ...]) -> None:
    """Separators that only Unicode knows end no line; a lone carriage return does."""
    result = rewrite(text.encode(), RECIPE.rules)
    assert result.applied[0].lines == lines
    assert result.data == text.replace("except:", "except Exception:").encode()
