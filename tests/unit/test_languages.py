"""Languages are told by names, and their shares by bytes."""

import pytest

from patchkiln.domain.languages import MAX_LANGUAGES, language_of, language_shares
from patchkiln.domain.project import TrackedFile


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("a/b.py", "Python"),
        ("A.PY", "Python"),
        ("x.tsx", "TypeScript"),
        ("Makefile", "Makefile"),
        ("docker/Dockerfile", "Dockerfile"),
        ("README.md", None),
        ("data.json", None),
        (".py", None),
        ("py", None),
        ("dir.py/file", None),
        ("\udcff.rs", "Rust"),
    ],
)
def test_the_name_tells_the_language(path: str, language: str | None) -> None:
    """Extension or well-known name; data, prose and unknown names are no language."""
    assert language_of(path) == language


def test_shares_are_of_bytes() -> None:
    """One large file outweighs many small ones; vendored code and data do not count."""
    files = [
        TrackedFile(path="a.py", size_bytes=300),
        TrackedFile(path="b.js", size_bytes=50),
        TrackedFile(path="c.js", size_bytes=50),
        TrackedFile(path="node_modules/x/d.js", size_bytes=9000),
        TrackedFile(path="data.json", size_bytes=9000),
    ]
    assert language_shares(files) == (("Python", 0.75), ("JavaScript", 0.25))


def test_shares_are_of_files_where_no_size_is_known() -> None:
    """Without sizes every file counts alike."""
    files = [TrackedFile(path=path) for path in ("a.py", "b.js", "c.js", "d.js")]
    assert language_shares(files) == (("JavaScript", 0.75), ("Python", 0.25))


def test_an_empty_repository_has_no_language() -> None:
    """Nothing, or nothing but prose, gives no share."""
    assert language_shares([]) == ()
    assert language_shares([TrackedFile(path="README.md", size_bytes=10)]) == ()


def test_the_number_of_languages_is_bounded() -> None:
    """Only the largest are told, the largest of them first."""
    extensions = (*"chr", "py", "js", "go", "rs", "java", "rb", "php", "lua", "jl", "zig", "dart")
    files = [TrackedFile(path=f"a.{e}", size_bytes=n) for n, e in enumerate(extensions, 1)]
    shares = language_shares(files)
    assert len(shares) == MAX_LANGUAGES
    assert shares[0][0] == "Dart"
