"""The contract of reading and writing files."""

import asyncio
import errno
import os
from collections.abc import Awaitable

import pytest

from patchkiln.errors import SandboxFileError
from patchkiln.ports.sandbox import FileInfo, Sandbox, SandboxLimits, SandboxProvider
from tests.contract.sandbox.making import make, sh, text

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.one_provider]

FOREIGN = b"na\xefve-\xff.txt".decode(errors="surrogateescape")


async def failure(call: Awaitable[object]) -> int:
    """Return the error number of a file operation that must fail."""
    with pytest.raises(SandboxFileError) as caught:
        await call
    assert os.strerror(caught.value.errno) in caught.value.message
    return caught.value.errno


@pytest.mark.every_provider
async def test_what_is_written_is_read_back(box: Sandbox) -> None:
    """Bytes of any kind and size come back; an empty file is a file."""
    for data in (b"", b"\0\xff\n", os.urandom(3_000_000)):
        await box.write("file", data)
        assert await box.read("file", max_bytes=len(data)) == data


async def test_a_shorter_text_replaces_a_longer_one(box: Sandbox) -> None:
    """Nothing of the old content is left behind the new."""
    await box.write("file", b"a long text")
    await box.write("file", b"short")
    assert await box.read("file", max_bytes=100) == b"short"


@pytest.mark.every_provider
async def test_relative_paths_are_below_the_workspace(box: Sandbox) -> None:
    """Absolute paths are the sandbox's own."""
    await box.write("a/b", b"one")
    await box.write("/tmp/c", b"two")
    assert await text(box, "cat /workspace/a/b /tmp/c") == "onetwo"


async def test_writing_makes_parents_and_sets_modes(box: Sandbox) -> None:
    """A new file gets 0644 or the mode asked for; an existing one keeps its own."""
    await box.write("x/y/z", b"")
    assert (await box.stat("x/y/z")).mode == 0o644
    await box.write("run", b"#!/bin/sh\n", mode=0o755)
    await box.write("run", b"#!/bin/sh\necho ran\n")
    assert (await box.stat("run")).mode == 0o755
    assert await text(box, "./run") == "ran"


async def test_writing_through_a_symlink_changes_its_target(box: Sandbox) -> None:
    """The link stays a link, and other names of the file see the change."""
    await text(box, "echo old >target; ln -s target link; ln target other")
    await box.write("link", b"new\n")
    assert (await box.stat("link")).kind == "symlink"
    assert await text(box, "cat target other") == "new\nnew"


async def test_reading_is_bounded(box: Sandbox) -> None:
    """A file of just the bound is read, a larger one is `EFBIG`, whatever size it says it has."""
    await text(box, "head -c 1000 /dev/zero >file; truncate -s 1G giant")
    assert len(await box.read("file", max_bytes=1000)) == 1000
    assert await failure(box.read("file", max_bytes=999)) == errno.EFBIG
    assert await failure(box.read("giant", max_bytes=1_000_000)) == errno.EFBIG
    assert await failure(box.read("/proc/cpuinfo", max_bytes=10)) == errno.EFBIG


async def test_what_is_no_regular_file_is_refused_at_once(box: Sandbox) -> None:
    """Pipes, sockets, devices and directories hang neither reader nor writer."""
    code = "import socket; socket.socket(socket.AF_UNIX).bind('socket')"
    await text(box, f'mkfifo pipe; mkdir directory; python3 -c "{code}"')
    for path in ("pipe", "socket", "/dev/zero", "/dev/tty"):
        assert await failure(box.read(path, max_bytes=10)) in {errno.EINVAL, errno.ENXIO}
        assert await failure(box.write(path, b"x")) in {errno.EINVAL, errno.ENXIO}
    assert await failure(box.read("directory", max_bytes=10)) == errno.EISDIR
    assert await failure(box.write("directory", b"x")) == errno.EISDIR


@pytest.mark.every_provider
async def test_errors_carry_their_number(box: Sandbox) -> None:
    """Each operation says why it failed, as the standard library would."""
    await box.write("file", b"")
    await text(box, "ln -s loop loop")
    assert await failure(box.read("nothing", max_bytes=1)) == errno.ENOENT
    assert await failure(box.stat("nothing")) == errno.ENOENT
    assert await failure(box.list("nothing")) == errno.ENOENT
    assert await failure(box.remove("nothing")) == errno.ENOENT
    assert await failure(box.list("file")) == errno.ENOTDIR
    assert await failure(box.write("file/below", b"")) in {errno.ENOTDIR, errno.EEXIST}
    assert await failure(box.make_directory("file")) == errno.EEXIST
    assert await failure(box.read("loop", max_bytes=1)) == errno.ELOOP
    assert await failure(box.realpath("loop")) == errno.ELOOP
    assert await failure(box.write("/usr/file", b"")) in {errno.EROFS, errno.EACCES}
    assert await failure(box.read("x" * 5000, max_bytes=1)) == errno.ENAMETOOLONG
    assert await failure(box.read("a\0b", max_bytes=1)) == errno.EINVAL


@pytest.mark.every_provider
async def test_listing_describes_entries_by_name(box: Sandbox) -> None:
    """Kinds are those of the entries themselves; a link also tells what it leads to."""
    script = (
        "echo hi >b; mkdir a; ln -s b to-file; ln -s a to-directory; ln -s no gone; mkfifo pipe"
    )
    await text(box, script)
    entries = {info.path: info for info in await box.list(".")}
    shown = {
        path.rsplit("/", 1)[-1]: (info.kind, info.target_kind) for path, info in entries.items()
    }
    assert shown == {
        "a": ("directory", None),
        "b": ("file", None),
        "gone": ("symlink", "missing"),
        "pipe": ("other", None),
        "to-directory": ("symlink", "directory"),
        "to-file": ("symlink", "file"),
    }
    assert list(shown) == sorted(shown)
    assert next(info.size_bytes for info in entries.values() if info.path.endswith("/b")) == 3


async def test_stat_describes_the_link_and_realpath_follows_it(box: Sandbox) -> None:
    """One does not follow, the other resolves as far as there is something."""
    await text(box, "mkdir -p a/b; ln -s a/b link; echo 1 >a/b/f")
    assert await box.stat("link") == FileInfo(
        path="/workspace/link",
        kind="symlink",
        size_bytes=3,
        mode=0o777,
        target_kind="directory",
    )
    assert await box.realpath("link/../b/f") == "/workspace/a/b/f"
    assert await box.realpath("link/new/file") == "/workspace/a/b/new/file"


async def test_names_that_are_no_utf8_work_everywhere(box: Sandbox) -> None:
    """Foreign bytes in names survive listing, reading, writing and removing."""
    await box.write(FOREIGN, b"content")
    assert [info.path for info in await box.list("/workspace")] == [f"/workspace/{FOREIGN}"]
    assert await box.read(FOREIGN, max_bytes=100) == b"content"
    assert await box.realpath(FOREIGN) == f"/workspace/{FOREIGN}"
    await box.remove(FOREIGN)
    assert await box.list(".") == []


async def test_a_large_directory_is_listed(box: Sandbox) -> None:
    """Thousands of entries come back, in order."""
    await text(box, "mkdir many; cd many; seq -f 'a-rather-long-file-name-%05g' 5000 | xargs touch")
    names = [info.path for info in await box.list("many")]
    assert len(names) == 5000
    assert names == sorted(names)


async def test_a_larger_directory_is_told(box: Sandbox) -> None:
    """More than ten thousand entries are refused with a sentence that says so."""
    await text(box, "mkdir many; cd many; seq 10001 | xargs touch")
    with pytest.raises(SandboxFileError, match="more than 10000 entries") as caught:
        await box.list("many")
    assert caught.value.errno == errno.EOVERFLOW
    await text(box, "rm many/1")
    assert len(await box.list("many")) == 10_000


async def test_making_directories_is_idempotent(box: Sandbox) -> None:
    """Parents are made, and what is there already is no error."""
    await box.make_directory("a/b/c")
    await box.make_directory("a/b/c")
    assert (await box.stat("a/b/c")).kind == "directory"


async def test_removing_takes_trees_and_leaves_targets(box: Sandbox) -> None:
    """A tree goes whole, a link goes alone."""
    await text(
        box, "mkdir -p keep tree/x/y; echo 1 >keep/f; ln -s ../keep tree/link; touch tree/x/g"
    )
    await text(box, "ln -s keep direct")
    await box.remove("tree")
    await box.remove("direct")
    assert await text(box, "ls; cat keep/f") == "keep\n1"


async def test_removing_withstands_deep_and_locked_trees(box: Sandbox) -> None:
    """Neither thousands of levels nor directories without permissions are in the way."""
    code = "import os\nfor _ in range(3000):\n os.mkdir('d'); os.chdir('d')"
    await text(box, f'mkdir deep; cd deep; python3 -c "{code}"')
    await text(box, "mkdir -p locked/a/b locked/c; touch locked/a/f locked/c/f; chmod 500 locked/c")
    await text(box, "chmod 0 locked/a/b locked/a locked")
    await box.remove("deep")
    await box.remove("locked")
    assert await box.list(".") == []


async def test_the_workspace_itself_stays(box: Sandbox) -> None:
    """It cannot be removed, and a refused try deletes nothing in it."""
    await box.write("file", b"")
    assert await failure(box.remove("/workspace")) == errno.EBUSY
    assert (await box.stat("file")).kind == "file"


@pytest.mark.parametrize("path", ["a/..", "a/.", "/", "."])
async def test_only_what_has_a_name_is_removed(box: Sandbox, path: str) -> None:
    """A path that ends in dots, or names the root, is refused before anything is deleted."""
    await box.write("a/file", b"")
    assert await failure(box.remove(path)) in {errno.EINVAL, errno.EBUSY}
    assert (await box.stat("a/file")).kind == "file"


@pytest.mark.every_provider
async def test_a_full_disk_is_told_and_loses_nothing(provider: SandboxProvider) -> None:
    """Commands and writes get `ENOSPC`; what was there before stays, and space can be freed."""
    box = await make(provider, limits=SandboxLimits(disk_bytes=8 << 20))
    try:
        await box.write("kept", b"precious")
        filled = await sh(box, "head -c 100M /dev/zero >big")
        assert b"No space left" in filled.stderr
        assert await failure(box.write("kept", b"x" * 1_000_000)) == errno.ENOSPC
        assert await box.read("kept", max_bytes=100) == b"precious"
        assert await failure(box.write("fresh", b"x" * 1_000_000)) == errno.ENOSPC
        assert {info.path for info in await box.list(".")} == {"/workspace/big", "/workspace/kept"}
        await box.remove("big")
        await box.write("kept", b"x" * 1_000_000)
    finally:
        await box.destroy()


@pytest.mark.every_provider
async def test_file_operations_run_side_by_side(box: Sandbox) -> None:
    """Many writers and readers at once each get their own."""
    await asyncio.gather(*(box.write(f"f{n}", bytes([n]) * 100_000) for n in range(20)))
    read = await asyncio.gather(*(box.read(f"f{n}", max_bytes=100_000) for n in range(20)))
    assert read == [bytes([n]) * 100_000 for n in range(20)]


async def test_a_program_can_be_run_as_soon_as_it_is_written(box: Sandbox) -> None:
    """Nobody holds it open for writing any more, which the kernel would refuse to run."""
    for number in range(200):
        await box.write(f"bin/program{number}", b"#!/bin/sh\n", mode=0o755)
        status = await (await box.exec([f"bin/program{number}"])).wait()
        assert status.exit_code == 0
