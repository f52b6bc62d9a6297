"""The edit tool's core: what it replaces, and what it will not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchkiln.agent.builtin.editing import EditRefused, edit


def test_a_unique_piece_is_replaced_and_the_rest_keeps_its_bytes() -> None:
    """Only the named piece changes; tabs, trailing blanks and a missing last newline stay."""
    text = "a = 1 \n\tb = 2\nc = 3"
    assert edit(text, "b = 2", "b = 4") == "a = 1 \n\tb = 4\nc = 3"


def test_lf_edits_of_a_crlf_file_keep_its_line_ends() -> None:
    """A model writes LF; a file whose lines all end in CRLF stays such a file."""
    assert edit("a\r\nb\r\nc\r\n", "a\nb\n", "x\ny\nz\n") == "x\r\ny\r\nz\r\nc\r\n"
    assert edit("a\r\nb\r\n", "a", "x\ny") == "x\r\ny\r\nb\r\n"


def test_a_file_of_mixed_line_ends_is_matched_as_it_is() -> None:
    """Nothing is guessed where both kinds stand in one file."""
    assert edit("a\r\nb\nc\n", "b\nc", "x\ny") == "a\r\nx\ny\n"
    with pytest.raises(EditRefused):
        edit("a\r\nb\nc\n", "a\nb", "x")


def test_an_ambiguous_piece_is_refused_with_its_places() -> None:
    """The first match is never taken; the refusal names the lines and the way out."""
    with pytest.raises(EditRefused, match=r"2 times.*lines 1, 3.*replace_all"):
        edit("x = 1\ny = 2\nx = 1\n", "x = 1", "x = 9")


def test_replace_all_replaces_every_occurrence() -> None:
    """Asked for by name, all places change."""
    assert edit("x = 1\nx = 1\n", "x = 1", "x = 9", replace_all=True) == "x = 9\nx = 9\n"


def test_a_missing_piece_is_refused_with_what_comes_near() -> None:
    """The refusal shows the line that differs only in white space."""
    with pytest.raises(EditRefused, match=r"line 2: '    return a - b'"):
        edit("def f():\n    return a - b\n", "return a - b\nreturn c", "return a + b")
    with pytest.raises(EditRefused, match="Read the file again"):
        edit("def f(): ...\n", "def g(): ...", "def h(): ...")


@pytest.mark.parametrize(("old", "new"), [("", "x"), ("a", "a")])
def test_an_edit_that_changes_nothing_is_refused(old: str, new: str) -> None:
    """An empty piece, or one replaced by itself, is an error and not a silent success."""
    with pytest.raises(EditRefused):
        edit("a\n", old, new)


TEXT = st.text(st.sampled_from("ab \t\r\n"), max_size=30)


@given(before=TEXT, old=TEXT, after=TEXT, new=TEXT)
def test_an_edit_is_exact_or_refused(before: str, old: str, after: str, new: str) -> None:
    """Whatever the text: the result is the one replacement, line ends aside, or a refusal."""
    text = before + old + after
    try:
        changed = edit(text, old, new)
    except EditRefused:
        return
    assert changed.replace("\r\n", "\n") in {
        text.replace(old, new).replace("\r\n", "\n"),
        text.replace("\r\n", "\n").replace(old, new),
    }
