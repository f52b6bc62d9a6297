"""Times, sizes and other people's text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchkiln.cli.wording import age, duration, one_line, plain, size
from patchkiln.domain.wording import counted


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [(0, "0 ms"), (999, "999 ms"), (1_000, "1.0 s"), (59_900, "59.9 s"), (125_000, "2 min 5 s")],
)
def test_a_duration_is_told_in_the_unit_that_fits(milliseconds: int, words: str) -> None:
    """Nobody has to count digits."""
    assert duration(milliseconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(512, "512 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB"), (1 << 60, "1048576.0 TiB")],
)
def test_a_size_is_told_in_the_unit_that_fits(count: int, words: str) -> None:
    """Bytes are divided by 1,024 until the number is short."""
    assert size(count) == words


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [(-5, "0 s"), (61_000, "1 min"), (7_200_000, "2 h"), (9 * 86_400_000, "9 d")],
)
def test_an_age_is_told_in_its_largest_unit(milliseconds: int, words: str) -> None:
    """A clock that runs ahead of the server's makes no negative age."""
    assert age(milliseconds) == words


def test_one_thing_is_not_many() -> None:
    """The plural is for other numbers than one."""
    assert [counted(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]


def test_text_of_another_party_cannot_steer_the_terminal() -> None:
    """Colours, titles, cursor moves, bells and turned writing are gone, the words stay."""
    hostile = "a\x1b[31mred\x1b[0m\x1b]0;title\x07\x1b[2J\rb\x07\u202eabc\x9bc"
    shown = plain(hostile)
    assert shown.startswith("ared\nb")
    assert not set(shown) & set("\x1b\x07\r\u202e\x9b")


@given(st.text())
def test_one_line_is_one_line_of_printable_text(text: str) -> None:
    """Whatever comes, no control character is left, and no line break."""
    line = one_line(text)
    assert "\n" not in line
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in line)


@given(st.text(st.characters(codec="utf-8", categories=["L", "N"])))
def test_plain_words_are_left_alone(text: str) -> None:
    """Letters and digits of any script come through as they are."""
    assert plain(text) == text
