"""The clean-room diff tells the truth: every change, and nothing else, in a patch that applies."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patchkiln.domain.patch import ChangeKind, Patch
from patchkiln.errors import PatchError
from patchkiln.sandboxes.local import household
from patchkiln.sandboxes.local.provider import LocalSandboxes
from tests.support.clones import local_sandboxes
from tests.support.git_server import Content, Program, Submodule, Symlink
from tests.support.review import Review, Tree, reviewed

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILES: Tree = {
    "README.md": b"hello\nworld\n",
    "src/app.py": b"".join(b"line %d\n" % number for number in range(40)),
    "src/old.py": b"".join(b"old %d\n" % number for number in range(40)),
    "crlf.txt": b"one\r\ntwo\r\n",
    "no-newline": b"end",
    "binary": bytes(range(256)),
    "run.sh": Program(b"#!/bin/sh\n"),
    "link": Symlink("src/app.py"),
    ".gitignore": b"build/\n*.log\n",
    "kept.log": b"tracked though ignored\n",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[LocalSandboxes]:
    """Lend one provider to all tests, because it examines the machine first."""
    async with local_sandboxes(tmp_path_factory.mktemp("data")) as provider:
        yield provider


@pytest_asyncio.fixture(loop_scope="module")
async def review(provider: LocalSandboxes, tmp_path: Path) -> AsyncGenerator[Review]:
    """Lend a box on a small repository."""
    async with reviewed(provider, tmp_path, FILES) as review:
        yield review


def kinds(patch: Patch) -> dict[str, ChangeKind]:
    """Return the kind of each change by its path."""
    return {change.path: change.kind for change in patch.changes}


async def test_nothing_changed_is_an_empty_patch(review: Review) -> None:
    """An untouched workspace gives no diff, no change and no note."""
    assert await review.box.diff() == Patch(diff=b"", changes=())


async def test_every_kind_of_change_applies(review: Review) -> None:
    """Edits, additions, deletions, renames, modes, links, types and bytes all reach the clone."""
    await review.run(
        r"""
        printf 'more' >>no-newline
        printf 'three\r\n' >>crlf.txt
        head -c 3000 /dev/zero >binary
        rm README.md
        mv src/old.py src/new.py
        echo last >>src/new.py
        chmod -x run.sh
        chmod +x src/app.py
        ln -sfn /etc/passwd link
        mkdir -p a/b && printf '\0\1' >a/b/new.bin
        : >empty
        echo edited >>kept.log
        """
    )
    patch = await review.box.diff()
    assert review.applied(patch) == await review.tree()
    assert kinds(patch) == {
        "README.md": ChangeKind.DELETED,
        "a/b/new.bin": ChangeKind.ADDED,
        "binary": ChangeKind.MODIFIED,
        "crlf.txt": ChangeKind.MODIFIED,
        "empty": ChangeKind.ADDED,
        "kept.log": ChangeKind.MODIFIED,
        "link": ChangeKind.MODIFIED,
        "no-newline": ChangeKind.MODIFIED,
        "run.sh": ChangeKind.MODIFIED,
        "src/app.py": ChangeKind.MODIFIED,
        "src/new.py": ChangeKind.RENAMED,
    }
    renamed = next(change for change in patch.changes if change.kind is ChangeKind.RENAMED)
    assert (renamed.old_path, renamed.added, renamed.removed) == ("src/old.py", 1, 0)
    assert patch.notes == ()


@pytest.mark.probe(89)
async def test_types_change_places(review: Review) -> None:
    """A file becomes a link, a link a file, a file a directory and a directory a file."""
    await review.run(
        "ln -sf README.md crlf.txt; rm link; echo file >link; "
        "rm binary; mkdir binary; echo in >binary/x; rm -r src; echo now >src"
    )
    patch = await review.box.diff()
    assert review.applied(patch) == await review.tree()
    assert kinds(patch)["link"] is ChangeKind.TYPE_CHANGED


async def test_odd_names_survive(review: Review) -> None:
    """Names with newlines, quotes, blanks, glob characters and bytes that are no UTF-8 survive."""
    names = ["new\nline", 'qu"ote', " lead and trail ", "*[?]", "tab\t", "\udcff\udcfe", "-rf", "é"]
    tree: Tree = {**await review.tree(), **dict.fromkeys(names, b"odd\n")}
    await review.replace(tree)
    patch = await review.box.diff()
    assert {change.path for change in patch.changes} == set(names)
    assert review.applied(patch) == tree


async def another_second() -> None:
    """Wait until git, which counts in seconds, no longer doubts what it has just checked out."""
    await asyncio.sleep(1.1)


async def test_same_size_and_time_hide_nothing(review: Review) -> None:
    """A change that keeps a file's size and modification time is seen; git status misses it."""
    await another_second()
    await review.run("git update-index --refresh --force-write-index")
    await review.run("cp -p README.md /tmp/r; printf 'HELLO\nworld\n' >README.md")
    await review.run("touch -r /tmp/r README.md")
    assert (await review.run("git status --porcelain")).stdout == b""
    patch = await review.box.diff()
    assert kinds(patch) == {"README.md": ChangeKind.MODIFIED}
    assert b"+HELLO" in patch.diff


async def test_changing_back_is_no_change(review: Review) -> None:
    """A file that was rewritten with its own bytes is not part of the patch."""
    await review.run("cp README.md /tmp/r; echo x >README.md; cp /tmp/r README.md; touch src/*")
    assert (await review.box.diff()).empty


async def test_ignored_files_and_leavings_are_left_out(review: Review) -> None:
    """What the repository ignores, and caches that nobody commits, are no part of the patch."""
    await review.run(
        "mkdir -p build __pycache__ .pytest_cache node_modules/x .venv/bin src/__pycache__;"
        "touch build/o a.log __pycache__/a.pyc .pytest_cache/v node_modules/x/i .venv/bin/python;"
        "touch src/__pycache__/b.pyc .coverage; head -c 20000000 /dev/zero >build/large;"
        "git init -q .venv/src; mkfifo build/pipe; echo new >src/new.py"
    )
    patch = await review.box.diff()
    assert kinds(patch) == {"src/new.py": ChangeKind.ADDED}
    assert patch.notes == ()


async def test_new_ignore_rules_hide_nothing(review: Review) -> None:
    """Rules that the box wrote hide no new file: the patch holds the rules and the files."""
    await review.run(
        "echo hidden.py >>.gitignore; echo 1 >hidden.py; mkdir -p own/deep;"
        "echo '*' >own/.gitignore; echo 1 >own/x.py; echo '!x' >own/deep/.gitignore;"
        "echo 1 >own/deep/y.py; chmod 555 own;"
        "mkdir link.d; echo '*' >rules; ln -s ../rules link.d/.gitignore; echo 1 >link.d/z.py;"
        "mkdir build; echo '!*' >build/.gitignore; touch build/o a.log;"
        "head -c 11000000 /dev/zero >own/deep/large"
    )
    patch = await review.box.diff()
    tree = await review.tree()
    names = ("build/.gitignore", "build/o", "a.log", "own/deep/large")
    assert review.applied(patch) == {k: v for k, v in tree.items() if k not in names}
    assert kinds(patch)[".gitignore"] is ChangeKind.MODIFIED
    assert {"hidden.py", "own/x.py", "own/deep/y.py", "link.d/z.py"} < set(kinds(patch))
    assert patch.notes == ("New files over 10 MiB are left out of the patch: own/deep/large.",)


NESTED: Tree = {
    ".gitignore": b"*.log\n",
    "a/.gitignore": b"build/\n",
    "b/.gitignore": b"*.tmp\n",
    "c/.gitignore": b"x\n",
    "c/f": b"1\n",
    "d/.gitignore": b"x\n",
}


async def test_dropped_ignore_rules_still_judge(provider: LocalSandboxes, tmp_path: Path) -> None:
    """The base's rules hold at any depth, where the box deleted, replaced or moved them."""
    async with reviewed(provider, tmp_path, NESTED) as review:
        await review.run(
            "rm .gitignore a/.gitignore; ln -sf f b/.gitignore; rm -r c; echo file >c; rm -r d;"
            "ln -s a d; mkdir a/build; touch a.log a/build/o b/x.tmp; echo new >a/new; echo 1 >b/f;"
            "mkdir -p e/.gitignore; echo 1 >e/.gitignore/f"
        )
        patch = await review.box.diff()
        tree = await review.tree()
        ignored = ("a.log", "a/build/o", "b/x.tmp")
        assert review.applied(patch) == {k: v for k, v in tree.items() if k not in ignored}
        assert patch.notes == ()


@pytest.mark.probe(89)
async def test_nested_repository_shows_its_files(review: Review) -> None:
    """Git directories and git files in the tree hide nothing: what lies beside them is shown."""
    await review.run(
        "mkdir vendor && cd vendor && git init -q . && echo payload >p.py && git add . && "
        "git -c user.name=x -c user.email=x@y commit -qm x && cd .. && "
        "mkdir g && echo 'gitdir: /workspace/.git' >g/.git && echo 1 >g/f && "
        "mkdir up && cp -r .git up/.GIT && echo 1 >up/f && "
        "mkdir -p ro/deep && git init -q ro/deep && echo 1 >ro/deep/f && chmod 555 ro/deep ro"
    )
    patch = await review.box.diff()
    assert set(kinds(patch)) == {"vendor/p.py", "g/f", "up/f", "ro/deep/f"}
    assert b"160000" not in patch.diff
    (note,) = patch.notes
    assert all(name in note for name in ("g/.git", "up/.GIT", "vendor/.git", "ro/deep/.git"))


@pytest.mark.probe(90)
async def test_names_that_git_refuses_spoil_nothing(review: Review) -> None:
    """Names that a clone elsewhere would take for .git are left out, the rest is told."""
    await review.run(
        "mkdir 'git~1' '.git ' && echo 1 >'git~1/x' && echo 1 >'.git /x' && echo 1 >'.git::$I' && "
        "ln -s x .gitmodules && echo good >good"
    )
    patch = await review.box.diff()
    assert set(kinds(patch)) == {"good"}
    assert "git~1" in patch.notes[0]
    assert review.applied(patch)["good"] == b"good\n"


@pytest.mark.parametrize(
    "name",
    [".g\u200cit", "\ufeff.GIT", ".gi\u206at\u200f", ".git\u202a", ".git. . ", "GIT~1 .", ".git:x"],
)
@pytest.mark.probe(90, 98)
async def test_names_that_other_systems_take_for_git_are_named(review: Review, name: str) -> None:
    """What HFS+ or NTFS would read as a git directory is left out, at any depth, and told."""
    await review.run(f"mkdir -p 'd/{name}/hooks'; echo 1 >'d/{name}/hooks/pre-commit'; echo 1 >d/f")
    await review.run("echo 1 >d/.gité; echo 1 >d/.git-x; echo 1 >d/x.git")
    patch = await review.box.diff()
    assert set(kinds(patch)) == {"d/f", "d/.gité", "d/.git-x", "d/x.git"}
    (note,) = patch.notes
    assert note.startswith("Git directories inside the tree are left out of the patch: d/")


@pytest.mark.parametrize("name", [".g\u200citmodules", "gitmod~1", "GI7EBA~1", ".gitmodules. "])
async def test_links_in_the_place_of_gitmodules_are_named(review: Review, name: str) -> None:
    """A link that some system takes for .gitmodules is left out and told; a file is not."""
    await review.run(f"ln -s x '{name}'; mkdir d; echo 1 >'d/{name}'")
    patch = await review.box.diff()
    assert set(kinds(patch)) == {f"d/{name}"}
    assert len(patch.notes) == 1


async def test_special_and_unreadable_files_hold_nothing_up(review: Review) -> None:
    """Pipes, sockets and what may not be read are named in notes; their tracked files stay."""
    await review.run(
        "mkfifo pipe README.fifo; rm README.md; mkfifo README.md;"
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")';"
        "echo s >secret; chmod 000 secret; mkdir closed; echo x >closed/x; chmod 000 closed;"
        "chmod 000 crlf.txt src; echo good >good"
    )
    patch = await review.box.diff()
    assert kinds(patch) == {"README.md": ChangeKind.DELETED, "good": ChangeKind.ADDED}
    special, unreadable = patch.notes
    assert all(name in special for name in ("pipe", "sock", "README.md"))
    assert all(name in unreadable for name in ("secret", "closed", "crlf.txt", "src"))


async def test_closed_workspace_is_opened(review: Review) -> None:
    """A workspace whose own directory forbids reading is compared all the same."""
    await review.run("echo good >good; chmod 000 .")
    assert kinds(await review.box.diff()) == {"good": ChangeKind.ADDED}


async def test_large_new_files_are_left_out(review: Review) -> None:
    """A new file over the limit is named in a note; the rest of the patch is whole."""
    await review.run("head -c 11000000 /dev/urandom >large.bin; echo good >good")
    patch = await review.box.diff()
    assert kinds(patch) == {"good": ChangeKind.ADDED}
    assert patch.notes == ("New files over 10 MiB are left out of the patch: large.bin.",)


async def test_patch_over_the_limit_is_an_error(review: Review) -> None:
    """A patch that grows past the limit is refused as a whole, in bounded memory."""
    await review.run("for i in $(seq 6); do head -c 9900000 /dev/urandom >f$i; done")
    with pytest.raises(PatchError, match="50 MiB"):
        await review.box.diff()


@pytest.mark.probe(89)
async def test_files_in_a_submodule_are_named(provider: LocalSandboxes, tmp_path: Path) -> None:
    """What was put into a submodule's directory cannot be in the patch, and a note says so."""
    files: Tree = {"f": b"1\n", "lib/x": Submodule("1" * 40)}
    async with reviewed(provider, tmp_path, files) as review:
        await review.run("echo hidden >lib/x/hidden.py; echo 2 >>f")
        patch = await review.box.diff()
        assert kinds(patch) == {"f": ChangeKind.MODIFIED}
        assert patch.notes == ("Changes inside submodules are left out of the patch: lib/x.",)


def nested(levels: int) -> str:
    """Return a command that makes directories in each other, and a file in the last."""
    program = f"""
import os
for _ in range({levels}):
    os.mkdir("d")
    os.chdir("d")
open("end", "w").write("x")
"""
    return f"python3 -c '{program}'"


async def test_deep_trees_and_many_files(review: Review) -> None:
    """A thousand files and a tree of hundreds of levels come into the patch."""
    await review.run(f"mkdir many; (cd many && seq 1000 | xargs touch); {nested(300)}")
    patch = await review.box.diff()
    assert len(patch.changes) == 1001
    assert review.applied(patch) == await review.tree()


async def test_paths_that_are_too_long_are_named(review: Review) -> None:
    """A tree that is deeper than any path may be long ends in a note, not in silence."""
    await review.run(f"echo good >good; {nested(2500)}")
    patch = await review.box.diff()
    assert kinds(patch) == {"good": ChangeKind.ADDED}
    (note,) = patch.notes
    assert "too long" in note
    assert len(note) < 500


async def test_diff_leaves_the_workspace_alone(review: Review) -> None:
    """Taking the diff changes nothing in the sandbox, which goes on afterwards."""
    await review.run(
        "git init -q nested; echo 1 >nested/f; mkfifo p; head -c 11000000 /dev/zero >l"
    )
    before = (await review.run("find . | sort")).stdout
    first = await review.box.diff()
    assert (await review.run("find . | sort")).stdout == before
    await review.run("echo 2 >>nested/f")
    assert (await review.box.diff()).diff != first.diff


PARTS = st.text("ab é\n\"'\\\t*.-\udcff", min_size=1, max_size=4).filter(
    lambda part: part not in {".", ".."}
)
NAMES = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
BYTES = st.one_of(
    st.binary(max_size=40),
    st.lists(st.sampled_from([b"a\n", b"b\r\n", b"c\n", b"end"]), max_size=12).map(b"".join),
)
CONTENTS: st.SearchStrategy[Content] = st.one_of(
    BYTES, BYTES.map(Program), st.text("ab./", min_size=1, max_size=6).map(Symlink)
)


def without_conflicts(tree: Mapping[str, Content]) -> Tree:
    """Drop what lies below a name that is itself a file."""
    return {
        name: content
        for name, content in tree.items()
        if not any(name.startswith(f"{other}/") for other in tree)
    }


TREES = st.dictionaries(NAMES, CONTENTS, max_size=6).map(without_conflicts)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(before=TREES, after=TREES)
async def test_patch_turns_one_tree_into_the_other(
    provider: LocalSandboxes,
    tmp_path_factory: pytest.TempPathFactory,
    before: Tree,
    after: Tree,
) -> None:
    """For any two trees, applying the diff of a and b to a gives b."""
    base: Tree = {"always": b"here\n", **before}
    directory = tmp_path_factory.mktemp("property")
    async with reviewed(provider, directory, base) as review:
        await review.replace(after)
        patch = await review.box.diff()
        assert patch.notes == ()
        assert review.applied(patch) == after


@pytest.mark.parametrize("most_layers", [1, 32])
async def test_changes_before_a_snapshot_are_in_the_patch(
    review: Review, monkeypatch: pytest.MonkeyPatch, most_layers: int
) -> None:
    """However many layers lie above the base, joined or not, the patch tells all of them."""
    monkeypatch.setattr(household, "MAX_LAYERS", most_layers)
    await review.run("echo 1 >first; rm README.md; echo edited >>kept.log; chmod -x run.sh")
    await review.box.snapshot()
    await review.run("echo 2 >second; rm -r src; mkdir src; echo 3 >src/third.py; rm first")
    snapshot = await review.box.snapshot()
    await review.run(
        "echo 4 >README.md; assume=--assume-unchanged; git update-index $assume kept.log"
    )
    (child,) = await review.box.fork()
    patch = await review.box.diff()
    assert snapshot.base is not None
    assert review.applied(patch) == await review.tree()
    assert (await child.diff()).diff == patch.diff
    assert {"second", "src/third.py", "README.md", "kept.log", "run.sh"} <= set(kinds(patch))
    assert "first" not in kinds(patch)
    await child.destroy()
