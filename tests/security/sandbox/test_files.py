"""What the local sandbox promises about the host's files and secrets."""

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.security.machine import REPOSITORY, SECRET, Box, Machine, Refused, first_in, processes_in


@pytest.mark.probe(1)
def test_the_host_s_files_are_not_there(box: Box) -> None:
    """Neither passwords nor homes nor the server's data and source can be seen."""
    places = ["/etc/shadow", "/root", "/boot", "/srv", "/sys/kernel", str(REPOSITORY)]
    places += [str(box.machine.data_dir), str(Path.home() / ".ssh")]
    seen = box.sh("; ".join(f"[ -e {place} ] && echo {place}" for place in places))
    assert seen == ""


@pytest.mark.probe(11)
def test_the_box_s_user_is_nobody_on_the_host(box: Box) -> None:
    """On the host a command has neither root's id nor, started by root, any other user's."""
    namespace = box.namespace()
    expected = 65533 if box.machine.host_uid == 0 else box.machine.host_uid
    owners = {Path(f"/proc/{pid}").stat().st_uid for pid in processes_in(namespace)}
    status = [Path(f"/proc/{pid}/status").read_text() for pid in processes_in(namespace)]
    ids = {line for text in status for line in text.splitlines() if line.startswith("Uid:")}
    assert ids == {f"Uid:\t{expected}\t{expected}\t{expected}\t{expected}"}
    assert box.sh("id -u") == "1000"
    assert owners <= {0, expected}


@pytest.mark.probe(2)
def test_the_server_s_environment_is_not_there(box: Box) -> None:
    """No process of the sandbox shows the secret that the server was started with."""
    script = f"env | grep {SECRET}; grep -l -a {SECRET} /proc/[0-9]*/environ; true"
    assert SECRET not in box.sh(script.replace(SECRET, SECRET[:-1] + "[e]"))
    assert box.sh("cat /proc/1/environ | wc -c").startswith("cat: /proc/1/environ: Permission")


@pytest.mark.skipif(os.getuid() != 0, reason="only root may look")
def test_the_first_process_has_nothing_to_show(box: Box) -> None:
    """Even root of the host finds neither the server's environment nor its descriptors in it."""
    first = first_in(box.namespace())
    assert Path(f"/proc/{first}/environ").read_bytes() == b""
    opened = [str(path.readlink()) for path in Path(f"/proc/{first}/fd").iterdir()]
    kinds = Counter(name.split(":")[0].rsplit("/", 1)[-1] for name in opened)
    assert kinds == {"null": 4, "socket": 1, "oom_score_adj": 1, "pipe": 2}


@pytest.mark.probe(3)
def test_the_first_process_shows_nothing(box: Box) -> None:
    """Its root, directory, descriptors, memory and program cannot be looked into."""
    for name in ("root/etc", "cwd/", "fd/3", "mem", "maps", "map_files"):
        assert "Permission denied" in box.sh(f"ls -l /proc/1/{name} && head -c 1 /proc/1/{name}")


def test_a_box_does_not_learn_where_the_server_lies(box: Box) -> None:
    """Neither arguments nor mounts name the program, the data directory or the lent Python."""
    assert box.sh("tr -d '\\0' </proc/1/cmdline") == "patchkiln-zygote"
    told = box.sh("cat /proc/[0-9]*/cmdline /proc/self/mountinfo /proc/self/maps | tr '\\0' ' '")
    assert "/workspace" in told
    for place in (REPOSITORY, box.machine.data_dir, os.path.realpath(sys.base_prefix)):
        assert f"{place}" == "/usr" or f"{place}" not in told


@pytest.mark.probe(13)
def test_only_three_descriptors_are_open(box: Box) -> None:
    """A command inherits its own three streams and nothing else."""
    code = "print(sorted(int(n) for n in os.listdir('/proc/self/fd'))[:-1])"
    assert box.python(code) == "[0, 1, 2]"


@pytest.mark.parametrize("place", ["/", "/usr", "/usr/bin", "/etc", "/dev", "/opt", "/run", "/var"])
@pytest.mark.probe(4)
def test_the_system_cannot_be_written(box: Box, place: str) -> None:
    """Everything but the workspace, /tmp, /dev/shm and the home is read-only."""
    assert "Read-only file system" in box.sh(f"touch {place}/new")


@pytest.mark.probe(31)
def test_the_kernel_s_settings_cannot_be_written(box: Box) -> None:
    """Neither core patterns nor caches nor limits nor the magic key."""
    for name in ("kernel/core_pattern", "vm/drop_caches", "user/max_user_namespaces"):
        refusal = box.sh(f"echo 1 >/proc/sys/{name}")
        assert "Read-only" in refusal or "denied" in refusal
    assert "cannot create" in box.sh("echo h >/proc/sysrq-trigger")


@pytest.mark.probe(32)
def test_the_kernel_s_inside_is_hidden(box: Box) -> None:
    """Its memory, symbols, keys and messages are empty or not there."""
    for name in ("kcore", "kallsyms", "keys", "timer_list", "cmdline", "config.gz"):
        assert box.sh(f"head -c 1 /proc/{name} 2>/dev/null | wc -c") == "0"
    assert "No such file" in box.sh("cat /dev/kmsg /sys/kernel/notes /dev/mem")


@pytest.mark.probe(5, 19)
def test_nothing_can_be_mounted_or_uncovered(box: Box) -> None:
    """Neither mounting nor remounting nor unmounting works."""
    code = """
for args in (
    (b'none', b'/tmp', b'tmpfs', 0), (None, b'/', None, 32), (None, b'/usr', None, 32 | 4096),
    (b'/usr', b'/tmp', None, 4096), (b'proc', b'/tmp', b'proc', 0),
):
    print(libc.mount(*args, None), errno.errorcode[ctypes.get_errno()])
print(libc.umount2(b'/proc/kcore', 2), errno.errorcode[ctypes.get_errno()])
"""
    assert set(box.python(code).splitlines()) == {"-1 EPERM"}


@pytest.mark.probe(6)
def test_links_out_of_the_workspace_lead_nowhere(box: Box, tmp_path: Path) -> None:
    """The server reads through the sandbox's own eyes: a link's target is the sandbox's."""
    secret = box.machine.data_dir / "secret"
    secret.write_text("host")
    box.sh(f"ln -s {secret} one; ln -s /etc/shadow two; ln -s /proc/1/root{secret} three")
    box.sh("ln -s /etc/hostname four")
    for name in ("one", "two", "three"):
        with pytest.raises(Refused, match="SandboxFileError"):
            box.read(name)
    assert box.read("four") == "sandbox\n"


@pytest.mark.probe(7)
def test_a_link_that_changes_while_it_is_read_leads_nowhere(box: Box) -> None:
    """A race between a harmless file and a link to a host's file is never won."""
    secret = box.machine.data_dir / "secret"
    secret.write_text("host")
    swap = f"while :; do echo box >a; mv -f a race; ln -s {secret} b; mv -f b race; done"
    box.sh(f"echo box >race; ({swap}) >/dev/null 2>&1 & exit 0")
    texts: set[str] = set()
    for _ in range(100):
        try:
            texts.add(box.read("race"))
        except Refused:
            texts.add("refused")
    assert texts <= {"box\n", "refused", ""}


@pytest.mark.probe(10)
def test_devices_cannot_be_made(box: Box) -> None:
    """Neither block nor character devices; those that are there are the harmless six."""
    code = """
import stat
for kind in (stat.S_IFBLK, stat.S_IFCHR):
    print(attempt(lambda: os.mknod('/workspace/device', kind | 0o666, os.makedev(8, 0))))
"""
    assert box.python(code).splitlines() == ["EPERM", "EPERM"]
    devices = box.sh("find /dev -type b -o -type c | sort | xargs")
    names = {"full", "null", "ptmx", "random", "tty", "urandom", "zero"}
    assert {device.rsplit("/", 1)[-1] for device in devices.split()} <= names


@pytest.mark.probe(11)
def test_set_user_id_files_give_nothing(box: Box) -> None:
    """The system's own and home-made ones run as the sandbox's user, without capabilities."""
    script = """
    cp /usr/bin/id id; chmod 6777 id; ./id -u
    grep -h CapEff /proc/self/status
    su -c id 2>/dev/null | grep uid=0; sudo -n id 2>/dev/null | grep uid=0; true
    """
    assert box.sh(script).split() == ["1000", "CapEff:", "0" * 16]


@pytest.mark.probe(14)
def test_files_cannot_be_opened_by_handle(box: Box) -> None:
    """The call that passes by all paths is refused."""
    code = "print(call({'x86_64': 304, 'aarch64': 265}[os.uname().machine], 0, 0, 0))"
    assert box.python(code) == "EPERM"


def test_read_only_mounts_stay_read_only(machine: Machine) -> None:
    """What was lent to be read is not written, whoever owns it on the host."""
    lent = machine.data_dir / "lent"
    lent.mkdir(exist_ok=True)
    os.chown(lent, machine.host_uid, machine.host_uid)
    box = machine.box(mounts=({"source": str(lent), "target": "/lent"},))
    assert "Read-only" in box.sh("touch /lent/new")
    assert "Read-only" in box.sh("chmod 777 /lent")
    box.destroy()
    assert list(lent.iterdir()) == []


@pytest.mark.probe(12)
def test_a_base_is_never_changed(machine: Machine) -> None:
    """Writing, deleting and changing modes in the workspace leaves the checkout as it was."""
    base = machine.data_dir / "base"
    (base / "directory").mkdir(parents=True, exist_ok=True)
    (base / "file").write_text("base")
    for place in (base, base / "directory", base / "file"):
        os.chown(place, machine.host_uid, machine.host_uid)
    before = {place.name: place.stat() for place in (base, base / "directory", base / "file")}
    box = machine.box(base=base)
    assert box.sh("echo x >>file && chmod 777 file && rm -r directory && cat file") == "basex"
    box.destroy()
    after = {place.name: place.stat() for place in (base, base / "directory", base / "file")}
    assert (base / "file").read_text() == "base"
    assert {name: (s.st_mode, s.st_mtime_ns) for name, s in after.items()} == {
        name: (s.st_mode, s.st_mtime_ns) for name, s in before.items()
    }


@pytest.mark.probe(16)
def test_two_boxes_do_not_see_each_other(machine: Machine) -> None:
    """Files, processes and shared memory of one are not in the other."""
    one, two = machine.box(), machine.box()
    one.sh(
        "echo here | tee /workspace/f /tmp/f /dev/shm/f ~/f; sleep 1111 >/dev/null 2>&1 & exit 0"
    )
    assert two.sh("ls -A /workspace /tmp /dev/shm ~ | grep -x f") == ""
    assert "sleep" not in two.sh("cat /proc/[0-9]*/comm")
    assert one.namespace() != two.namespace()
    one.destroy()
    two.destroy()


@pytest.mark.probe(6)
def test_a_link_in_the_place_of_a_checkout_leads_nowhere(machine: Machine) -> None:
    """A box that may write the clone cache cannot have the next box shown the host's files."""
    cache, secret = machine.data_dir / "cache", machine.data_dir / "private"
    for place in (cache, secret):
        place.mkdir()
        os.chown(place, machine.host_uid, machine.host_uid)
    (secret / "checkout").mkdir()
    one = machine.box(mounts=({"source": str(cache), "target": "/cache", "writable": True},))
    one.sh(f"ln -s {secret} /cache/link; mkdir /cache/checkout")
    for name in ("link", "link/checkout"):
        with pytest.raises(Refused, match="symbolic link"):
            machine.box(base=cache / name)
        with pytest.raises(Refused, match="symbolic link"):
            machine.box(mounts=({"source": str(cache / name), "target": "/lent"},))
    for box in (machine.box(base=cache / "checkout"), one):
        box.destroy()
