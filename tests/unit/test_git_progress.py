"""Git's stderr: a few progress events, and a bounded, printable end for errors."""

from hypothesis import given
from hypothesis import strategies as st

from patchkiln.repositories.progress import TAIL_CHARS, GitStderr


def receiving() -> bytes:
    """Return what a fetch of 1000 objects prints."""
    lines = [
        f"Receiving objects: {done // 10:3d}% ({done}/1000), {done / 100:.2f} MiB | 3.00 MiB/s"
        for done in range(1, 1001)
    ]
    return ("\r".join(lines) + ", done.\n").encode()


def test_a_thousand_lines_become_four() -> None:
    """Progress is told at each quarter, with what was received so far."""
    told = GitStderr().feed(receiving())
    assert [progress.data["percent"] for progress in told] == [25, 50, 75, 100]
    assert told[1].message == "Receiving objects: 50% (500 of 1000, 5.00 MiB)"


def test_pieces_are_put_together() -> None:
    """It does not matter where the pipe cuts the output."""
    whole, single = GitStderr(), GitStderr()
    text = receiving() + b"Resolving deltas: 100% (5/5)\nfatal: x\n"
    pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
    assert [told for piece in pieces for told in single.feed(piece)] == whole.feed(text)
    assert single.tail == whole.tail == "fatal: x"


def test_tail_holds_complaints_alone() -> None:
    """Progress of either side is no complaint; the last line counts without its newline."""
    stderr = GitStderr()
    stderr.feed(b"remote: Counting objects: 10% (1/10)\rremote: Repository not found.\nfatal: no")
    assert stderr.tail == "remote: Repository not found.\nfatal: no"


@given(st.lists(st.binary(max_size=3000), max_size=8))
def test_tail_is_bounded_and_printable(pieces: list[bytes]) -> None:
    """Whatever a remote sends, the tail is short and holds no control characters."""
    stderr = GitStderr()
    for piece in pieces:
        stderr.feed(piece)
    assert len(stderr.tail) <= TAIL_CHARS
    assert all(line.isprintable() for line in stderr.tail.split("\n"))
