"""What every `RepositorySource` promises, over HTTP and over a local path, on real git.

The adapter is `GitRepositories` on local sandboxes; the remotes are real repositories.
"""

import asyncio
import os
import subprocess
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_asyncio

from patchkiln.domain.repository import Checkout, RepositoryUrl
from patchkiln.errors import (
    CloneError,
    CloneTimeout,
    RefNotFound,
    RemoteUnreachable,
    RepositoryEmpty,
    RepositoryNotFound,
    RepositoryPrivate,
    RepositoryTooLarge,
)
from patchkiln.ports.sandbox import Sandbox, SandboxSpec
from patchkiln.repositories import GitRepositories
from patchkiln.repositories.reachability import explained
from patchkiln.sandboxes.local.provider import LocalSandboxes
from tests.support.clones import fetch, fetch_all, git_source, local_sandboxes
from tests.support.git_server import Answer, Content, GitServer, Program, Symlink, git
from tests.support.git_server import commit as add_commit

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILES: dict[str, Content] = {
    "README.md": b"hello\n",
    "src/app.py": b"print('hi')\n",
    "crlf.txt": b"one\r\ntwo\r\n",
    "no-newline": b"end",
    "binary": bytes(range(256)),
    "run.sh": Program(b"#!/bin/sh\n"),
    "link": Symlink("src/app.py"),
}


@pytest.fixture
def server(tmp_path: Path) -> Generator[GitServer]:
    """Serve repositories."""
    with GitServer(tmp_path / "served") as server:
        yield server


@pytest.fixture(params=["http", "file"])
def address(request: pytest.FixtureRequest, server: GitServer) -> Callable[[str], str]:
    """Return how a repository of the server is addressed: over HTTP, or by its path."""
    if request.param == "http":
        return server.url
    return lambda name: f"file://{server.path(name)}"


@pytest.fixture
def prefix(address: Callable[[str], str]) -> str:
    """Return the prefix that the policy has to allow."""
    return address("").removesuffix(".git")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[LocalSandboxes]:
    """Lend one provider to all tests, because it examines the machine first."""
    async with local_sandboxes(tmp_path_factory.mktemp("data")) as provider:
        yield provider


@pytest.fixture
def source(provider: LocalSandboxes, tmp_path: Path) -> GitRepositories:
    """Return a source with an empty cache."""
    return git_source(provider, tmp_path)


def in_checkout(checkout: Checkout, *arguments: str) -> str:
    """Ask git about a checkout; the test trusts it, because it made the remote itself."""
    command = ["git", "-c", "safe.directory=*", *arguments]
    done = subprocess.run(command, cwd=checkout.path, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def cached(directory: Path) -> list[Path]:
    """Return everything in the cache below a directory."""
    return list((directory / "repositories").rglob("*"))


async def test_checkout_holds_the_blobs_own_bytes(
    server: GitServer, source: GitRepositories, address: Callable[[str], str], prefix: str
) -> None:
    """Every file has the bytes and the mode of the commit, links are links, HEAD is the branch."""
    commit = server.add("p", FILES, branch="trunk")
    checkout = await fetch(source, address("p"), prefix=prefix)
    assert (checkout.repository, checkout.commit, checkout.branch) == ("p", commit, "trunk")
    assert (checkout.path / "crlf.txt").read_bytes() == b"one\r\ntwo\r\n"
    assert (checkout.path / "binary").read_bytes() == bytes(range(256))
    assert (checkout.path / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (checkout.path / "README.md").stat().st_mode & 0o777 == 0o644
    assert (checkout.path / "link").readlink() == Path("src/app.py")
    assert checkout.file_count == len(FILES)
    assert checkout.size_bytes == 6 + 12 + 10 + 3 + 256 + 10 + 10
    assert not checkout.cached


async def test_checkout_is_self_contained(
    server: GitServer, source: GitRepositories, address: Callable[[str], str], prefix: str
) -> None:
    """The checkout's git directory has its objects, no remote, and a clean status."""
    server.add("p", FILES)
    checkout = await fetch(source, address("p"), prefix=prefix)
    assert in_checkout(checkout, "status", "--porcelain") == ""
    assert in_checkout(checkout, "remote") == ""
    assert in_checkout(checkout, "symbolic-ref", "HEAD") == "refs/heads/main"
    assert in_checkout(checkout, "fsck", "--full") == ""
    assert not (checkout.path / ".git" / "objects" / "info" / "alternates").exists()
    everything = (path for path in (checkout.path / ".git").rglob("*") if path.is_file())
    assert not any(str(server.port).encode() in path.read_bytes() for path in everything)


async def test_attributes_of_the_repository_change_no_byte(
    server: GitServer, source: GitRepositories, address: Callable[[str], str], prefix: str
) -> None:
    """Line ends, encodings, $Id$ and LFS pointers stay as committed, attributes or not."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
    files = {
        ".gitattributes": b"* text=auto eol=crlf ident\n*.bin filter=lfs diff=lfs merge=lfs -text\n"
        b"*.u16 working-tree-encoding=UTF-16\n",
        "a.txt": b"$Id$\nunix\n",
        "b.txt": b"dos\r\n",
        "c.u16": b"text\n",
        "big.bin": pointer,
    }
    server.add("p", files)
    checkout = await fetch(source, address("p"), prefix=prefix)
    assert {name: (checkout.path / name).read_bytes() for name in files} == files
    assert any("LFS" in note for note in checkout.notes)
    assert in_checkout(checkout, "status", "--porcelain") == ""


async def test_second_fetch_transfers_nothing(
    server: GitServer, source: GitRepositories, address: Callable[[str], str], prefix: str
) -> None:
    """While the remote has nothing new, the checkout comes from the cache and no pack is sent."""
    server.add("p", FILES)
    first = await fetch(source, address("p"), prefix=prefix)
    server.requests.clear()
    second = await fetch(source, address("p"), prefix=prefix)
    assert second.cached
    assert (second.commit, second.path) == (first.commit, first.path)
    assert len(server.requests) in {0, 2}  # by path, or one question over HTTP


async def test_url_with_and_without_suffix_share_the_cache(
    server: GitServer, source: GitRepositories
) -> None:
    """The spellings of one URL lead to one checkout."""
    server.add("p", FILES)
    first = await fetch(source, server.url("p"), prefix=server.prefix)
    second = await fetch(source, server.url("p", suffix=""), prefix=server.prefix)
    assert second.cached
    assert second.path == first.path


async def test_new_commit_is_fetched(
    server: GitServer, source: GitRepositories, address: Callable[[str], str], prefix: str
) -> None:
    """A moved branch gives the new commit in a checkout of its own; the old one stays as it was."""
    server.add("p", FILES)
    old = await fetch(source, address("p"), prefix=prefix)
    commit = server.commit("p", {"README.md": b"new\n", "src/app.py": None})
    new = await fetch(source, address("p"), prefix=prefix)
    assert (new.commit, new.cached) == (commit, False)
    assert (new.path / "README.md").read_bytes() == b"new\n"
    assert not (new.path / "src").exists()
    assert (old.path / "README.md").read_bytes() == b"hello\n"
    assert in_checkout(new, "status", "--porcelain") == ""


@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_depth_bounds_the_history(
    server: GitServer,
    source: GitRepositories,
    address: Callable[[str], str],
    prefix: str,
    depth: int,
) -> None:
    """A depth of N brings N commits, 0 the whole history."""
    server.add("p", FILES)
    for number in range(3):
        server.commit("p", {"n": b"%d" % number})
    checkout = await fetch(source, address("p"), prefix=prefix, depth=depth)
    assert in_checkout(checkout, "rev-list", "--count", "HEAD") == str(depth or 4)


async def test_whole_history_after_a_shallow_one(
    server: GitServer, source: GitRepositories, address: Callable[[str], str], prefix: str
) -> None:
    """A shallow cache is completed when the whole history is asked for, and stays complete."""
    server.add("p", FILES)
    server.commit("p", {"n": b"1"})
    shallow = await fetch(source, address("p"), prefix=prefix, depth=1)
    whole = await fetch(source, address("p"), prefix=prefix, depth=0)
    assert in_checkout(whole, "rev-list", "--count", "HEAD") == "2"
    assert in_checkout(shallow, "rev-list", "--count", "HEAD") == "1"
    server.commit("p", {"n": b"2"})
    await fetch(source, address("p"), prefix=prefix, depth=1)
    again = await fetch(source, address("p"), prefix=prefix, depth=0)
    assert in_checkout(again, "rev-list", "--count", "HEAD") == "3"


async def test_refs_of_every_kind(
    server: GitServer, source: GitRepositories, address: Callable[[str], str], prefix: str
) -> None:
    """A branch, a plain tag, an annotated tag, a full ref name and a commit id are all found."""
    first = server.add("p", FILES)
    other = server.commit("p", {"n": b"1"}, branch="feature/x")
    repository = server.path("p")
    git("tag", "plain", first, cwd=repository)
    git("tag", "-a", "-m", "v1", "v1", other, cwd=repository)
    git("update-ref", "refs/pull/7/head", other, cwd=repository)
    refs = {
        "feature/x": (other, "feature/x"),
        "plain": (first, "plain"),
        "v1": (other, "v1"),
        "refs/pull/7/head": (other, "pull/7/head"),
        first: (first, "main"),
    }
    for ref, (commit, branch) in refs.items():
        checkout = await fetch(source, address("p"), prefix=prefix, ref=ref)
        assert checkout.commit == commit
        if not checkout.cached:
            assert checkout.branch == branch


async def test_known_commit_needs_no_remote(server: GitServer, source: GitRepositories) -> None:
    """A commit by its id that is in the cache is had without any contact."""
    commit = server.add("p", FILES)
    await fetch(source, server.url("p"), prefix=server.prefix)
    server.requests.clear()
    told, checkout = await fetch_all(source, server.url("p"), prefix=server.prefix, ref=commit)
    assert checkout.cached
    assert (told, server.requests) == ([], [])


async def test_progress_is_told(
    server: GitServer, source: GitRepositories, address: Callable[[str], str], prefix: str
) -> None:
    """A fetch tells that it asks, that it receives and that it checks out, in a few lines."""
    server.add("p", FILES)
    told, _ = await fetch_all(source, address("p"), prefix=prefix)
    phases = [str(item.data["phase"]) for item in told]
    assert phases[0] == "resolving"
    assert "receiving objects" in phases
    assert phases[-1] == "checking out"
    assert len(told) < 12
    assert all(item.message for item in told)


@pytest.mark.parametrize("ref", ["no-such-branch", "0" * 40])
async def test_unknown_ref(
    server: GitServer,
    source: GitRepositories,
    address: Callable[[str], str],
    prefix: str,
    ref: str,
) -> None:
    """A branch, tag or commit that does not exist is told by its name."""
    server.add("p", FILES)
    with pytest.raises(RefNotFound, match=ref) as caught:
        await fetch(source, address("p"), prefix=prefix, ref=ref)
    assert not caught.value.retryable


async def test_tag_of_no_commit_is_unknown(
    server: GitServer, source: GitRepositories, address: Callable[[str], str], prefix: str
) -> None:
    """A tag that names a file instead of a commit cannot be worked on."""
    server.add("p", FILES)
    blob = git("rev-parse", "main:README.md", cwd=server.path("p"))
    git("tag", "blob", blob, cwd=server.path("p"))
    with pytest.raises(RefNotFound, match="blob"):
        await fetch(source, address("p"), prefix=prefix, ref="blob")


async def test_empty_repository(
    server: GitServer, source: GitRepositories, address: Callable[[str], str], prefix: str
) -> None:
    """A repository without a commit is told as such, with what to do."""
    server.add("p", {})
    with pytest.raises(RepositoryEmpty) as caught:
        await fetch(source, address("p"), prefix=prefix)
    assert "commit" in caught.value.remedy


async def test_head_that_leads_nowhere(
    server: GitServer, source: GitRepositories, address: Callable[[str], str], prefix: str
) -> None:
    """A repository with commits, but not on its default branch, asks for a ref."""
    server.add("p", FILES, branch="main")
    git("symbolic-ref", "HEAD", "refs/heads/gone", cwd=server.path("p"))
    with pytest.raises(RefNotFound, match="HEAD") as caught:
        await fetch(source, address("p"), prefix=prefix)
    assert "'ref'" in caught.value.remedy
    checkout = await fetch(source, address("p"), prefix=prefix, ref="main")
    assert checkout.branch == "main"


async def test_missing_repository(
    server: GitServer, source: GitRepositories, address: Callable[[str], str], prefix: str
) -> None:
    """A repository that is not there is told as not found, without a path of the host."""
    with pytest.raises(RepositoryNotFound) as caught:
        await fetch(source, address("nothing"), prefix=prefix)
    assert str(server.root) not in caught.value.message + caught.value.stderr_tail


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (Answer.UNAUTHORIZED, RepositoryPrivate, "private or does not exist"),
        (Answer.NOT_FOUND, RepositoryNotFound, "no git repository"),
        (Answer.REDIRECT, CloneError, "redirects"),
        (Answer.SERVER_ERROR, RemoteUnreachable, "cannot serve it now"),
        (Answer.HANG_UP, RemoteUnreachable, "could not be reached"),
    ],
)
async def test_hosts_refusals(
    server: GitServer, source: GitRepositories, answer: Answer, kind: type[CloneError], says: str
) -> None:
    """Each way of a host to refuse has its own error, with git's exit code and last words."""
    server.add("elsewhere", FILES)
    server.answer("p", answer, location=server.url("elsewhere"))
    with pytest.raises(kind, match=says) as caught:
        await fetch(source, server.url("p"), prefix=server.prefix)
    assert type(caught.value) is kind
    assert caught.value.exit_code == 128
    assert caught.value.stderr_tail
    assert not any("elsewhere" in request for request in server.requests)


async def test_host_that_is_gone(server: GitServer, source: GitRepositories) -> None:
    """A port where nobody listens is unreachable, which may pass."""
    url, prefix = server.url("p"), server.prefix
    server.__exit__(None, None, None)
    with pytest.raises(RemoteUnreachable) as caught:
        await fetch(source, url, prefix=prefix)
    assert caught.value.retryable


async def test_name_that_does_not_resolve(source: GitRepositories) -> None:
    """A host name that nobody knows is told as such."""
    with pytest.raises(RemoteUnreachable, match="does not resolve"):
        await fetch(source, "http://no-such-host.invalid/p", prefix="http://no-such-host.invalid/")


@pytest.mark.asyncio(loop_scope="function")
async def test_looking_up_a_name_waits_for_no_other_work() -> None:
    """While every thread for other work is busy, a host's failure is explained all the same."""
    done = threading.Event()
    busy = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(busy)
    busy.submit(done.wait)
    url = RepositoryUrl(
        url="http://127.0.0.1/p", scheme="http", host="127.0.0.1", port=80, path="/p", trusted=False
    )
    try:
        async with asyncio.timeout(5):
            error = await explained(RemoteUnreachable("The host could not be reached."), url)
    finally:
        done.set()
    assert "loopback address" in error.message


async def test_name_of_a_private_address(server: GitServer, source: GitRepositories) -> None:
    """A name that leads to an address of the machine is not followed, and the rule is told."""
    url = RepositoryUrl(
        url=f"http://localhost:{server.port}/p.git",
        scheme="http",
        host="localhost",
        port=server.port,
        path="/p.git",
        trusted=False,
    )
    server.add("p", FILES)
    with pytest.raises(RemoteUnreachable, match="loopback address, which is forbidden"):
        async for _ in source.fetch(url, ref=None, depth=1):
            pass
    assert server.requests == []


@pytest.mark.timeout(20)  # far above what the limits under test allow
async def test_host_that_stalls(
    server: GitServer, provider: LocalSandboxes, tmp_path: Path
) -> None:
    """A host that never answers ends in a time-out, and leaves no sandbox behind."""
    server.answer("p", Answer.STALL)
    source = git_source(provider, tmp_path, timeout_s=1.0)
    with pytest.raises(CloneTimeout) as caught:
        await fetch(source, server.url("p"), prefix=server.prefix)
    assert caught.value.retryable


@pytest.mark.timeout(20)  # far above what the limits under test allow
async def test_host_that_falls_silent(
    server: GitServer, provider: LocalSandboxes, tmp_path: Path
) -> None:
    """A host that sends nothing for too long is given up before the time limit."""
    server.answer("p", Answer.STALL)
    source = git_source(provider, tmp_path, stall_s=1)
    with pytest.raises(CloneTimeout, match="stopped answering"):
        await fetch(source, server.url("p"), prefix=server.prefix)


async def test_pack_over_the_limit(
    server: GitServer, provider: LocalSandboxes, tmp_path: Path
) -> None:
    """A pack that grows past the limit is cut off while it comes, and nothing of it stays."""
    server.add("p", {"noise": os.urandom(4 << 20)})
    source = git_source(provider, tmp_path, max_bytes=1 << 20)
    with pytest.raises(RepositoryTooLarge, match="1 MiB"):
        await fetch(source, server.url("p"), prefix=server.prefix)
    assert sum(path.lstat().st_size for path in cached(tmp_path)) < 1 << 20
    server.commit("p", {"noise": None, "small": b"x"})
    checkout = await fetch(source, server.url("p"), prefix=server.prefix)
    assert (checkout.path / "small").exists()


async def test_tree_over_the_limit(
    server: GitServer, provider: LocalSandboxes, tmp_path: Path
) -> None:
    """A small pack with a large tree is refused before it is written out."""
    server.add("p", {"zeros": bytes(3 << 20)})
    source = git_source(provider, tmp_path, max_bytes=1 << 20)
    with pytest.raises(RepositoryTooLarge, match="1 MiB"):
        await fetch(source, server.url("p"), prefix=server.prefix)
    assert not [path for path in cached(tmp_path) if path.name == "zeros"]


async def test_too_many_files(server: GitServer, provider: LocalSandboxes, tmp_path: Path) -> None:
    """A tree with more files than allowed is refused, even one that repeats itself endlessly."""
    server.add("many", {f"f{number}": b"" for number in range(11)})
    source = git_source(provider, tmp_path, max_files=10)
    with pytest.raises(RepositoryTooLarge, match="10 files"):
        await fetch(source, server.url("many"), prefix=server.prefix)
    bomb = server.add("bomb", {"f": b""})
    repository = server.path("bomb")
    tree = git("rev-parse", f"{bomb}^{{tree}}", cwd=repository)
    for _ in range(12):
        lines = "".join(f"040000 tree {tree}\td{number}\n" for number in range(10))
        tree = git("mktree", cwd=repository, stdin=lines.encode())
    made = git("commit-tree", "-m", "bomb", tree, cwd=repository)
    git("update-ref", "refs/heads/main", made, cwd=repository)
    with pytest.raises(RepositoryTooLarge, match="10 files"):
        await fetch(source, server.url("bomb"), prefix=server.prefix)


def nested(server: GitServer, name: str, *, levels: int, copies: int) -> None:
    """Serve a repository whose root names one deep tree several times."""
    repository = server.path(name)
    tree = git("rev-parse", f"{server.add(name, {'f': b''})}^{{tree}}", cwd=repository)
    for _ in range(levels):
        tree = git("mktree", cwd=repository, stdin=f"040000 tree {tree}\td\n".encode())
    lines = "".join(f"040000 tree {tree}\td{number}\n" for number in range(copies))
    root = git("mktree", cwd=repository, stdin=lines.encode())
    made = git("commit-tree", "-m", "nested", root, cwd=repository)
    git("update-ref", "refs/heads/main", made, cwd=repository)


async def test_directories_count(
    server: GitServer, provider: LocalSandboxes, tmp_path: Path
) -> None:
    """Directories that a small pack repeats are bounded in number and in what they take on disk."""
    nested(server, "p", levels=30, copies=10)
    few = git_source(provider, tmp_path, max_files=100)
    with pytest.raises(RepositoryTooLarge, match="100 files and directories"):
        await fetch(few, server.url("p"), prefix=server.prefix)
    small = git_source(provider, tmp_path, max_bytes=1 << 20)
    with pytest.raises(RepositoryTooLarge, match="1 MiB"):
        await fetch(small, server.url("p"), prefix=server.prefix)
    checkout = await fetch(git_source(provider, tmp_path), server.url("p"), prefix=server.prefix)
    assert checkout.file_count == 10


async def test_refused_repository_leaves_no_objects(
    server: GitServer, provider: LocalSandboxes, tmp_path: Path
) -> None:
    """What a refused fetch brought in goes, though another checkout of the repository is in use."""
    source = git_source(provider, tmp_path, max_files=10)
    server.add("p", FILES)
    checkout = await fetch(source, server.url("p"), prefix=server.prefix)
    server.commit("p", {"noise": os.urandom(1 << 20), **{f"f{n}": b"" for n in range(20)}})
    with pytest.raises(RepositoryTooLarge):
        await fetch(source, server.url("p"), prefix=server.prefix)
    await source.settled()
    assert sum(path.lstat().st_size for path in cached(tmp_path)) < 1 << 20
    assert in_checkout(checkout, "fsck", "--full") == ""
    server.commit("p", {"noise": None, **{f"f{n}": None for n in range(20)}})
    again = await fetch(source, server.url("p"), prefix=server.prefix)
    assert in_checkout(again, "status", "--porcelain") == ""


async def test_unknown_commit_costs_no_objects(
    server: GitServer, source: GitRepositories, tmp_path: Path
) -> None:
    """A commit that does not exist leaves the objects of the repository where they are."""
    server.add("p", FILES)
    await fetch(source, server.url("p"), prefix=server.prefix)
    with pytest.raises(RefNotFound):
        await fetch(source, server.url("p"), prefix=server.prefix, ref="0" * 40)
    await source.settled()
    assert [path for path in cached(tmp_path) if path.parent.parent.parent.name == "objects.git"]


class Watched:
    """A provider of sandboxes that remembers what it was asked for, and may hold some back."""

    name = "local"

    def __init__(self, provider: LocalSandboxes) -> None:
        """Take the provider that makes them."""
        self.isolation = provider.isolation
        self.attach = provider.attach
        self.remove_snapshot = provider.remove_snapshot
        self.close = provider.close
        self.capabilities = provider.capabilities
        self.specs: list[SandboxSpec] = []
        self.may_tidy = asyncio.Event()
        self._provider = provider

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """Make a sandbox; one that reaches nobody waits until tidying is allowed."""
        self.specs.append(spec)
        if not spec.network.rules:
            await self.may_tidy.wait()
        return await self._provider.create(spec)


async def test_fetch_box_sees_no_other_checkout(
    server: GitServer, provider: LocalSandboxes, tmp_path: Path
) -> None:
    """A fetch is shown the store and the checkout that it makes; no file is shared with others."""
    watched = Watched(provider)
    source = git_source(watched, tmp_path)
    server.add("p", FILES)
    first = await fetch(source, server.url("p"), prefix=server.prefix)
    server.commit("p", {"n": b"1"})
    await fetch(source, server.url("p"), prefix=server.prefix)
    shown = {mount.source for spec in watched.specs for mount in spec.mounts}
    assert shown
    assert not [path for path in shown if first.path.is_relative_to(path)]
    files = (path for path in first.path.rglob("*") if path.is_file())
    assert {path.stat().st_nlink for path in files} == {1}


async def test_no_run_waits_for_tidying(
    server: GitServer, provider: LocalSandboxes, tmp_path: Path
) -> None:
    """While what another run left is being deleted, however long, a fetch goes on."""
    watched = Watched(provider)
    source = git_source(watched, tmp_path, cache_bytes=0)
    for name in ("old", "new", "newer"):
        server.add(name, FILES)
    old = await fetch(source, server.url("old"), prefix=server.prefix)
    await source.release(old)
    await fetch(source, server.url("new"), prefix=server.prefix)
    await fetch(source, server.url("newer"), prefix=server.prefix)
    assert old.path.exists()
    watched.may_tidy.set()
    await source.settled()
    assert not old.path.exists()


async def test_closing_ends_the_tidying(
    server: GitServer, provider: LocalSandboxes, tmp_path: Path
) -> None:
    """A source that is closed waits for nothing and leaves no work behind."""
    watched = Watched(provider)
    source = git_source(watched, tmp_path, cache_bytes=0)
    for name in ("old", "new"):
        server.add(name, FILES)
    await source.release(await fetch(source, server.url("old"), prefix=server.prefix))
    await fetch(source, server.url("new"), prefix=server.prefix)
    await source.close()
    await source.settled()
    await source.close()


async def test_commit_by_its_id_leaves_the_checkout_in_use_alone(
    server: GitServer, source: GitRepositories
) -> None:
    """A tag of a commit that is in use leads to the same checkout, which is not made anew."""
    commit = server.add("p", FILES)
    first = await fetch(source, server.url("p"), prefix=server.prefix)
    inode = (first.path / "README.md").stat().st_ino
    git("tag", "v0", commit, cwd=server.path("p"))
    again = await fetch(source, server.url("p"), prefix=server.prefix, ref="v0")
    assert again.cached
    assert (again.path / "README.md").stat().st_ino == inode


async def test_submodules_are_named_and_not_fetched(
    server: GitServer, source: GitRepositories, address: Callable[[str], str], prefix: str
) -> None:
    """A submodule stays an empty directory, and a note names it."""
    server.add("p", {**FILES, ".gitmodules": b'[submodule "x"]\n\tpath = lib/x\n\turl = ../x\n'})
    repository = server.path("p")
    tree = git("ls-tree", "main", cwd=repository)
    lib = git("mktree", cwd=repository, stdin=b"160000 commit " + b"1" * 40 + b"\tx\n")
    whole = git("mktree", cwd=repository, stdin=f"{tree}\n040000 tree {lib}\tlib\n".encode())
    made = git("commit-tree", "-m", "sub", whole, cwd=repository)
    git("update-ref", "refs/heads/main", made, cwd=repository)
    checkout = await fetch(source, address("p"), prefix=prefix)
    assert any("lib/x" in note for note in checkout.notes)
    assert list((checkout.path / "lib" / "x").iterdir()) == []
    assert not any("/x" in request for request in server.requests)


async def test_concurrent_fetches_make_one_checkout(
    server: GitServer, source: GitRepositories, address: Callable[[str], str], prefix: str
) -> None:
    """Fetches of one repository at a time get the same checkout, which is made once."""
    server.add("p", FILES)
    checkouts = await asyncio.gather(
        *(fetch(source, address("p"), prefix=prefix) for _ in range(4))
    )
    assert len({checkout.path for checkout in checkouts}) == 1
    assert [checkout.cached for checkout in checkouts].count(False) == 1


async def test_two_servers_share_a_cache(
    server: GitServer,
    provider: LocalSandboxes,
    tmp_path: Path,
    address: Callable[[str], str],
    prefix: str,
) -> None:
    """Two sources over one directory, as two processes have them, never spoil each other's work."""
    server.add("p", FILES)
    sources = [git_source(provider, tmp_path) for _ in range(2)]
    checkouts = await asyncio.gather(
        *(fetch(source, address("p"), prefix=prefix) for source in sources)
    )
    assert [checkout.cached for checkout in checkouts].count(False) == 1


async def test_fetch_that_is_given_up(
    server: GitServer, source: GitRepositories, provider: LocalSandboxes
) -> None:
    """A consumer that stops early ends the work; the next fetch starts as if it had never been."""
    server.answer("p", Answer.STALL)
    task = asyncio.create_task(fetch(source, server.url("p"), prefix=server.prefix))
    await asyncio.to_thread(server.asked.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.answer("p", Answer.SERVE)
    server.add("p", FILES)
    assert not (await fetch(source, server.url("p"), prefix=server.prefix)).cached


async def test_release_is_idempotent(server: GitServer, source: GitRepositories) -> None:
    """A checkout may be given back twice, and one that is lent twice stays until the second is."""
    server.add("p", FILES)
    first = await fetch(source, server.url("p"), prefix=server.prefix)
    second = await fetch(source, server.url("p"), prefix=server.prefix)
    await source.release(first)
    await source.release(first)
    assert (second.path / "README.md").exists()
    await source.release(second)


async def test_full_cache_drops_what_nobody_uses(
    server: GitServer, provider: LocalSandboxes, tmp_path: Path
) -> None:
    """Over its size, the cache drops what was given back, and nothing that is in use."""
    source = git_source(provider, tmp_path, cache_bytes=0)
    server.add("old", FILES)
    server.add("new", FILES)
    old = await fetch(source, server.url("old"), prefix=server.prefix)
    new = await fetch(source, server.url("new"), prefix=server.prefix)
    assert (old.path / "README.md").exists()
    await source.release(old)
    await fetch(source, server.url("new"), prefix=server.prefix, depth=0)
    await source.settled()
    assert not old.path.exists()
    assert (new.path / "README.md").exists()
    assert not (await fetch(source, server.url("old"), prefix=server.prefix)).cached


async def test_deep_tree_can_be_dropped(
    server: GitServer, provider: LocalSandboxes, tmp_path: Path
) -> None:
    """A checkout that is deeper than Python can recurse is dropped like any other."""
    source = git_source(provider, tmp_path, cache_bytes=0)
    server.add("deep", {"d/" * 1500 + "end": b"x"})
    server.add("other", FILES)
    try:
        deep = await fetch(source, server.url("deep"), prefix=server.prefix)
        await source.release(deep)
        await fetch(source, server.url("other"), prefix=server.prefix)
        await source.settled()
        assert not deep.path.exists()
    finally:  # or pytest could not clean up after itself
        command = ("rm", "-rf", str(tmp_path / "repositories"))
        await asyncio.to_thread(subprocess.run, command, check=True)


async def test_half_made_checkout_is_made_anew(
    server: GitServer, provider: LocalSandboxes, tmp_path: Path
) -> None:
    """What a crash left in the cache is neither used nor kept."""
    server.add("p", FILES)
    source = git_source(provider, tmp_path)
    checkout = await fetch(source, server.url("p"), prefix=server.prefix)
    await source.release(checkout)
    checkouts, state = checkout.path.parent, tmp_path / "repositories" / ".state"
    (checkouts / ".new").mkdir()
    (checkout.path / "README.md").unlink()
    for record in state.rglob("*.json"):
        record.unlink()
    after_crash = git_source(provider, tmp_path)
    again = await fetch(after_crash, server.url("p"), prefix=server.prefix)
    await after_crash.settled()
    assert not again.cached
    assert (again.path / "README.md").read_bytes() == b"hello\n"
    assert [path.name for path in checkouts.iterdir()] == [again.path.name]


async def test_repository_of_sha256(source: GitRepositories, tmp_path: Path) -> None:
    """A repository whose ids are SHA-256 is cloned as any other."""
    repository = tmp_path / "r.git"
    git(
        "init",
        "-q",
        "--bare",
        "-b",
        "main",
        "--object-format=sha256",
        str(repository),
        cwd=tmp_path,
    )
    commit = add_commit(repository, FILES)
    checkout = await fetch(source, f"file://{repository}", prefix=f"file://{tmp_path}")
    assert (checkout.commit, len(commit)) == (commit, 64)
    assert in_checkout(checkout, "status", "--porcelain") == ""


async def test_certificate_that_nobody_vouches_for(
    server: GitServer, source: GitRepositories, tmp_path: Path
) -> None:
    """Over https the host's certificate is checked inside the sandbox, end to end."""
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    files = ("-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert"))
    command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *files)
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    server.use_tls(tmp_path / "cert", tmp_path / "key")
    server.add("p", FILES)
    prefix = f"https://localhost:{server.port}/"
    with pytest.raises(CloneError, match="certificate"):
        await fetch(source, f"{prefix}p", prefix=prefix)
    assert server.requests == []
