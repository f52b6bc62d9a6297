"""The user's own clone: found, looked at, patched on request."""

import os
import subprocess
from pathlib import Path

import pytest

from patchkiln.cli.local_clone import find_clone, is_path
from patchkiln.errors import InvalidRequest, PatchError
from tests.support.repositories import commit, git, make_repository

FILES = {"greeting.txt": "hello\nworld\n", "other.txt": "other\n", "sub/deep.txt": "deep\n"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Make a clone with three files."""
    return make_repository(tmp_path / "my clone", FILES)


def patch_of(repository: Path, changes: dict[str, str | None]) -> bytes:
    """Return the patch that makes these changes (None deletes), and leave the clone as it was."""
    for name, content in changes.items():
        if content is None:
            (repository / name).unlink()
        else:
            (repository / name).write_text(content)
    git(repository, "add", "-A")
    diff = subprocess.run(
        ["git", "diff", "--cached", "--binary", "-M"],
        cwd=repository,
        capture_output=True,
        check=True,
    ).stdout
    git(repository, "reset", "-q", "--hard")
    return diff


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/srv/x", True),
        ("./x", True),
        ("..", True),
        ("~/x", True),
        ("https://example.org/a/b", False),
        ("file:///srv/x", False),
        ("git@example.org:a/b.git", False),
        ("example.org/a/b", False),
    ],
)
def test_a_path_is_told_from_a_url(text: str, *, path: bool) -> None:
    """A scheme makes a URL; a dot, a slash or a tilde in front makes a path."""
    assert is_path(text) is path


def test_a_bare_name_is_a_path_where_it_exists(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``patchkiln run sub`` means the directory that is there."""
    monkeypatch.chdir(repository)
    assert is_path("sub")
    assert not is_path("nowhere")


def test_a_clone_is_found_from_inside(repository: Path) -> None:
    """Any directory of the clone names it; its URL is what git can clone, blanks and all."""
    clone = find_clone(str(repository / "sub"))
    assert clone.root == repository
    assert clone.url == f"{repository.parent.as_uri()}/my%20clone"
    assert not clone.bare


def test_a_bare_repository_is_found(repository: Path, tmp_path: Path) -> None:
    """It can be cloned, though nothing can be applied to it."""
    git(tmp_path, "clone", "-q", "--bare", str(repository), "bare.git")
    clone = find_clone(str(tmp_path / "bare.git"))
    assert clone.bare
    assert clone.root == tmp_path / "bare.git"
    assert not clone.uncommitted()


def test_git_variables_do_not_lead_elsewhere(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started from a git hook, it still means the directory that was named."""
    make_repository(tmp_path / "elsewhere", FILES)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "elsewhere"))
    assert find_clone(str(repository)).root == repository


def test_what_is_no_clone_says_how_to_make_one(tmp_path: Path, repository: Path) -> None:
    """No directory, no repository, and a linked worktree each get their own words."""
    with pytest.raises(InvalidRequest, match="no directory"):
        find_clone(str(tmp_path / "nowhere"))
    (tmp_path / "plain").mkdir()
    with pytest.raises(InvalidRequest, match="no git repository") as caught:
        find_clone(str(tmp_path / "plain"))
    assert "git init" in caught.value.remedy
    git(repository, "worktree", "add", "-q", str(tmp_path / "linked"))
    with pytest.raises(InvalidRequest, match="linked worktree"):
        find_clone(str(tmp_path / "linked"))


def test_uncommitted_changes_are_noticed(repository: Path) -> None:
    """Changed and new files are both what a clone will not see."""
    clone = find_clone(str(repository))
    assert not clone.uncommitted()
    (repository / "new.txt").write_text("new")
    assert clone.uncommitted()


def test_a_patch_is_applied_to_the_files_alone(repository: Path) -> None:
    """Edits, renames, deletions and modes arrive; nothing is staged or committed."""
    (repository / "other.txt").chmod(0o755)
    changes = {"greeting.txt": "hello\nthere\n", "sub/deep.txt": None, "sub/renamed.txt": "deep\n"}
    diff = patch_of(repository, changes)
    head = git(repository, "rev-parse", "HEAD")
    find_clone(str(repository)).apply(diff)
    assert (repository / "greeting.txt").read_text() == "hello\nthere\n"
    assert (repository / "sub/renamed.txt").read_text() == "deep\n"
    assert not (repository / "sub/deep.txt").exists()
    assert os.access(repository / "other.txt", os.X_OK)
    assert git(repository, "diff", "--cached", "--name-only") == ""
    assert git(repository, "rev-parse", "HEAD") == head


def test_changes_in_other_files_are_no_obstacle(repository: Path) -> None:
    """Only the files of the patch have to be clean."""
    diff = patch_of(repository, {"greeting.txt": "bye\n"})
    (repository / "other.txt").write_text("mine\n")
    find_clone(str(repository)).apply(diff)
    assert (repository / "other.txt").read_text() == "mine\n"
    assert (repository / "greeting.txt").read_text() == "bye\n"


@pytest.mark.parametrize("staged", [False, True])
def test_uncommitted_changes_in_its_files_refuse_a_patch(repository: Path, *, staged: bool) -> None:
    """Work that is not committed is never mixed with a patch, staged or not."""
    diff = patch_of(repository, {"greeting.txt": "hello\nthere\n"})
    mine = "hello\nworld\nmine\n"
    (repository / "greeting.txt").write_text(mine)
    if staged:
        git(repository, "add", "greeting.txt")
    with pytest.raises(PatchError, match=r"greeting\.txt") as caught:
        find_clone(str(repository)).apply(diff)
    assert "Commit or stash" in caught.value.remedy
    assert (repository / "greeting.txt").read_text() == mine


def test_a_file_in_the_way_refuses_a_patch(repository: Path) -> None:
    """A new file of the patch never overwrites one that git does not know."""
    diff = patch_of(repository, {"new.txt": "theirs\n", "greeting.txt": "bye\n"})
    (repository / "new.txt").write_text("mine\n")
    with pytest.raises(PatchError, match=r"new\.txt"):
        find_clone(str(repository)).apply(diff)
    assert (repository / "new.txt").read_text() == "mine\n"
    assert (repository / "greeting.txt").read_text() == FILES["greeting.txt"]


def test_a_patch_for_another_commit_is_refused(repository: Path) -> None:
    """The patch of another commit is not forced on this one."""
    diff = patch_of(repository, {"greeting.txt": "hello\nthere\n"})
    (repository / "greeting.txt").write_text("something else\n")
    commit(repository, "Else")
    with pytest.raises(PatchError, match="does not apply") as caught:
        find_clone(str(repository)).apply(diff)
    assert "checked out" in caught.value.remedy


def test_a_patch_cannot_leave_the_clone(repository: Path) -> None:
    """A path that climbs out is refused by git, and nothing is written."""
    diff = patch_of(repository, {"new.txt": "theirs\n"})
    with pytest.raises(PatchError):
        find_clone(str(repository)).apply(diff.replace(b"new.txt", b"../escaped.txt"))
    assert not (repository.parent / "escaped.txt").exists()


def test_a_monitor_in_the_configuration_is_not_started(repository: Path, tmp_path: Path) -> None:
    """Looking at a clone starts no program that its configuration names."""
    started = tmp_path / "started"
    git(repository, "config", "core.fsmonitor", f"touch {started}; false")
    find_clone(str(repository)).uncommitted()
    assert not started.exists()


def test_a_filter_in_the_configuration_is_not_started(repository: Path, tmp_path: Path) -> None:
    """Neither looking at a clone nor applying a patch to it starts a filter's command."""
    started = tmp_path / "started"
    diff = patch_of(repository, {"new.txt": "theirs\n"})
    for kind in ("clean", "smudge", "process"):
        git(repository, "config", f"filter.x.y.{kind}", f"touch {started}; cat")
    (repository / ".git" / "info" / "attributes").write_text("* filter=x.y\n")
    tracked = repository / next(iter(FILES))
    tracked.write_bytes(tracked.read_bytes() + b"more\n")
    clone = find_clone(str(repository))
    assert clone.uncommitted()
    clone.apply(diff)
    assert (repository / "new.txt").read_text() == "theirs\n"
    assert not started.exists()
