"""What a hostile repository, or a hostile program in the workspace, can make git do: nothing.

Each vector is alive: plain git in the sandbox's workspace falls for it, which the test shows first.
Then the diff is taken, and neither the host nor the clean room ran anything. The vectors are those
that run code on a host which uses git in a workspace.
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from patchkiln.errors import CloneError
from patchkiln.repositories import GitRepositories
from patchkiln.repositories.box import git_config
from patchkiln.sandboxes.local.provider import LocalSandboxes
from tests.support.clones import fetch, git_source, local_sandboxes
from tests.support.git_server import Symlink, git, init
from tests.support.git_server import commit as add_commit
from tests.support.review import Review, Tree, reviewed

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILES: Tree = {"f": b"1\n", "dir/g": b"2\n", "dos.txt": b"a\r\n", "run.sh": b"#!/bin/sh\n"}
# Leaves a mark wherever it runs: on the host, in the workspace, or in the clean room's view of it.
MARK = "PWNED"
IDENTITY = "git config user.name x; git config user.email x@y;"


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


@pytest_asyncio.fixture(loop_scope="module")
async def source(provider: LocalSandboxes, tmp_path: Path) -> GitRepositories:
    """Return a source with an empty cache."""
    return git_source(provider, tmp_path)


@dataclass(frozen=True, slots=True)
class Vector:
    """A trap in the workspace that leaves the mark when ``trigger`` is run by plain git."""

    name: str
    setup: str
    trigger: str


def hook(name: str, directory: str = ".git/hooks") -> str:
    """Return a command that makes a hook."""
    return (
        f"mkdir -p {directory}; printf '#!/bin/sh\\n{{mark}}\\n' >{directory}/{name};"
        f"chmod +x {directory}/{name};"
    )


VECTORS = [
    Vector("fsmonitor", 'git config core.fsmonitor "{mark};false"', "git status"),
    Vector("hook post-index-change", hook("post-index-change"), "git add -A"),
    Vector("hook pre-commit", hook("pre-commit") + IDENTITY, "git commit -qam x"),
    Vector(
        "hooksPath",
        hook("post-index-change", "hk") + "git config core.hooksPath /workspace/hk",
        "git add -A",
    ),
    Vector(
        "clean filter",
        'git config filter.x.clean "{mark}; cat"; echo "* filter=x" >.gitattributes;'
        "rm .git/info/attributes",
        "git add -A",
    ),
    Vector(
        "clean filter of info/attributes",
        'git config filter.x.clean "{mark}; cat"; echo "* filter=x" >.git/info/attributes',
        "git add -A",
    ),
    Vector(
        "process filter",
        'git config filter.x.process "{mark}; false"; echo "* filter=x" >.gitattributes;'
        "rm .git/info/attributes",
        "git add -A",
    ),
    Vector(
        "textconv",
        'git config diff.x.textconv "{mark}; cat"; echo "* diff=x" >.gitattributes;'
        "rm .git/info/attributes",
        "git diff",
    ),
    Vector(
        "diff command",
        'git config diff.x.command "{mark}; true"; echo "* diff=x" >.gitattributes;'
        "rm .git/info/attributes",
        "git diff",
    ),
    Vector("external diff", 'git config diff.external "{mark}; true"', "git diff"),
    Vector(
        "included configuration",
        "git config include.path /workspace/inc;"
        'git config -f /workspace/inc core.fsmonitor "{mark};false"',
        "git status",
    ),
    Vector(
        "user's configuration", 'git config --global core.fsmonitor "{mark};false"', "git status"
    ),
    Vector(
        "git file",
        'cp -r .git evil; git --git-dir=evil config core.fsmonitor "{mark};false";'
        "rm -rf .git; echo 'gitdir: /workspace/evil' >.git",
        "git status",
    ),
    Vector(
        "common directory",
        'cp -r .git evil; git --git-dir=evil config core.fsmonitor "{mark};false";'
        "rm -rf .git/config .git/objects .git/refs; echo /workspace/evil >.git/commondir",
        "git status",
    ),
    Vector(
        "bare repository in the tree",
        "git init -q --bare bare; git --git-dir=bare config core.bare false;"
        "git --git-dir=bare config core.worktree ..;"
        'git --git-dir=bare config core.fsmonitor "{mark};false"',
        "cd bare && git status",
    ),
    Vector(
        "repository in the tree",
        'git init -q sub; cd sub; git config core.fsmonitor "{mark};false"; echo 1 >g;'
        + IDENTITY
        + "git -c core.fsmonitor= add g; git -c core.fsmonitor= commit -qm 1; cd ..;"
        "git add sub; rm -f PWNED sub/PWNED",
        "git status",
    ),
    Vector("hook post-checkout", hook("post-checkout"), "git checkout -q -b other"),
    Vector("hook reference-transaction", hook("reference-transaction"), "git branch other"),
    Vector(
        "hook pre-push", hook("pre-push"), "git init -q --bare ../tmp/o; git push ../tmp/o HEAD"
    ),
    Vector(
        "smudge filter",
        'git config filter.x.smudge "{mark}; cat"; echo "* filter=x" >.gitattributes;'
        "rm .git/info/attributes",
        "rm f; git checkout f",
    ),
    Vector("pager", 'git config core.pager "{mark}; cat"', 'script -qec "git log" /dev/null'),
    Vector(
        "editor", IDENTITY + 'git config core.editor "{mark}; true"', "git commit -qa --allow-empty"
    ),
    Vector(
        "sshCommand",
        'git config core.sshCommand "{mark};false"; git remote add x ssh://host/x',
        "git fetch x",
    ),
    Vector(
        "credential helper",
        'git config credential.helper "!{mark}; true"',
        "printf 'url=https://host/\\n\\n' | GIT_TERMINAL_PROMPT=0 git credential fill",
    ),
    Vector(
        "ext remote",
        "git config protocol.ext.allow always;"
        "printf '#!/bin/sh\\n{mark}\\n' >run.sh; chmod +x run.sh;"
        "git remote add x 'ext::/workspace/run.sh'",
        "git fetch x",
    ),
    Vector(
        "uploadpack",
        'git remote add x /workspace; git config remote.x.uploadpack "{mark};git-upload-pack"',
        "git fetch x",
    ),
    Vector(
        "receivepack",
        'git remote add x /workspace; git config remote.x.receivepack "{mark};git-receive-pack"',
        "git push x HEAD:refs/heads/other",
    ),
    Vector(
        "signing program",
        IDENTITY
        + "printf '#!/bin/sh\\n{mark}\\n' >run.sh; chmod +x run.sh;"
        + "git config gpg.program /workspace/run.sh; git config commit.gpgsign true",
        "git commit -qam x",
    ),
    Vector(
        "merge driver",
        IDENTITY
        + 'git config merge.x.driver "{mark}; true"; echo "f merge=x" >.gitattributes;'
        + "rm .git/info/attributes; git checkout -q -b one; echo one >f; git commit -qam one;"
        + "git checkout -q -b two HEAD~1; echo two >f; git commit -qam two",
        "git checkout -qf two; git merge -q one",
    ),
    Vector(
        "included by condition",
        "git config includeIf.gitdir:/workspace/.path /workspace/inc;"
        'git config -f /workspace/inc core.fsmonitor "{mark};false"',
        "git status",
    ),
    Vector("alias", 'git config alias.st "!{mark}"', "git st"),
    Vector(
        "working tree elsewhere",
        'git config core.worktree /; git config core.fsmonitor "{mark};false"',
        "git status --untracked-files=no",
    ),
    Vector(
        "link in the place of refs",
        "mkdir elsewhere; cp -r .git/refs/heads/. elsewhere; rm -rf .git/refs/heads;"
        "ln -s /workspace/elsewhere .git/refs/heads",
        "git branch PWNED",
    ),
]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
@pytest.mark.probe(
    65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 87
)
async def test_trap_in_the_workspace_runs_nothing(
    review: Review, tmp_path: Path, vector: Vector
) -> None:
    """A trap that plain git falls for runs neither on the host nor in the clean room."""
    mark = f"touch /workspace/{MARK} {tmp_path}/{MARK}"
    await review.run(vector.setup.format(mark=mark) + "\necho evil >>f")
    await review.try_to(vector.trigger)
    assert (await review.run("find /workspace -name PWNED")).stdout, "the vector is not alive"
    await review.run(f"find . -name {MARK} -delete; printf '1\nevil\nmore\n' >f")
    patch = await review.box.diff()
    names = {change.path for change in patch.changes}
    assert "f" in names
    assert not any(MARK in name for name in names)
    assert b"+evil\n+more\n" in patch.diff
    assert not (tmp_path / MARK).exists()
    # The first command after the diff sees the workspace as it was: nothing ran there meanwhile.
    assert not (await review.run("find /workspace -name PWNED")).stdout


@pytest.mark.parametrize(
    "script",
    [
        "echo evil >>f; git update-index --assume-unchanged f",
        "echo evil >>f; git update-index --skip-worktree f",
        "echo evil >>f; git config core.worktree /nowhere",
        "echo evil >>f; echo '*' >.git/info/exclude; git rm -q --cached f",
        "echo evil >>f; git config core.excludesFile ~/x; echo '*' >~/x; git rm -q --cached f",
        f"echo evil >>f; {IDENTITY} git commit -qam hidden",
        f"echo evil >>f; {IDENTITY} git commit -qam x; git replace HEAD~1 HEAD",
        f"echo evil >>f; {IDENTITY} git checkout -q --orphan x; git commit -qam x",
        f"echo evil >>f; {IDENTITY} git commit -qam x; git rev-parse HEAD >.git/info/grafts",
        "echo evil >>f; rm -rf .git",
        "echo evil >>f; rm .git/index; ln -s /dev/zero .git/index",
        "echo evil >>f; rm -rf .git; mkfifo .git",
        "echo evil >>f; git add f; git update-index --index-version 4; echo junk >>.git/index",
        "echo evil >>f; mkdir -p d/.git; echo '*' >d/.gitignore",
        "echo evil >>f; git config core.sparseCheckout true; echo /dir >.git/info/sparse-checkout",
        "echo evil >>f; echo '* binary -diff' >.gitattributes",
        "echo evil >>f; ln -s /etc/passwd .gitignore; ln -s /dev/zero .gitattributes",
    ],
)
@pytest.mark.probe(88, 89)
async def test_nothing_hides_a_change(review: Review, script: str) -> None:
    """No state of the workspace's own git directory, index or attributes keeps a change secret."""
    await review.try_to(script)
    patch = await review.box.diff()
    assert "f" in {change.path for change in patch.changes}
    assert b"\n+evil\n" in patch.diff


# Writes an index that vouches for every file as it is now, with the object that it was.
CRAFT = """
import hashlib, os, struct
data = bytearray(open('.git/index', 'rb').read())
place = 12
for _ in range(struct.unpack('>I', data[8:12])[0]):
    length = struct.unpack('>H', data[place + 60:place + 62])[0] & 0xfff
    name = data[place + 62:place + 62 + length].decode()
    s = os.lstat(name)
    words = (int(s.st_ctime), s.st_ctime_ns % 10**9, int(s.st_mtime), s.st_mtime_ns % 10**9,
             s.st_dev & 0xffffffff, s.st_ino & 0xffffffff)
    data[place:place + 24] = struct.pack('>6I', *words)
    data[place + 36:place + 40] = struct.pack('>I', s.st_size)
    place += (62 + length + 8) & ~7
data[-20:] = hashlib.sha1(data[:-20]).digest()
open('.git/index', 'wb').write(data)
"""


@pytest.mark.probe(85)
async def test_a_crafted_index_hides_nothing(review: Review) -> None:
    """An index that vouches for a changed file deceives git in the workspace, and not the diff."""
    await review.run(
        "echo evil >>f; git add f; git update-index --index-version 2; touch -d 2001-01-01 *"
    )
    await review.run('git reset -q; python3 -c "$(cat)"', stdin=CRAFT.encode())
    assert (await review.run("git status --porcelain")).stdout == b"", "the index is not believed"
    assert b"\n+evil\n" in (await review.box.diff()).diff


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("git config core.fileMode false; chmod +x run.sh", "run.sh"),
        ("git config core.autocrlf true; printf 'a\\n' >dos.txt", "dos.txt"),
        ("echo '* text=auto eol=crlf' >.gitattributes; printf 'a\\n' >dos.txt", "dos.txt"),
        ("git config core.symlinks false; ln -sf f dos.txt", "dos.txt"),
        ("git config core.ignoreCase true; echo 3 >F", "F"),
        ("echo '*.utf working-tree-encoding=UTF-16' >.gitattributes; echo x >a.utf", "a.utf"),
        ("echo '* ident' >.gitattributes; echo '$Id: evil $' >f", "f"),
    ],
)
@pytest.mark.probe(89)
async def test_settings_change_nothing_of_the_truth(review: Review, script: str, name: str) -> None:
    """Modes, line ends, types and bytes are told as they are on disk; the patch makes just them."""
    await review.run(script)
    patch = await review.box.diff()
    assert name in {change.path for change in patch.changes}
    assert review.applied(patch) == await review.tree()


@pytest.mark.probe(86)
async def test_alternates_disclose_nothing(review: Review, tmp_path: Path) -> None:
    """Objects of another repository of the host are not reachable through alternates."""
    other = init(tmp_path / "other.git", bare=True)
    add_commit(other, {"secret": b"for others alone\n"})
    blob = git("rev-parse", "main:secret", cwd=other)
    await review.run(f"echo {other}/objects >.git/objects/info/alternates; echo {blob} >>f")
    asked = await review.try_to(f"git cat-file -p {blob}")
    assert b"others alone" not in asked.stdout
    assert b"others alone" not in (await review.box.diff()).diff


def raw_tree(repository: Path, *entries: tuple[str, str, str]) -> str:
    """Write a tree that git itself would not write; entries are mode, name and object id."""
    body = b"".join(
        f"{mode} {name}".encode() + b"\0" + bytes.fromhex(object_id)
        for mode, name, object_id in entries
    )
    command = ("hash-object", "-t", "tree", "-w", "--literally", "--stdin")
    return git(*command, cwd=repository, stdin=body)


def publish(repository: Path, tree: str) -> None:
    """Commit a tree to the main branch."""
    made = git("commit-tree", "-m", "Hostile", tree, cwd=repository)
    git("update-ref", "refs/heads/main", made, cwd=repository)


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """Return a bare repository with one harmless commit."""
    repository = init(tmp_path / "remote.git", bare=True)
    add_commit(repository, FILES)
    return repository


async def clone(source: GitRepositories, remote: Path) -> Path:
    """Fetch a repository by its path and return the checkout's."""
    url = f"file://{remote}"
    return (await fetch(source, url, prefix=f"file://{remote.parent}")).path


@pytest.mark.parametrize("name", [".git", ".GIT", "git~1", ".g\u200cit", "..", ".", "a/b"])
@pytest.mark.probe(98)
async def test_tree_with_a_dangerous_name_is_refused(
    source: GitRepositories, remote: Path, name: str
) -> None:
    """A tree that would write into a git directory, or out of the checkout, is not checked out."""
    blob = git("hash-object", "-w", "--stdin", cwd=remote, stdin=b"#!/bin/sh\ntouch /tmp/x\n")
    inner = raw_tree(remote, ("100755", "post-checkout", blob))
    publish(remote, raw_tree(remote, ("40000", name, inner)))
    with pytest.raises(CloneError, match="damaged or dangerous"):
        await clone(source, remote)


@pytest.mark.parametrize("name", [".g\u200cit", "git~1", ".git. "])
async def test_fetch_box_writes_no_git_directory_of_any_system(remote: Path, name: str) -> None:
    """Were such a name to come in unseen, git as the fetch box has it would not check it out."""
    (remote / "box").write_text(git_config(scheme="file", stall_s=1))
    blob = git("hash-object", "-w", "--stdin", cwd=remote, stdin=b"x")
    tree = raw_tree(remote, ("40000", name, raw_tree(remote, ("100644", "config", blob))))
    done = await asyncio.to_thread(
        subprocess.run,
        ["git", "--git-dir", ".", "read-tree", tree],
        cwd=remote,
        env={**os.environ, "GIT_CONFIG_GLOBAL": str(remote / "box")},
        capture_output=True,
        check=False,
    )
    assert b"invalid path" in done.stderr


async def test_links_out_of_the_tree_are_only_links(
    source: GitRepositories, remote: Path, tmp_path: Path
) -> None:
    """A link that leaves the tree is checked out as a link, and nothing is written through it."""
    add_commit(
        remote,
        {"out": Symlink(str(tmp_path / "target")), "up": Symlink("../../../.."), "z": b"1\n"},
    )
    (tmp_path / "target").mkdir()
    path = await clone(source, remote)
    assert (path / "out").is_symlink()
    assert list((tmp_path / "target").iterdir()) == []


async def test_tree_through_its_own_link_is_refused(
    source: GitRepositories, remote: Path, tmp_path: Path
) -> None:
    """A tree that holds a name as link and as directory writes nothing through the link."""
    (tmp_path / "target").mkdir()
    target = str(tmp_path / "target").encode()
    link = git("hash-object", "-w", "--stdin", cwd=remote, stdin=target)
    blob = git("hash-object", "-w", "--stdin", cwd=remote, stdin=b"x")
    inner = raw_tree(remote, ("100644", MARK, blob))
    publish(remote, raw_tree(remote, ("120000", "a", link), ("40000", "a", inner)))
    with pytest.raises(CloneError):
        await clone(source, remote)
    assert list((tmp_path / "target").iterdir()) == []


@pytest.mark.parametrize(
    "url", ["--upload-pack=touch {mark}", "ext::sh -c touch% {mark}", "file://{mark}", "../up"]
)
@pytest.mark.probe(93)
async def test_submodules_run_nothing(
    source: GitRepositories, remote: Path, tmp_path: Path, url: str
) -> None:
    """A submodule's URL is never used, whatever it says."""
    mark = tmp_path / MARK
    config = (
        f'[submodule "s"]\n\tpath = s\n\turl = {url.format(mark=mark)}\n\tupdate = !touch {mark}\n'
    )
    add_commit(remote, {".gitmodules": config.encode()})
    try:
        await clone(source, remote)
    except CloneError as error:
        assert "damaged or dangerous" in error.message  # noqa: PT017 - refusing is fine as well
    assert not mark.exists()


@pytest.mark.parametrize(
    "setting",
    [
        "uploadpack.packObjectsHook",
        "core.fsmonitor",
        "core.alternateRefsCommand",
        "core.gitProxy",
        "core.sshCommand",
        "core.pager",
        "credential.helper",
    ],
)
@pytest.mark.probe(76, 97)
async def test_settings_of_the_remote_run_nothing(
    source: GitRepositories, remote: Path, tmp_path: Path, setting: str
) -> None:
    """The configuration and hooks of a repository on the server's disk run no command."""
    mark = tmp_path / MARK
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\ntouch {mark} /cache/{MARK} /remote/{MARK}\nexec "$@"\n')
    program.chmod(0o755)
    git("config", setting, str(program), cwd=remote)
    (remote / "hooks").mkdir(exist_ok=True)
    for name in ("post-checkout", "reference-transaction", "post-index-change", "pre-receive"):
        (remote / "hooks" / name).write_bytes(program.read_bytes())
        (remote / "hooks" / name).chmod(0o755)
    await clone(source, remote)
    assert not found_below(tmp_path, MARK)


def found_below(directory: Path, name: str) -> list[Path]:
    """Return the files of a name, wherever they are."""
    return list(directory.rglob(name))


@pytest.mark.probe(86)
async def test_alternates_of_the_remote_disclose_nothing(
    source: GitRepositories, remote: Path, tmp_path: Path
) -> None:
    """A repository whose alternates name another one of the host does not bring that one in."""
    other = init(tmp_path / "other.git", bare=True)
    add_commit(other, {"secret": b"for others alone\n"})
    secret = git("rev-parse", "main^{tree}", cwd=other)
    (remote / "objects" / "info").mkdir(exist_ok=True)
    (remote / "objects" / "info" / "alternates").write_text(f"{other}/objects\n")
    publish(remote, secret)
    with pytest.raises(CloneError):
        await clone(source, remote)


@pytest.mark.probe(92)
async def test_hostile_branch_name_stays_a_name(
    source: GitRepositories, remote: Path, tmp_path: Path
) -> None:
    """A default branch that is named like an option is not one, and not the checkout's branch."""
    name = f"--upload-pack=touch${{IFS}}{tmp_path}/{MARK}"
    git("update-ref", f"refs/heads/{name}", "main", cwd=remote)
    git("symbolic-ref", "HEAD", f"refs/heads/{name}", cwd=remote)
    path = await clone(source, remote)
    assert (path / ".git" / "HEAD").read_text() == "ref: refs/heads/main\n"
    assert not (tmp_path / MARK).exists()


@pytest.mark.probe(94)
async def test_hosts_own_configuration_is_not_used(
    provider: LocalSandboxes, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git settings of the server's user, an LFS filter say, take no part in a clone."""
    (tmp_path / ".gitconfig").write_text(
        f'[filter "lfs"]\n\tsmudge = touch {tmp_path}/{MARK}\n\trequired = true\n'
        f'[url "file:///nowhere"]\n\tinsteadOf = file://\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / ".gitconfig"))
    add_commit(remote, {".gitattributes": b"* filter=lfs\n", "big": b"pointer\n"})
    path = await clone(git_source(provider, tmp_path), remote)
    assert (path / "big").read_bytes() == b"pointer\n"
    assert not (tmp_path / MARK).exists()
