"""What the local provider's own parts must withstand."""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_asyncio

from patchkiln.errors import SandboxLost, SandboxNotFound, SandboxUnavailable
from patchkiln.ports.sandbox import SandboxLimits, SandboxSpec, new_sandbox_id
from patchkiln.sandboxes.local import household, zygote_process
from patchkiln.sandboxes.local.box import syscalls
from patchkiln.sandboxes.local.provider import LocalSandboxes
from patchkiln.sandboxes.local.sandbox import LocalSandbox
from patchkiln.sandboxes.local.zygote.blanks import POOL_SIZE
from tests.contract.sandbox.making import checkout_at, make, run, text

# Changes a tree at random, by a seed: files, directories, links and pipes take each other's place.
CHANGE = r"""
import os, random, shutil, sys
chance = random.Random(sys.argv[1])
NAMES = ['a', 'b', 'c', 'odd\n', '\udcff']
def place():
    path = chance.choice(['/workspace', '/workspace', '/home/user', '/tmp'])
    for _ in range(chance.choice([0, 1, 2, 2, 2, 2, 2, 2, 3])):
        path += '/' + chance.choice(NAMES)
    return path + '/' + chance.choice(NAMES)
def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
def write(path):
    remove(path)
    with open(path, 'wb') as file:
        file.seek(chance.choice([0, 0, 100_000]))
        file.write(chance.randbytes(chance.choice([0, 10, 5000])))
    os.setxattr(path, 'user.kept', b'value')
def replace(path):
    remove(path)
    os.mkdir(path)
def link(path):
    source = place()
    if os.path.isfile(source) and not os.path.islink(source):
        remove(path)
        os.link(source, path)
def append(path):
    if os.path.isfile(path) and not os.path.islink(path):
        with open(path, 'ab') as file:
            file.write(b'more')
ACTIONS = [
    write, write, replace, os.makedirs, os.makedirs, remove, link, append,
    lambda path: (remove(path), os.symlink('a/b', path)),
    lambda path: (remove(path), os.mkfifo(path)),
    lambda path: os.chmod(path, chance.choice([0o700, 0o755, 0o1777])),
]
for _ in range(30):
    try:
        chance.choice(ACTIONS)(place())
    except OSError:
        pass
"""
# What there is: kinds, modes, targets, content, attributes.
TELL = r"""
import hashlib, os, stat
seen = hashlib.sha256()
count = 0
for top in ('/workspace', '/home/user', '/tmp'):
    for parent, directories, files in os.walk(top):
        directories.sort()
        for name in sorted([*directories, *files]):
            path = os.path.join(parent, name)
            status = os.lstat(path)
            fact = [os.fsencode(path), status.st_mode]
            if stat.S_ISLNK(status.st_mode):
                fact.append(os.readlink(path))
            elif stat.S_ISREG(status.st_mode):
                fact += [open(path, 'rb').read(), os.listxattr(path), status.st_mtime_ns > 0]
            seen.update(repr(fact).encode())
            count += 1
print(count, seen.hexdigest())
"""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[LocalSandboxes]:
    """Lend a provider to all tests here."""
    provider = LocalSandboxes(tmp_path_factory.mktemp("data"))
    yield provider
    await provider.close()


async def test_a_fork_is_all_or_none(
    local: LocalSandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one child cannot be made, the others are taken back and the parent goes on."""
    box = await make(local)
    taken = SandboxSpec(id=new_sandbox_id())
    other = await local.create(taken)
    wanted = [new_sandbox_id(), taken.id, new_sandbox_id()]
    monkeypatch.setattr(household, "new_sandbox_id", iter(wanted).__next__)
    with pytest.raises(SandboxUnavailable, match="already"):
        await box.fork(3)
    monkeypatch.undo()
    for name in (wanted[0], wanted[2]):
        with pytest.raises(SandboxNotFound):
            await local.attach(name)
    assert await text(box, "echo alive") == "alive"
    await asyncio.gather(box.destroy(), other.destroy())


@pytest.mark.parametrize("seed", range(4))
async def test_joined_layers_show_what_the_chain_showed(
    local: LocalSandboxes, checkout: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Twins change alike at random over generations; the layers of one are joined, again and again.

    Deletions and replacements above the base stay, so does all that was added.
    """
    for names in itertools.product("abc", repeat=3):
        (checkout / "/".join(names[:2])).mkdir(parents=True, exist_ok=True)
        (checkout / "/".join(names)).write_bytes(b"of the base")
    twins = [await make(local, base=checkout_at(checkout)) for _ in range(2)]
    try:
        for generation in range(6):
            seen: set[str] = set()
            for twin, most_layers in zip(twins, (1, 32), strict=True):
                monkeypatch.setattr(household, "MAX_LAYERS", most_layers)
                assert (await twin.snapshot()).size_bytes > 0
                done = await run(twin, "python3", "-c", CHANGE, f"{seed} {generation}")
                assert done.status.exit_code == 0, done
                told = await run(twin, "python3", "-c", TELL)
                assert told.status.exit_code == 0, told
                seen.add(told.stdout.decode())
            assert len(seen) == 1, generation
            assert int(seen.pop().split()[0]) > 5
    finally:
        await asyncio.gather(*(twin.destroy() for twin in twins))


async def test_joining_keeps_links_holes_depth_and_locked_directories(
    local: LocalSandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of one file stay so, a hole takes no space, and nothing is too deep or locked."""
    box = await make(local, limits=SandboxLimits(disk_bytes=64 << 20))
    await text(
        box,
        "echo 1 >~/f; ln ~/f ~/g; mkdir ~/d; ln ~/f ~/d/h; truncate -s 60M hole; echo end >>hole;"
        "mkdir locked; echo 2 >locked/f; chmod 0 locked/f locked;"
        "mkfifo pipe",
    )
    deep = "import os\nfor _ in range(3000):\n os.mkdir('d')\n os.chdir('d')"
    assert (await run(box, "python3", "-c", deep)).status.exit_code == 0
    monkeypatch.setattr(household, "MAX_LAYERS", 0)
    snapshot = await box.snapshot()
    assert snapshot.size_bytes < 4 << 20
    look = "[ ~/f -ef ~/g ] && [ ~/f -ef ~/d/h ] && stat -c %h ~/f && tail -c 4 hole && [ -p pipe ]"
    assert await text(box, f"{look}; stat -c %a locked; find d | wc -l") == "3\nend\n0\n3000"
    await text(box, "chmod 700 locked; [ $(stat -c %a locked/f) = 0 ]")
    await box.destroy()


async def test_joining_takes_files_without_number(
    local: LocalSandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them, and of their names, than so few bytes would make one expect."""
    box = await make(local, limits=SandboxLimits(disk_bytes=256 << 20))
    many = "for i in range(15000):\n open(f'{i}', 'w').close()\n os.link(f'{i}', f'{i}.link')"
    assert (await run(box, "python3", "-c", f"import os\n{many}")).status.exit_code == 0
    monkeypatch.setattr(household, "MAX_LAYERS", 0)
    await box.snapshot()
    assert await text(box, "ls | wc -l; stat -c %h 0") == "30000\n2"
    await box.destroy()


async def test_attributes_that_a_box_has_set_by_hand_hide_nothing_of_others(
    local: LocalSandboxes, checkout: Path
) -> None:
    """Whatever a box writes into its layer, what stands on it shows nothing of the host."""
    names = ("opaque", "redirect", "metacopy", "whiteout", "origin", "impure")
    code = f"""
import os
for place in ("/workspace", "/tmp", "/home/user"):
    for name in {names}:
        os.mkdir(f"{{place}}/{{name}}")
        for value in (b"y", b"/etc", b"/workspace/../../etc"):
            try:
                os.setxattr(f"{{place}}/{{name}}", f"user.overlay.{{name}}", value)
            except OSError:
                pass
    try:
        os.mknod(f"{{place}}/device", 0o020644, 0)
    except OSError:
        pass
"""
    for base in (None, checkout_at(checkout)):
        box = await make(local, base=base)
        assert (await run(box, "python3", "-c", code)).status.exit_code == 0
        (child,) = await box.fork()
        listed = await text(child, "ls -R . /tmp ~ 2>/dev/null || true")
        assert "passwd" not in listed
        assert "shadow" not in listed
        assert await text(child, "echo alive") == "alive"
        await asyncio.gather(box.destroy(), child.destroy())


def held_by(zygote: int) -> dict[str, int]:
    """Return what a zygote has: mounts, descriptors, children, control groups of boxes."""
    place = Path("/proc", str(zygote))
    # Other processes' groups may go while this looks through them, which is no matter to a walk.
    groups = [
        names
        for path, names, _ in os.walk("/sys/fs/cgroup")
        if Path(path).name.startswith(f"patchkiln-{zygote}-")
    ]
    return {
        # What others mount on this machine shows there as well.
        "mounts": len(mounted(place) - mounted(Path("/proc/self"))),
        "descriptors": len(list((place / "fd").iterdir())),
        "children": len(children_of(zygote)),
        "groups": sum(map(len, groups)),
    }


def mounted(place: Path) -> set[str]:
    """Return where a process, by its directory in /proc, has mounts."""
    return {line.split()[4] for line in (place / "mountinfo").read_text().splitlines()}


def children_of(zygote: int) -> list[int]:
    """Return the first processes of a zygote's boxes."""
    place = Path("/proc", str(zygote), "task", str(zygote), "children")
    return [int(pid) for pid in place.read_text().split()]


async def settle(zygote: int, wanted: dict[str, int]) -> None:
    """Wait until a zygote has no more than before; freeing goes on behind the last answer."""
    for _ in range(500):
        if held_by(zygote) == wanted:
            return
        await asyncio.sleep(0.01)
    assert held_by(zygote) == wanted


async def waiting_blanks(zygote: int, besides: int = 0) -> list[int]:
    """Wait until the zygote has made all that it makes beforehand; return their processes."""
    for _ in range(3000):
        if len(children_of(zygote)) == POOL_SIZE + besides:
            break
        await asyncio.sleep(0.01)
    return children_of(zygote)[besides:]


def own_kib(pid: int) -> int:
    """Return what of a process's memory it shares with nobody."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def lives(pid: int) -> bool:
    """Tell whether there is a process."""
    return Path("/proc", str(pid)).exists()


async def lose(box: LocalSandbox) -> None:
    """Kill a sandbox's first process from the host."""
    os.kill(box.generation.pid, signal.SIGKILL)
    await box.generation.channel.closed.wait()


async def give_up(local: LocalSandboxes, after_s: float, name: str) -> None:
    """Make a sandbox, but lose patience."""
    with suppress(TimeoutError):
        async with asyncio.timeout(after_s):
            box = await local.create(SandboxSpec(id=name))
        await box.destroy()


async def test_nothing_accumulates_in_the_zygote(
    local: LocalSandboxes, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of boxes, no mount, descriptor, process or control group stays.

    Two hundred at once, forks and snapshots of them, joined layers, first processes that are
    killed, and callers that give up.
    """
    first = await local.create(SandboxSpec(id=new_sandbox_id()))
    zygote = first.generation.zygote.pid
    await first.destroy()
    await waiting_blanks(zygote)
    # It answers between two pieces of work: none is half done, with its descriptors open.
    await first.generation.zygote.destroy(first.id)
    before = held_by(zygote)
    boxes = await asyncio.gather(
        *(local.create(SandboxSpec(id=new_sandbox_id())) for _ in range(200))
    )
    told = await asyncio.gather(*(text(box, "echo $$ >f; cat f") for box in boxes))
    assert len(told) == 200
    await asyncio.gather(*(box.destroy() for box in boxes))
    await settle(zygote, before)

    box = await local.create(SandboxSpec(id=new_sandbox_id(), base=checkout_at(checkout)))
    await text(box, "rm -r package; seq 1000 >kept; mkdir d; touch d/f")
    snapshot = await box.snapshot()
    children = [*await box.fork(3)]
    monkeypatch.setattr(household, "MAX_LAYERS", 1)
    children += await children[0].fork(1)
    await lose(box)
    await lose(children[1])
    with pytest.raises(SandboxLost):
        await box.snapshot()
    with pytest.raises(SandboxLost):
        await children[1].fork()
    again = await local.create(SandboxSpec(id=new_sandbox_id(), base=snapshot))
    assert await text(again, "wc -l <kept; ls") == "1000\nREADME\nd\nkept"
    await local.remove_snapshot(snapshot.id)
    await asyncio.gather(*(each.destroy() for each in (box, again, *children)))
    await settle(zygote, before)

    # An id is free again at once, though the box that had it is still about to end.
    reused = new_sandbox_id()
    for turns in range(12):
        await give_up(local, turns / 2000, reused)
    box = await local.create(SandboxSpec(id=reused))
    assert await text(box, "echo alive >f; cat f") == "alive"
    await box.destroy()
    await settle(zygote, before)


async def test_boxes_are_made_beforehand_and_used_once(local: LocalSandboxes) -> None:
    """A box is one of those that waited, all of them are small, and each has one owner."""
    first = await local.create(SandboxSpec(id=new_sandbox_id()))
    zygote = first.generation.zygote.pid
    await first.destroy()
    used: set[int] = set()
    for number in range(3):
        blanks = await waiting_blanks(zygote)
        assert not used & set(blanks)
        assert len(blanks) == POOL_SIZE
        assert max(map(own_kib, blanks)) <= 3 << 10
        limits = SandboxLimits(disk_bytes=(8 + number) << 20, open_files=100 + number)
        box = await make(local, limits=limits, env={"NUMBER": str(number)})
        assert isinstance(box, LocalSandbox)
        assert box.generation.pid in blanks
        used.add(box.generation.pid)
        told = await text(
            box, "echo $NUMBER; ulimit -n; df -m --output=size . | tail -1; ls -A . /"
        )
        await text(box, "touch left /tmp/left ~/left")
        expected = [str(number), str(100 + number), str(8 + number)]
        assert told.split()[:3] == expected
        assert "left" not in told
        assert "scaffold" not in told
        await box.destroy()


async def test_a_blank_that_dies_is_replaced(local: LocalSandboxes) -> None:
    """Killed while it waits, it is no box's; more boxes than wait can be had at once."""
    first = await local.create(SandboxSpec(id=new_sandbox_id()))
    zygote = first.generation.zygote.pid
    for pid in await waiting_blanks(zygote, besides=1):
        os.kill(pid, signal.SIGKILL)
    boxes = await asyncio.gather(*(make(local) for _ in range(POOL_SIZE + 3)))
    assert await asyncio.gather(*(text(box, "echo alive") for box in boxes)) == ["alive"] * len(
        boxes
    )
    await asyncio.gather(*(box.destroy() for box in (first, *boxes)))
    await waiting_blanks(zygote)


async def test_a_killed_zygote_takes_its_snapshots_along(tmp_path: Path) -> None:
    """Its sandboxes are lost, its snapshots not found, and the next sandbox can be had."""
    local = LocalSandboxes(tmp_path)
    box = await local.create(SandboxSpec(id=new_sandbox_id()))
    snapshot = await box.snapshot()
    forking = asyncio.create_task(box.fork(4))
    await asyncio.sleep(0.005)
    os.kill(box.generation.zygote.pid, signal.SIGKILL)
    with pytest.raises((SandboxLost, SandboxUnavailable)):
        await forking
    with pytest.raises(SandboxLost):
        await box.metrics()
    with pytest.raises(SandboxNotFound):
        await local.create(SandboxSpec(id=new_sandbox_id(), base=snapshot))
    with pytest.raises(SandboxNotFound):
        await local.attach(box.id)
    await local.remove_snapshot(snapshot.id)
    await box.destroy()
    other = await local.create(SandboxSpec(id=new_sandbox_id()))
    assert await text(other, "echo alive") == "alive"
    await local.close()


async def test_a_zygote_that_stands_still_holds_no_end_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing the provider kills it, and its boxes end with it."""
    monkeypatch.setattr(zygote_process, "END_S", 0.2)
    local = LocalSandboxes(tmp_path)
    box = await local.create(SandboxSpec(id=new_sandbox_id()))
    os.kill(box.generation.zygote.pid, signal.SIGSTOP)
    await text(box, "echo alive")
    async with asyncio.timeout(20):
        await local.close()
    while lives(box.generation.pid):  # noqa: ASYNC110 - the kernel tells nobody
        await asyncio.sleep(0.01)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount the small disk")
async def test_a_full_disk_of_the_host_refuses_boxes_and_recovers(tmp_path: Path) -> None:
    """No sandbox is made, and the cause is told; with room on the disk they can be had again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    syscalls.mount("small", str(disk), "tmpfs", 0, "size=4m")
    try:
        hog = disk / "hog"
        with suppress(OSError), hog.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        local = LocalSandboxes(disk / "data")
        with pytest.raises(SandboxUnavailable, match=r"[Ss]pace|full"):
            await local.create(SandboxSpec(id=new_sandbox_id()))
        await local.close()
        hog.unlink()
        local = LocalSandboxes(disk / "data")
        box = await local.create(SandboxSpec(id=new_sandbox_id()))
        assert await text(box, "echo alive") == "alive"
        await local.close()
    finally:
        syscalls.unmount(str(disk))


async def test_a_snapshot_may_go_while_it_is_used(local: LocalSandboxes) -> None:
    """Who is making a sandbox from it then gets a whole one, or learns that it is gone."""
    for turns in range(4):
        box = await make(local)
        await text(box, "echo kept >f")
        snapshot = await box.snapshot()
        await box.destroy()
        making = asyncio.create_task(make(local, base=snapshot))
        for _ in range(turns):
            await asyncio.sleep(0)
        await local.remove_snapshot(snapshot.id)
        try:
            child = await making
        except SandboxNotFound:
            continue
        assert await text(child, "cat f") == "kept"
        await child.destroy()
