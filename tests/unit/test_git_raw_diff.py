"""Reading git's raw diff and its line counts."""

import pytest

from patchkiln.domain.patch import ChangeKind, FileChange
from patchkiln.sandboxes.local import raw_diff

OLD, NEW = b"1" * 40, b"2" * 40


def parse_changes(output: bytes) -> tuple[FileChange, ...]:
    """Parse git's output, which ends each field in NUL."""
    return raw_diff.parse_changes(output.split(b"\0")[:-1])


def raw(kind: bytes, *names: bytes) -> bytes:
    """Return one entry of the raw format."""
    return b":100644 100644 %s %s %s\0" % (OLD, NEW, kind) + b"".join(n + b"\0" for n in names)


def test_each_kind_of_change_is_told() -> None:
    """Added, modified, deleted, renamed and retyped files come with their line counts."""
    output = (
        raw(b"A", b"new.py")
        + raw(b"M", b"bin.dat")
        + raw(b"D", b"old.py")
        + raw(b"R087", b"a", b"b")
        + raw(b"T", b"link")
        + b"3\t0\tnew.py\0-\t-\tbin.dat\0"
        + b"0\t9\told.py\0"
        + b"1\t2\t\0a\0b\0"
        + b"1\t1\tlink\0"
    )
    added, modified, deleted, renamed, retyped = parse_changes(output)
    assert (added.kind, added.added, added.removed) == (ChangeKind.ADDED, 3, 0)
    assert (modified.kind, modified.added, modified.removed) == (ChangeKind.MODIFIED, None, None)
    assert (deleted.kind, deleted.removed) == (ChangeKind.DELETED, 9)
    assert (renamed.kind, renamed.old_path, renamed.path) == (ChangeKind.RENAMED, "a", "b")
    assert (renamed.added, renamed.removed) == (1, 2)
    assert retyped.kind is ChangeKind.TYPE_CHANGED


def test_names_keep_their_bytes() -> None:
    """Newlines, tabs, quotes and bytes that are no UTF-8 survive in a name."""
    name = b'a\nb\t"\xff'
    (change,) = parse_changes(raw(b"A", name) + b"1\t0\t" + name + b"\0")
    assert change.path.encode("utf-8", "surrogateescape") == name
    assert change.added == 1


def test_no_change_is_empty() -> None:
    """No output means no change."""
    assert parse_changes(b"") == ()


def test_unknown_kind_is_an_error() -> None:
    """A kind that git add never makes is not guessed at."""
    with pytest.raises(ValueError, match="no change"):
        parse_changes(raw(b"U", b"x"))
