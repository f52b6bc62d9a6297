"""What the local sandbox says and promises on machines that isolate less than this one.

Each machine is real: made of this one by a process that hides, refuses or fills what such a machine
lacks, and then serves, as root or as an ordinary user.
"""

import shutil
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.security.machine import IDENTITIES, Box, Identity, Machine, processes_in


@contextmanager
def machine_under(identity: Identity, *conditions: str) -> Generator[Machine]:
    """Lend a machine under some conditions."""
    data_dir = Path(tempfile.mkdtemp(prefix="patchkiln-test-"))
    machine = Machine(identity, data_dir, *conditions)
    try:
        yield machine
    finally:
        if machine.process.poll() is None:
            machine.close()
        shutil.rmtree(data_dir)
        shutil.rmtree(f"{data_dir}-root", ignore_errors=True)


@pytest.fixture(params=IDENTITIES)
def identity(request: pytest.FixtureRequest) -> Identity:
    """Return who serves."""
    return "root" if request.param == "root" else "user"


@pytest.mark.parametrize(
    ("condition", "cause", "fix"),
    [
        ("docker", "seccomp filter", "--security-opt seccomp=unconfined"),
        ("chroot", "chroot", "container"),
        ("full disk", "disk of the data directory is full", "PATCHKILN_DATA_DIR"),
        ("closed disk", "cannot write its data directory", "PATCHKILN_DATA_DIR"),
    ],
)
def test_a_machine_that_cannot_isolate_names_cause_and_fix(
    identity: Identity, condition: str, cause: str, fix: str
) -> None:
    """Level none, the cause in the reason, what to do in the remedy, and no path of the host."""
    with machine_under(identity, condition) as machine:
        found = machine.ask("isolation")
        assert found["level"] == "none", found
        assert cause in found["reason"]
        assert fix in found["remedy"]
        assert str(machine.data_dir) not in found["reason"] + found["remedy"]


def test_a_machine_without_user_namespaces_names_the_setting() -> None:
    """The reason names the sysctl, the remedy is what to type."""
    with machine_under("user", "no namespaces") as machine:
        found = machine.ask("isolation")
        assert found["level"] == "none", found
        assert "user.max_user_namespaces is 0" in found["reason"]
        assert "sudo sysctl -w user.max_user_namespaces=" in found["remedy"]


@pytest.mark.skipif("root" not in IDENTITIES, reason="what root lacks in a container")
@pytest.mark.parametrize(
    ("condition", "cause"),
    [("contained root", "CAP_SYS_ADMIN"), ("no namespaces", "lacks the ids")],
)
def test_root_of_a_container_is_told_to_be_a_user(condition: str, cause: str) -> None:
    """Root without the right to mount, or of a namespace with one id, cannot make boxes."""
    with machine_under("root", condition) as machine:
        found = machine.ask("isolation")
        assert found["level"] == "none", found
        assert cause in found["reason"]
        assert "--user 1000:1000" in found["remedy"]


@pytest.mark.parametrize("condition", ["advised", "podman", "noexec"])
def test_what_is_advised_suffices(identity: Identity, condition: str) -> None:
    """Docker's filter with the calls that the remedy names, Podman's as it is, a noexec disk."""
    with machine_under(identity, condition) as machine:
        assert machine.ask("isolation")["level"] in {"L3", "L2"}
        box = machine.box()
        assert box.sh("printf '#!/bin/sh\\necho ran' >x; chmod +x x; ./x") == "ran"


@pytest.fixture(scope="module", params=IDENTITIES)
def masked(request: pytest.FixtureRequest) -> Generator[Machine]:
    """Lend a machine that is a container with a masked /proc, under Podman's default filter."""
    identity: Identity = "root" if request.param == "root" else "user"
    with machine_under(identity, "masked", "podman") as machine:
        yield machine


@pytest.fixture
def shown(masked: Machine) -> Generator[Box]:
    """Lend a sandbox that is shown the container's processes."""
    box = masked.box()
    yield box
    box.destroy()


def test_a_masked_proc_is_level_one(masked: Machine) -> None:
    """The reason says what a sandbox sees, the remedy how to unmask, a fact whose table it is."""
    found = masked.ask("isolation")
    assert found["level"] == "L1", found
    assert "command lines" in found["reason"]
    assert "unmask=ALL" in found["remedy"]
    assert found["facts"]["process table"] == "the container's"


def test_processes_outside_cannot_be_opened_at_level_one(masked: Machine, shown: Box) -> None:
    """Of the server, which it sees, a box reads no memory, environment, file or place."""
    server = masked.ask("isolation")["pid"]
    found = shown.python(
        f"""
place = '/proc/{server}/'
print(os.path.isdir(place), open(place + 'comm').read().startswith('python'))
for name in ('environ', 'maps', 'mem', 'auxv', 'io', 'stack', 'syscall', 'personality', 'pagemap'):
    print(name, attempt(lambda: open(place + name, 'rb').read(1)))
for name in ('cwd', 'root', 'exe', 'fd/0', 'ns/pid', 'map_files'):
    print(name, attempt(lambda: os.listdir(place + name)))
"""
    )
    shows, *lines = found.splitlines()
    assert shows == "True True"
    assert {line.split()[1] for line in lines} <= {"EACCES", "EPERM"}, lines
    assert len(lines) == 15


def test_processes_outside_cannot_be_changed_at_level_one(masked: Machine, shown: Box) -> None:
    """A box raises nobody's score for the killer of the memory's shortage, and signals nobody."""
    server = masked.ask("isolation")["pid"]
    score = Path(f"/proc/{server}/oom_score_adj")
    before = score.read_text()
    found = shown.python(
        f"""
print(attempt(lambda: open('/proc/{server}/oom_score_adj', 'w')))
print(attempt(lambda: open('/proc/{server}/clear_refs', 'w')))
print(attempt(lambda: os.kill({server}, 9)))
print(attempt(lambda: open('/proc/self/oom_score_adj', 'w')))
"""
    )
    assert score.read_text() == before
    assert set(found.split()) <= {"EROFS", "EACCES", "ESRCH", "EPERM"}


def test_sandboxes_cannot_open_each_other_at_level_one(masked: Machine, shown: Box) -> None:
    """One sees that another runs something, and no environment of it."""
    other = masked.box()
    try:
        other.sh("MARK=secret-of-a-sibling setsid sleep 4321 >/dev/null 2>&1 &")
        assert "sleep 4321" in shown.sh("cat /proc/*/cmdline | tr '\\0' ' '")
        assert "secret-of-a-sibling" not in shown.sh("cat /proc/[0-9]*/environ")
        assert "secret-of-a-sibling" in other.sh(
            "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'"
        )
    finally:
        other.destroy()


def test_a_time_limit_ends_what_left_its_session_at_level_one(shown: Box) -> None:
    """Commands are found and killed by their own numbers, though /proc counts otherwise."""
    script = "trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 6543' & sleep 6543"
    result = shown.run("/bin/sh", "-c", script, timeout_s=0.5)
    assert result.reason == "timed_out"
    assert "sleep 6543" not in shown.sh("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")


def test_memory_is_bounded_at_level_one(masked: Machine) -> None:
    """The watchdog finds the box's processes among the container's; a control group needs none."""
    box = masked.box(limits={"memory_bytes": 200 << 20})
    try:
        assert box.python("x = b'x' * (100 << 20); print(len(x) >> 20)") == "100"
        result = box.run("python3", "-c", "x = b'x' * (600 << 20); import time; time.sleep(20)")
        assert result.exit_code == 137
    finally:
        box.destroy()


def test_useful_programs_work_at_level_one(shown: Box) -> None:
    """Own descriptors, substitution of processes, workers of Python, git, and a compiler."""
    assert shown.sh("readlink /proc/self/exe").endswith("readlink")
    assert shown.sh("echo told >/dev/fd/1; echo too >/dev/stderr") == "told\ntoo"
    assert shown.run("/bin/bash", "-c", "cat <(echo one) <(echo two)").stdout == "one\ntwo\n"
    pool = "import multiprocessing as m; print(m.get_context('fork').Pool(2).map(abs, [-1, -2]))"
    assert shown.python(pool) == "[1, 2]"
    assert shown.sh("git init -q . && git add -A && git status -s | wc -l") == "0"
    program = "int main() { return 7; }"
    assert shown.sh(f"echo '{program}' >a.c && (gcc a.c || cc a.c) && ./a.out; echo $?") == "7"


def test_bubblewrap_steps_in_where_the_server_is_refused() -> None:
    """Never in silence: the reason names it and why, a fact too, and the remedy is the server's."""
    with machine_under("user", "old kernel") as machine:
        found = machine.ask("isolation")
        assert found["level"] == "L2", found
        assert found["facts"]["made by"].startswith("bubblewrap")
        assert "made by bubblewrap" in found["reason"]
        assert "the server itself cannot" in found["reason"]
        assert found["remedy"]


@pytest.fixture(scope="module", params=IDENTITIES)
def wrapped(request: pytest.FixtureRequest) -> Generator[Machine]:
    """Lend a machine whose sandboxes bubblewrap makes."""
    identity: Identity = "root" if request.param == "root" else "user"
    with machine_under(identity, "bwrap") as machine:
        yield machine


def test_a_box_of_bubblewrap_is_closed(wrapped: Machine) -> None:
    """No host file, no right, no namespace, no place of the base; the box's own user outside."""
    base = wrapped.data_dir / "a-place-of-the-host"
    base.mkdir()
    (base / "kept").write_text("base\n", encoding="utf-8")
    box = wrapped.box(base=base)
    try:
        assert box.sh("cat kept; echo mine >kept; cat kept") == "base\nmine"
        assert (base / "kept").read_text(encoding="utf-8") == "base\n"
        assert "a-place-of-the-host" not in box.sh("cat /proc/self/mountinfo; ls -a / /run")
        assert box.sh("cat /etc/shadow /root/.profile 2>&1 | grep -vc such") == "0"
        assert (
            box.sh("grep -E 'CapEff|CapBnd' /proc/self/status | tr -d '0\\n\\t'")
            == "CapEff:CapBnd:"
        )
        assert "denied" in box.sh("touch /dev/new /etc/new /usr/new /new").replace(
            "Read-only file system", "denied"
        )
        outside = Path(f"/proc/{processes_in(box.namespace())[0]}/status").read_text()
        assert f"Uid:\t{65533 if wrapped.identity == 'root' else wrapped.host_uid}\t" in outside
        assert box.sh("unshare -U true; mount -t tmpfs x /tmp").count("not permitted") > 0
    finally:
        box.destroy()


def test_nothing_of_a_box_of_bubblewrap_survives(wrapped: Machine) -> None:
    """Neither destruction nor a killed server leaves a daemon that left session and parent."""
    box = wrapped.box()
    box.sh("(setsid sh -c 'trap \"\" TERM HUP; sleep 7777' >/dev/null 2>&1 &)")
    namespace = box.namespace()
    assert processes_in(namespace)
    box.destroy()
    assert not processes_in(namespace)
    with machine_under(wrapped.identity, "bwrap") as other:
        namespace = other.box().namespace()
        assert processes_in(namespace)
        other.kill()
        until = time.monotonic() + 20
        while processes_in(namespace) and time.monotonic() < until:
            time.sleep(0.05)
        assert not processes_in(namespace)


def test_a_shortage_that_is_over_refuses_nothing() -> None:
    """What could not be made beforehand is made when it is wanted, and nobody hears of it."""
    with machine_under("user", "own counts") as machine:
        machine.box()
        machine.ask("allow", kind="cgroup", count=0)
        time.sleep(0.3)
        machine.ask("allow", kind="cgroup", count=1000)
        assert [machine.box().sh("echo alive") for _ in range(4)] == ["alive"] * 4
