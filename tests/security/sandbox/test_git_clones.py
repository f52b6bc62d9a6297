"""Git on the host's side of a run: what is asked for, what comes, and a clone that a user named.

Each trap on a user's own clone is one that plain git falls for, which the test shows first.
"""

import os
import subprocess
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from patchkiln.cli.local_clone import find_clone
from patchkiln.domain.repository import check_ref, parse_repository_url
from patchkiln.errors import CloneError, InvalidRequest, PatchError
from patchkiln.sandboxes.local.provider import LocalSandboxes
from tests.security.sandbox.test_git_vectors import MARK, found_below, publish, raw_tree
from tests.support.clones import fetch, git_source, local_sandboxes
from tests.support.git_server import Symlink, git, init
from tests.support.git_server import commit as add_commit
from tests.support.review import Tree, reviewed

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILES: Tree = {"f": b"1\n", "dir/g": b"2\n"}
PATCH = b"diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-1\n+2\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[LocalSandboxes]:
    """Lend one provider to all tests, because it examines the machine first."""
    async with local_sandboxes(tmp_path_factory.mktemp("data")) as provider:
        yield provider


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """Return a bare repository with one harmless commit."""
    repository = init(tmp_path / "remote.git", bare=True)
    add_commit(repository, FILES)
    return repository


async def clone(provider: LocalSandboxes, remote: Path) -> Path:
    """Fetch a repository by its path and return the checkout's."""
    source = git_source(provider, remote.parent)
    return (await fetch(source, f"file://{remote}", prefix=f"file://{remote.parent}")).path


@dataclass(frozen=True, slots=True)
class Trap:
    """What an unpacked clone may hold, and the command of plain git that falls for it."""

    name: str
    setup: str
    trigger: str = "git status"


def filtered(kind: str, *, repository: str = ".") -> str:
    """Return a command that sets a filter for all files of a repository."""
    program = "{mark}; cat" if kind != "process" else "{mark}; false"
    return (
        f"git -C {repository} config filter.x.{kind} '{program}';"
        f"mkdir -p $(git -C {repository} rev-parse --absolute-git-dir)/info;"
        f"echo '* filter=x' >$(git -C {repository} rev-parse --absolute-git-dir)/info/attributes;"
    )


HOOKS = (
    "mkdir -p .git/hooks; for name in post-index-change pre-applypatch post-applypatch"
    " post-checkout; do printf '#!/bin/sh\n{mark}\n' >.git/hooks/$name;"
    " chmod +x .git/hooks/$name; done"
)
SUBMODULE = (
    "git init -q sub; echo 1 >sub/g; git -C sub add g; git -C sub commit -qm 1; git add sub;"
)
TRAPS = [
    Trap("fsmonitor", "git config core.fsmonitor '{mark};false'"),
    Trap("hooks", HOOKS, "git add -A"),
    Trap("hooksPath", HOOKS + ";mv .git/hooks hk; git config core.hooksPath hk", "git add -A"),
    Trap("clean filter", filtered("clean") + "touch -d 2001-01-01 f"),
    Trap(
        "filter with an equals sign",
        filtered("clean").replace("filter.x.", "filter.x=y.").replace("filter=x", "filter=x=y")
        + "touch -d 2001-01-01 f",
    ),
    Trap("process filter", filtered("process") + "touch -d 2001-01-01 f"),
    Trap("smudge filter", filtered("smudge"), "rm f; git checkout f"),
    Trap(
        "included filter",
        filtered("clean")
        + "mv .git/config inc; printf '[include]\\n\\tpath = ../inc\\n' >.git/config;"
        + "touch -d 2001-01-01 f",
    ),
    Trap("external diff", "git config diff.external '{mark}; true'; echo 2 >f", "git diff"),
    Trap(
        "textconv",
        "git config diff.x.textconv '{mark}; cat';echo '* diff=x' >.git/info/attributes; echo 2 >f",
        "git diff",
    ),
    Trap("alias", "git config alias.st '!{mark}'", "git st"),
    Trap(
        "git file",
        "mv .git real; git --git-dir real config core.fsmonitor '{mark};false';"
        "echo 'gitdir: real' >.git",
    ),
    Trap(
        "common directory",
        "cp -r .git evil; git --git-dir=evil config core.fsmonitor '{mark};false';"
        "rm -rf .git/config .git/objects .git/refs; echo $PWD/evil >.git/commondir",
    ),
    Trap("fsmonitor of a submodule", SUBMODULE + "git -C sub config core.fsmonitor '{mark};false'"),
    Trap(
        "filter of a submodule",
        SUBMODULE + filtered("clean", repository="sub") + "touch -d 2001-01-01 sub/g",
    ),
]


def host(script: str, place: Path) -> None:
    """Run plain git as a careless user of the host would."""
    env = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{
            f"GIT_{who}_{what}": "x"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }
    subprocess.run(
        ["sh", "-c", script], cwd=place, env=env, capture_output=True, check=False, timeout=60
    )


@pytest.mark.probe(65, 68, 69, 70, 71, 72, 73, 74, 80, 81, 82, 83)
@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
async def test_a_user_s_own_clone_runs_nothing(remote: Path, tmp_path: Path, trap: Trap) -> None:
    """Looking at a clone, and applying a patch to it, starts nothing that the clone names."""
    marks = tmp_path / "marks"
    marks.mkdir()
    for place in ("tried", "named"):
        git("clone", "--quiet", str(remote), str(tmp_path / place), cwd=tmp_path)
        host(trap.setup.format(mark=f"touch {marks}/{place}"), tmp_path / place)
    for left in marks.iterdir():
        left.unlink()
    host(trap.trigger, tmp_path / "tried")
    assert [path.name for path in marks.iterdir()] == ["tried"], "the trap is not alive"
    try:
        found = find_clone(str(tmp_path / "named"))
        found.uncommitted()
        found.apply(PATCH)
    except (InvalidRequest, PatchError):
        pass
    assert [path.name for path in marks.iterdir()] == ["tried"]


def patch_of(name: str, *, old: str = "/dev/null") -> bytes:
    """Return a patch that makes a file of any name."""
    return (
        f"diff --git a/{name} b/{name}\nnew file mode 100755\n--- {old}\n+++ b/{name}\n"
        "@@ -0,0 +1 @@\n+evil\n"
    ).encode()


OUTSIDE = [
    "../evil",
    "dir/../../evil",
    "/tmp/evil",
    ".git/hooks/post-checkout",
    ".git/config",
    ".GIT/hooks/post-checkout",
    "dir/.git/config",
    "link/evil",
    "inside/hooks/post-checkout",
    ".git",
]
# Only other systems take these for a git directory; the product's own patch leaves them out.
DISGUISED = [
    "git~1/hooks/post-checkout",
    ".g\u200cit/config",
    ".git /config",
    ".git::$INDEX_ALLOCATION/x",
]


@pytest.mark.probe(90)
@pytest.mark.parametrize("name", [*OUTSIDE, *DISGUISED])
async def test_a_patch_writes_nowhere_else(remote: Path, tmp_path: Path, name: str) -> None:
    """A patch whose names climb, are absolute, pass a link or enter a git directory is refused."""
    (tmp_path / "outside").mkdir()
    add_commit(remote, {"link": Symlink("../outside"), "inside": Symlink(".git")})
    git("clone", "--quiet", str(remote), str(tmp_path / "clone"), cwd=tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(PatchError):
        find_clone(str(tmp_path / "clone")).apply(patch_of(name))
    assert snapshot(tmp_path) == before


def snapshot(directory: Path) -> dict[Path, bytes]:
    """Return all files below a directory, but for what git notes of its own looking."""
    return {
        path: path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name != "index"
    }


FORBIDDEN_URLS = [
    "ext::sh -c id",
    "ext::sh",
    "file:///etc",
    "ssh://-oProxyCommand=id/x",
    "git@host:x/y",
    "--upload-pack=id",
    "-u",
    "https://user:password@example.com/x",
    "https://token@example.com/x",
    "https://example.com/x\r\nHost: y",
    "https://example.com/x\n",
    "https://127.0.0.1/x",
    "https://[::1]/x",
    "https://0x7f000001/x",
    "https://2130706433/x",
    "https://localhost/x",
    "http://example.com/x",
    "git://example.com/x",
    "https://example.com:22/x",
    "https://example.com/x?upload-pack",
    "https://-example.com/x",
]


@pytest.mark.probe(91)
@pytest.mark.parametrize("url", FORBIDDEN_URLS)
async def test_a_url_that_is_more_than_one_is_refused(url: str) -> None:
    """Nothing is asked for what runs, climbs, names an address or holds a secret."""
    with pytest.raises(InvalidRequest):
        parse_repository_url(url)


@pytest.mark.probe(92)
@pytest.mark.parametrize(
    "ref",
    ["--upload-pack=id", "-", "@{}", "a@{1}", "a..b", "a b", "a\n", "a~1", "a^", ":a", "../a", ""],
)
async def test_a_ref_that_is_more_than_one_is_refused(ref: str) -> None:
    """No name of a branch is an option, an expression or a path."""
    with pytest.raises(InvalidRequest):
        check_ref(ref)


MODULES = [
    '[submodule "../../hooks"]\n\tpath = s\n\turl = ./x\n',
    '[submodule "s"]\n\tpath = .git/modules/x\n\turl = ./x\n',
    '[submodule "s"]\n\tpath = "s\r"\n\turl = ./x\n',
    '[submodule "s"]\n\tpath = -u\n\turl = ./x\n',
    '[submodule "s"]\n\tpath = s\n\turl = -u./x\n',
]


@pytest.mark.probe(93)
@pytest.mark.parametrize("modules", MODULES)
async def test_tricks_with_submodules_write_nothing(
    provider: LocalSandboxes, remote: Path, tmp_path: Path, modules: str
) -> None:
    """Names and paths of submodules that climb, hide an option or end in CR make no directory."""
    inner = init(tmp_path / "x", bare=True)
    add_commit(inner, {"post-checkout": f"#!/bin/sh\ntouch {tmp_path}/{MARK}\n".encode()})
    blob = git("hash-object", "-w", "--stdin", cwd=remote, stdin=modules.encode())
    link = git("hash-object", "-w", "--stdin", cwd=remote, stdin=b".git/modules/s/hooks")
    entries = (("100644", ".gitmodules", blob), ("120000", "S", link), ("160000", "s", "1" * 40))
    publish(remote, raw_tree(remote, *entries))
    try:
        path = await clone(provider, remote)
    except CloneError as error:
        assert "damaged or dangerous" in error.message  # noqa: PT017 - refusing is fine as well
    else:
        assert not (path / ".git" / "modules").exists()
        assert list((path / "s").iterdir()) == []
    assert not found_below(tmp_path, MARK)


@pytest.mark.probe(94, 97)
async def test_a_checkout_obeys_no_file_of_the_repository(
    provider: LocalSandboxes, remote: Path, tmp_path: Path
) -> None:
    """Attributes, LFS pointers and settings in the tree are bytes like any others."""
    pointer = (
        b"version https://git-lfs.github.com/spec/v1\n"
        b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 1\n"
    )
    files: Tree = {
        ".gitattributes": b"* filter=lfs diff=lfs merge=x text eol=crlf ident\nsub/** filter=x\n",
        ".gitconfig": f"[core]\n\tfsmonitor = touch {tmp_path}/{MARK}\n".encode(),
        ".lfsconfig": b"[lfs]\n\turl = http://127.0.0.1:9/\n",
        "config": b"[include]\n\tpath = .gitconfig\n",
        "large": pointer,
        "id": b"$Id$\n",
    }
    add_commit(remote, files)
    path = await clone(provider, remote)
    assert {name: (path / name).read_bytes() for name in files} == files
    assert not found_below(tmp_path, MARK)


@pytest.mark.probe(95)
async def test_references_without_end_cost_little(provider: LocalSandboxes, remote: Path) -> None:
    """Of a remote with a hundred thousand branches one is asked for, and one is kept."""
    commit = git("rev-parse", "main", cwd=remote)
    lines = [f"{commit} refs/heads/b{number}\n" for number in range(100_000)]
    head = "# pack-refs with: peeled fully-peeled sorted \n"
    (remote / "packed-refs").write_text(head + "".join(sorted(lines)))
    path = await clone(provider, remote)
    assert len(list((path / ".git" / "refs" / "heads").iterdir())) == 1
    assert not (path / ".git" / "packed-refs").exists()


@pytest.mark.probe(95)
async def test_a_blob_that_unpacks_without_end_is_refused(
    provider: LocalSandboxes, remote: Path
) -> None:
    """A small pack whose one file would fill the disk is counted before anything is written."""
    bomb = git("hash-object", "-w", "--stdin", cwd=remote, stdin=bytes(20 << 20))
    names = [("100644", f"bomb{number}", bomb) for number in range(1000)]
    publish(remote, raw_tree(remote, *names))
    source = git_source(provider, remote.parent)
    with pytest.raises(CloneError):
        await fetch(source, f"file://{remote}", prefix=f"file://{remote.parent}")
    assert not found_below(remote.parent, "bomb0")


@pytest.mark.probe(96)
async def test_nothing_of_the_host_is_in_a_workspace_s_git(
    provider: LocalSandboxes, tmp_path: Path
) -> None:
    """No URL, credential or place of the remote stands in settings, logs or environment."""
    async with reviewed(provider, tmp_path, FILES) as review:
        said = await review.run(
            "git config --list --show-origin; cat .git/config; git reflog; git remote -v; env;"
            "find .git -type f ! -name '*.pack' ! -name '*.idx' -exec cat {} +;"
            "cat /proc/[0-9]*/cmdline /proc/self/mountinfo"
        )
        text = said.stdout.decode(errors="replace")
        for word in (str(tmp_path), "remote.origin", "extraheader", "credential", "://"):
            assert word not in text.lower()
