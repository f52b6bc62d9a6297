"""The contract of making sandboxes, what they are made of, and their end."""

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from patchkiln.domain.network import NetworkPolicy
from patchkiln.errors import (
    PatchError,
    SandboxError,
    SandboxFileError,
    SandboxLost,
    SandboxUnavailable,
    SandboxUnsupported,
)
from patchkiln.ports.execution import ExitReason
from patchkiln.ports.sandbox import (
    Capability,
    HostMount,
    IsolationLevel,
    Sandbox,
    SandboxLimits,
    SandboxProvider,
    SandboxSpec,
    new_sandbox_id,
)
from patchkiln.sandboxes.local.provider import LocalSandboxes
from tests.contract.sandbox.losing import lose
from tests.contract.sandbox.making import checkout_at, make, run, sh, text

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_the_self_test_says_what_it_found(provider: SandboxProvider) -> None:
    """The level is one of those that runs are started on, with facts, and is found out once."""
    isolation = await provider.isolation()
    assert provider.name in {"local", "container"}
    assert isolation.level is not IsolationLevel.NONE, isolation
    assert isolation.reason
    assert isolation.facts
    assert await provider.isolation() is isolation


async def test_a_sandbox_has_the_id_that_was_asked_for(provider: SandboxProvider) -> None:
    """The spec names it, and no two living ones share a name."""
    spec = SandboxSpec(id=new_sandbox_id())
    box = await provider.create(spec)
    try:
        assert box.id == spec.id
        with pytest.raises(SandboxUnavailable):
            await provider.create(spec)
        assert await text(box, "echo alive") == "alive"
    finally:
        await box.destroy()


async def test_the_workspace_shows_the_base_and_keeps_its_changes_to_itself(
    provider: SandboxProvider, checkout: Path
) -> None:
    """Two sandboxes change, delete and replace what lies in one checkout, which stays as it was."""
    spec = {"base": checkout_at(checkout)}
    one, two = await make(provider, **spec), await make(provider, **spec)
    try:
        await text(one, "echo more >>README; rm -r package; mkdir package; echo 2 >package/new.py")
        assert await text(one, "cat README package/*") == "base\nmore\n2"
        assert await text(two, "cat README package/*") == "base\nvalue = 1"
    finally:
        await asyncio.gather(one.destroy(), two.destroy())
    assert (checkout / "README").read_bytes() == b"base\n"
    assert [path.name for path in (checkout / "package").iterdir()] == ["module.py"]


async def test_host_directories_are_lent_read_only_or_to_write(
    provider: SandboxProvider, tmp_path: Path
) -> None:
    """A lent directory shows what lies in it, though only its owner may enter the way there."""
    lent, given = tmp_path / "private" / "lent", tmp_path / "private" / "given"
    lent.mkdir(parents=True)
    given.mkdir()
    (lent / "secret").write_bytes(b"for this sandbox\n")
    # No engine maps a file's owner to the container's user.
    (lent / "secret").chmod(0o600 if provider.name == "local" else 0o644)
    (tmp_path / "private").chmod(0o700)
    mounts = (
        HostMount(source=lent, target="/lent"),
        HostMount(source=given, target="/var/given", writable=True),
    )
    box = await make(provider, mounts=mounts)
    try:
        assert await text(box, "cat /lent/secret") == "for this sandbox"
        refused = await sh(box, "touch /lent/new || touch /lent/secret || rm /lent/secret")
        assert refused.status.exit_code != 0
        await text(box, "mkdir /var/given/d; echo out >/var/given/d/f")
    finally:
        await box.destroy()
    assert (given / "d" / "f").read_bytes() == b"out\n"
    assert [path.name for path in lent.iterdir()] == ["secret"]


async def test_a_missing_host_directory_is_told_without_its_name(
    provider: SandboxProvider, tmp_path: Path
) -> None:
    """No sandbox, no path of the host in the message, and the next sandbox can be had."""
    with pytest.raises(SandboxUnavailable) as caught:
        await make(provider, mounts=(HostMount(source=tmp_path / "no", target="/no"),))
    assert str(tmp_path) not in f"{caught.value.message} {caught.value.remedy}"
    await (await make(provider)).destroy()


async def test_the_operator_s_own_links_are_followed(tmp_path: Path) -> None:
    """The data directory, and a directory outside of it, may lie behind symbolic links."""
    for name in ("data", "lent"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}-link").symlink_to(tmp_path / name)
    (tmp_path / "data" / "checkout").mkdir()
    provider = LocalSandboxes(tmp_path / "data-link")
    try:
        box = await make(
            provider,
            base=checkout_at(tmp_path / "data-link" / "checkout"),
            mounts=(HostMount(source=tmp_path / "lent-link", target="/lent"),),
        )
        assert await text(box, "ls -A /lent .") == ".:\n\n/lent:"
    finally:
        await provider.close()


async def test_a_memory_hog_is_killed_and_the_sandbox_lives(provider: SandboxProvider) -> None:
    """Past its memory a sandbox loses the hog, not itself."""
    box = await make(provider, limits=SandboxLimits(memory_bytes=128 << 20))
    try:
        code = "x = []\nwhile True: x.append(bytearray(1 << 20))"
        output = await run(box, "python3", "-c", code)
        assert (output.status.exit_code, output.status.reason) == (137, ExitReason.KILLED)
        assert await text(box, "echo alive") == "alive"
    finally:
        await box.destroy()


async def test_a_fork_bomb_stays_within_its_bound(provider: SandboxProvider) -> None:
    """Processes are limited, the bomb's time too, and after it the sandbox works again."""
    box = await make(provider, limits=SandboxLimits(processes=64))
    try:
        code = "import os\nwhile True:\n try: os.fork()\n except OSError: pass"
        output = await run(box, "python3", "-c", code, timeout_s=1)
        assert output.status.reason is ExitReason.TIMED_OUT
        assert await text(box, "echo alive") == "alive"
    finally:
        await box.destroy()


async def test_open_files_are_limited(provider: SandboxProvider) -> None:
    """A process gets no more descriptors than the spec allows."""
    box = await make(provider, limits=SandboxLimits(open_files=100))
    try:
        assert await text(box, "ulimit -n; ulimit -Hn") == "100\n100"
    finally:
        await box.destroy()


async def test_destroying_twice_and_at_once_is_once(provider: SandboxProvider) -> None:
    """However often it is asked for, there is one end, and everyone may wait for it."""
    box = await make(provider)
    await asyncio.gather(*(box.destroy() for _ in range(5)))
    await box.destroy()


CALLS: dict[str, Callable[[Sandbox], Awaitable[object]]] = {
    "exec": lambda box: box.exec(["true"]),
    "read": lambda box: box.read("f", max_bytes=1),
    "write": lambda box: box.write("f", b""),
    "list": lambda box: box.list("."),
    "stat": lambda box: box.stat("."),
    "realpath": lambda box: box.realpath("."),
    "make_directory": lambda box: box.make_directory("d"),
    "remove": lambda box: box.remove("f"),
    "diff": lambda box: box.diff(),
    "snapshot": lambda box: box.snapshot(),
    "fork": lambda box: box.fork(),
    "pause": lambda box: box.pause(),
    "resume": lambda box: box.resume(),
    "metrics": lambda box: box.metrics(),
    "set_network": lambda box: box.set_network(NetworkPolicy()),
}
NEEDS = {"snapshot": Capability.SNAPSHOT, "fork": Capability.FORK}


async def test_a_destroyed_sandbox_is_lost_to_every_call(provider: SandboxProvider) -> None:
    """Every method says so, and none hangs."""
    box = await make(provider)
    await box.destroy()
    for name, call in CALLS.items():
        lacking = NEEDS.get(name, Capability.ATTACH) not in provider.capabilities
        with pytest.raises(SandboxUnsupported if lacking else SandboxLost):
            await call(box)


async def test_destroying_under_a_command_is_told_to_its_reader(provider: SandboxProvider) -> None:
    """Who reads a command's output, or waits for its end, learns that the sandbox is gone."""
    box = await make(provider)
    execution = await box.exec(["sleep", "1111"])
    reading = asyncio.create_task(execution.wait())
    await asyncio.sleep(0)
    await box.destroy()
    with pytest.raises(SandboxLost):
        await reading


async def test_commands_and_the_end_may_meet(provider: SandboxProvider) -> None:
    """Commands that start while the sandbox ends either run or say that it is lost."""
    box = await make(provider)
    calls = [asyncio.create_task(run(box, "true")) for _ in range(10)]
    await asyncio.sleep(0)
    await box.destroy()
    for result in await asyncio.gather(*calls, return_exceptions=True):
        assert not isinstance(result, BaseException) or isinstance(result, SandboxLost), result


async def test_a_sandbox_that_dies_is_lost(provider: SandboxProvider) -> None:
    """A sandbox that is killed from outside fails its commands and calls, and can be destroyed."""
    box = await make(provider)
    execution = await box.exec(["sleep", "1111"])
    await lose(box)
    with pytest.raises(SandboxLost) as caught:
        await execution.wait()
    assert caught.value.retryable
    with pytest.raises(SandboxLost):
        await box.read("f", max_bytes=1)
    await box.destroy()


async def test_no_descriptor_is_left_open(provider: SandboxProvider) -> None:
    """Commands that are read, unread, killed and lost, files and ends leave nothing open here."""

    async def use() -> None:
        box = await make(provider)
        await run(box, "cat", stdin=b"x" * 100_000)
        await (await box.exec(["echo", "unread"])).wait()
        await (await box.exec(["sleep", "1111"], stdin=b"x" * 100_000)).kill()
        with pytest.raises(SandboxFileError):
            await box.exec(["true"], cwd="nowhere")
        await box.write("f", b"x" * 100_000)
        with pytest.raises(SandboxFileError):
            await box.read("f", max_bytes=1)
        await box.exec(["sleep", "1111"])
        await box.exec(["true"])
        await box.destroy()
        with pytest.raises(SandboxLost):
            await box.exec(["true"])

    await use()
    before = await asyncio.to_thread(os.listdir, "/proc/self/fd")
    for _ in range(3):
        await use()
    assert len(await asyncio.to_thread(os.listdir, "/proc/self/fd")) <= len(before)


async def test_nothing_of_one_sandbox_is_in_the_next(provider: SandboxProvider) -> None:
    """Neither files nor processes nor names survive."""
    box = await make(provider)
    await text(box, "echo 1 >/tmp/left; echo 1 >~/left; echo 1 >left; echo 1 >/dev/shm/left")
    other = await make(provider)
    try:
        assert await text(other, "ls -A /tmp ~ . /dev/shm | grep -c left || true") == "0"
    finally:
        await asyncio.gather(box.destroy(), other.destroy())


async def test_a_sandbox_without_a_base_has_no_diff(box: Sandbox) -> None:
    """There is nothing to compare with."""
    with pytest.raises(PatchError) as raised:
        await box.diff()
    assert "from a repository" in raised.value.remedy


async def test_a_diff_ends_what_still_runs(provider: SandboxProvider, checkout: Path) -> None:
    """Before anything is compared, every process of the sandbox is killed; the sandbox lives on."""
    box = await make(provider, base=checkout_at(checkout))
    try:
        await text(box, "setsid sleep 1111 >/dev/null 2>&1 & exit 0")
        execution = await box.exec(["sleep", "2222"])
        with pytest.raises((PatchError, SandboxError)):
            await box.diff()
        assert (await execution.wait()).reason is ExitReason.KILLED
        assert await text(box, "cat /proc/[0-9]*/comm | grep -c sleep || true") == "0"
    finally:
        await box.destroy()


FREEZER = """
import os, signal
while True:
    for name in os.listdir('/proc'):
        if name.isdigit() and int(name) not in (1, os.getpid()):
            try:
                os.kill(int(name), signal.SIGSTOP)
            except OSError:
                pass
"""


async def test_a_diff_waits_for_nothing_that_the_sandbox_stopped(
    provider: SandboxProvider, checkout: Path
) -> None:
    """A sandbox that stops the process which reads a file for us loses it, and keeps no one."""
    box = await make(provider, base=checkout_at(checkout))
    try:
        await box.write("/tmp/large", bytes(10_000_000))
        execution = await box.exec(["python3", "-c", FREEZER])
        reading = asyncio.create_task(box.read("README", max_bytes=100))
        while (await asyncio.wait([reading], timeout=2))[0]:
            reading = asyncio.create_task(box.read("/tmp/large", max_bytes=10_000_000))
        with pytest.raises((PatchError, SandboxError)):
            await box.diff()
        with pytest.raises(SandboxFileError) as caught:
            await reading
        assert caught.value.errno == errno.EIO
        assert (await execution.wait()).reason is ExitReason.KILLED
    finally:
        await box.destroy()


async def test_a_file_of_the_base_that_is_too_large_for_the_disk_is_told(
    provider: SandboxProvider, checkout: Path
) -> None:
    """Where changing it copies it: `ENOSPC`, and its content stays; else it is simply written."""
    (checkout / "large").write_bytes(b"x" * 3_000_000)
    limits = SandboxLimits(disk_bytes=1 << 20)
    box = await make(provider, base=checkout_at(checkout), limits=limits)
    try:
        bounded = Capability.DISK_LIMIT in provider.capabilities
        if provider.name == "container" or not bounded:  # the base has been copied already
            await box.write("large", b"y" * 2_000_000)
            assert await text(box, "wc -c <large") == "2000000"
            return
        with pytest.raises(SandboxFileError) as caught:
            await box.write("large", b"y" * 2_000_000)
        assert caught.value.errno == errno.ENOSPC
        assert await text(box, "wc -c <large") == "3000000"
    finally:
        await box.destroy()
