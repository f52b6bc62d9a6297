"""The contract of snapshots and forks."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from patchkiln.errors import SandboxLost, SandboxNotFound
from patchkiln.ports.execution import ExitReason
from patchkiln.ports.sandbox import (
    Capability,
    Sandbox,
    SandboxLimits,
    SandboxProvider,
    Snapshot,
)
from tests.contract.sandbox.making import checkout_at, lacks, make, sh, text

pytestmark = pytest.mark.asyncio(loop_scope="package")

CHANGE = r"""
rm -r package; mkdir package; echo new >package/new.py; echo more >>README
mkdir -p ~/kept /tmp/kept locked; echo 1 >~/kept/f; echo 2 >/tmp/kept/f
ln ~/kept/f ~/kept/hard; ln -s nowhere link; printf x >"$(printf 'odd\nname')"
echo run >program; chmod 751 program; echo in >locked/f; chmod 0 locked
touch -d @1000000000 README; chmod 700 ~/kept; : >gone; rm gone
"""
# Everything that is there: kind, mode, links, size, time of files, name and target.
LOOK = r"""
cd /; find workspace home/user/kept tmp -printf '%y %m %n %p %l ' \
    \( -type f -printf '%s %T@\n' -o -printf '\n' \) 2>/dev/null |
    sed 's/^d \([0-9]*\) [0-9]*/d \1/' | sort
cat workspace/README workspace/package/* home/user/kept/hard
"""


async def restore(provider: SandboxProvider, snapshot: Snapshot) -> Sandbox:
    """Make a sandbox from a snapshot."""
    return await make(provider, base=snapshot)


async def test_a_snapshot_keeps_the_files_as_they_are(
    provider: SandboxProvider, checkout: Path
) -> None:
    """Additions, deletions, replaced directories, modes, links, odd names and times come back.

    In the sandbox itself as well as in those that are made from it.
    """
    base = checkout_at(checkout)
    box = await make(provider, base=base)
    if await lacks(provider, Capability.SNAPSHOT, box.snapshot):
        return
    await text(box, CHANGE)
    before = await text(box, LOOK)
    assert "new" in before
    snapshot = await box.snapshot()
    other = await restore(provider, snapshot)
    try:
        assert snapshot.base == base
        assert snapshot.size_bytes > 0
        assert await text(box, LOOK) == before
        assert await text(other, LOOK) == before
        assert await text(other, "chmod 755 locked; cat locked/f; ls package") == "in\nnew.py"
    finally:
        await asyncio.gather(box.destroy(), other.destroy())
        await provider.remove_snapshot(snapshot.id)


async def test_neither_side_of_a_fork_sees_the_other_s_changes(
    provider: SandboxProvider, checkout: Path
) -> None:
    """Parent and children change, delete and replace the same files, each for itself."""
    box = await make(provider, base=checkout_at(checkout))
    if await lacks(provider, Capability.FORK, box.fork):
        return
    await text(box, CHANGE)
    one, two = await box.fork(2)
    try:
        assert len({box.id, one.id, two.id}) == 3
        await text(box, "rm -r package; echo parent >README; echo p >/tmp/kept/f")
        await text(one, "echo one >package/new.py; rm README ~/kept/hard; rm -r /tmp/kept")
        look = "cat README package/* ~/kept/hard /tmp/kept/f 2>/dev/null || true"
        assert await text(box, look) == "parent\n1\np"
        assert await text(one, look) == "one"
        assert await text(two, look) == "base\nmore\nnew\n1\n2"
    finally:
        await asyncio.gather(box.destroy(), one.destroy(), two.destroy())
    assert (checkout / "README").read_bytes() == b"base\n"
    assert [path.name for path in (checkout / "package").iterdir()] == ["module.py"]


async def test_a_fork_has_its_parent_s_environment_and_limits(provider: SandboxProvider) -> None:
    """And so has the parent after it; what ran in it has ended."""
    limits = SandboxLimits(open_files=99)
    box = await make(provider, env={"COLOUR": "green"}, limits=limits)
    if await lacks(provider, Capability.FORK, box.fork):
        return
    running = await box.exec(["sleep", "1111"])
    await text(box, "setsid sleep 2222 >/dev/null 2>&1 & echo $COLOUR >colour")
    name = box.id
    (child,) = await box.fork()
    try:
        assert (await running.wait()).reason is ExitReason.KILLED
        assert box.id == name
        for sandbox in (box, child):
            look = "cat colour; echo $COLOUR; ulimit -n; cat /proc/[0-9]*/comm | grep -c sleep"
            assert await text(sandbox, f"{look} || true") == "green\ngreen\n99\n0"
    finally:
        await asyncio.gather(box.destroy(), child.destroy())


async def test_a_snapshot_can_be_taken_of_what_came_from_one(provider: SandboxProvider) -> None:
    """Generation upon generation: what one deletes comes back in none that follow."""
    box = await make(provider)
    if await lacks(provider, Capability.SNAPSHOT, box.snapshot):
        return
    made = [box]
    try:
        for number in range(4):
            change = f"rm -rf d; mkdir d; echo {number} >d/{number}; echo {number} >>log; ls d"
            assert await text(made[-1], change) == str(number)
            snapshot = await made[-1].snapshot()
            assert snapshot.base is None
            made.append(await restore(provider, snapshot))
            await provider.remove_snapshot(snapshot.id)
        assert await text(made[-1], "ls d; cat log | tr '\\n' ' '") == "3\n0 1 2 3"
        assert await text(made[1], "ls d; cat log | tr '\\n' ' '") == "1\n0 1"
    finally:
        await asyncio.gather(*(sandbox.destroy() for sandbox in made))


async def test_a_removed_snapshot_is_gone_but_not_what_came_from_it(
    provider: SandboxProvider,
) -> None:
    """Removal is idempotent, and sandboxes live on without their snapshot and their parent."""
    box = await make(provider)
    if await lacks(provider, Capability.SNAPSHOT, box.snapshot):
        return
    await text(box, "echo kept >f")
    snapshot = await box.snapshot()
    child = await restore(provider, snapshot)
    await provider.remove_snapshot(snapshot.id)
    await provider.remove_snapshot(snapshot.id)
    await box.destroy()
    try:
        with pytest.raises(SandboxNotFound):
            await restore(provider, snapshot)
        assert await text(child, "cat f") == "kept"
        (grandchild,) = await child.fork()
        assert await text(grandchild, "cat f") == "kept"
        await grandchild.destroy()
    finally:
        await child.destroy()


async def test_a_snapshot_outlives_its_sandbox(provider: SandboxProvider) -> None:
    """It lasts until it is removed."""
    box = await make(provider)
    if await lacks(provider, Capability.SNAPSHOT, box.snapshot):
        return
    await text(box, "echo kept >f")
    snapshot = await box.snapshot()
    await box.destroy()
    child = await restore(provider, snapshot)
    assert await text(child, "cat f") == "kept"
    await child.destroy()
    await provider.remove_snapshot(snapshot.id)


async def test_one_limit_holds_for_all_that_lies_above_the_base(provider: SandboxProvider) -> None:
    """A child cannot store more than its parent could have, and a full disk can be forked."""
    box = await make(provider, limits=SandboxLimits(disk_bytes=8 << 20))
    if Capability.DISK_LIMIT not in provider.capabilities:
        await box.destroy()
        return
    if await lacks(provider, Capability.FORK, box.fork):
        return
    await sh(box, "head -c 6M /dev/zero >first; head -c 20M /dev/zero >/tmp/second")
    (child,) = await box.fork()
    try:
        refused = await sh(child, "head -c 6M /dev/zero >third")
        assert refused.status.exit_code != 0
        assert b"No space" in refused.stderr
        assert await text(child, "rm third first; ls; wc -c </tmp/second") != ""
        metrics = await child.metrics()
        assert metrics.disk_limit_bytes == 8 << 20
    finally:
        await asyncio.gather(box.destroy(), child.destroy())


WRITER = "i=0; while :; do i=$((i+1)); echo $i >a; echo $i >b; mkdir -p d/$i; done"


async def test_a_fork_while_something_writes_is_one_moment(provider: SandboxProvider) -> None:
    """Parent and children agree on every byte, because the writer has ended before."""
    box = await make(provider)
    if await lacks(provider, Capability.FORK, box.fork):
        return
    await box.exec(["sh", "-c", WRITER])
    await text(box, "until [ -e d/20 ]; do sleep 0.01; done")
    children = await box.fork(3)
    try:
        look = "cat a b; find . | sort | cksum"
        seen = {await text(sandbox, look) for sandbox in (box, *children)}
        assert len(seen) == 1
        first, second, _ = seen.pop().split("\n")
        assert int(first) - int(second or first) in {0, 1}
    finally:
        await asyncio.gather(*(sandbox.destroy() for sandbox in (box, *children)))


@pytest.mark.parametrize("turns", range(0, 12, 3))
async def test_a_fork_and_the_end_may_meet(provider: SandboxProvider, turns: int) -> None:
    """Destroyed meanwhile, a sandbox either was forked or says that it is lost; none is left."""
    box = await make(provider)
    if await lacks(provider, Capability.FORK, box.fork):
        return
    forking = asyncio.create_task(box.fork(2))
    for _ in range(turns):
        await asyncio.sleep(0.001)
    await box.destroy()
    children: Sequence[Sandbox] = ()
    with suppress(SandboxLost):
        children = await forking
    for child in children:
        assert await text(child, "echo alive") == "alive"
    await asyncio.gather(*(child.destroy() for child in children))
    with pytest.raises(SandboxNotFound):
        await provider.attach(box.id)


async def test_a_cancelled_fork_leaves_the_sandbox_whole(provider: SandboxProvider) -> None:
    """Whenever its caller gives up, the sandbox goes on and can be forked again."""
    box = await make(provider)
    if await lacks(provider, Capability.FORK, box.fork):
        return
    await text(box, "echo kept >f")
    for turns in range(0, 16, 4):
        forking = asyncio.create_task(box.fork(2))
        await asyncio.sleep(turns / 1000)
        forking.cancel()
        done = (await asyncio.gather(forking, return_exceptions=True))[0]
        assert isinstance(done, asyncio.CancelledError | list | tuple)
        assert await text(box, "cat f") == "kept"
        if not isinstance(done, BaseException):
            await asyncio.gather(*(child.destroy() for child in done))
    await box.destroy()
