"""Small parts of the local sandbox: gate, plans, judgement, lent packages, the zygote's weight."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from patchkiln.errors import SandboxLost
from patchkiln.ports import sandbox as port
from patchkiln.ports.sandbox import IsolationLevel, SandboxSpec
from patchkiln.sandboxes.local import zygote_process
from patchkiln.sandboxes.local.box import layout
from patchkiln.sandboxes.local.gate import Gate
from patchkiln.sandboxes.local.generation import Origin
from patchkiln.sandboxes.local.listing import parse_entries, parse_entry, parse_path
from patchkiln.sandboxes.local.planning import plan_box
from patchkiln.sandboxes.local.selftest.examination import Observation, judge
from patchkiln.sandboxes.local.selftest.facts import MachineFacts
from patchkiln.sandboxes.local.selftest.toolchain import build_toolchain
from patchkiln.sandboxes.local.selftest.tools import Tools, may_be_lent

GOOD = {
    "Uid:": "1000",
    "CapEff:": "0" * 16,
    "NoNewPrivs:": "1",
    "Seccomp:": "2",
    "processes": "own",
    "control": "works",
    "routes": "0",
    "workspace": "writable",
    "overlay": "works",
}


def observation(
    *,
    cgroup: int = 2,
    host_uid: int | None = None,
    changed: dict[str, str] | None = None,
    release: str = "6.12.0",
    shared_proc: bool = False,
) -> Observation:
    """Return what a self-test may have seen."""
    return Observation(
        findings={**GOOD, **(changed or {})},
        machine=MachineFacts(release=release, architecture="x86_64"),
        shared_proc=shared_proc,
        host_uid=host_uid,
        as_root=True,
        cgroup=cgroup,
        landlock=7,
        python="3.11",
    )


def test_a_perfect_box_is_level_three() -> None:
    """There is nothing to remedy."""
    isolation = judge(observation(host_uid=layout.HOST_UID))
    assert (isolation.level, isolation.remedy) == (IsolationLevel.FULL, "")


def test_without_control_groups_it_is_level_two_with_the_fix() -> None:
    """The remedy says how to get one."""
    isolation = judge(observation(cgroup=0))
    assert isolation.level is IsolationLevel.NO_CGROUP
    assert "Delegate=yes" in isolation.remedy


def test_a_shared_process_table_is_level_one_with_the_fix() -> None:
    """The reason says what a box sees, the remedy how to give it a /proc of its own."""
    isolation = judge(observation(shared_proc=True, changed={"processes": ""}))
    assert isolation.level is IsolationLevel.MASKED_PROC
    assert "command lines" in isolation.reason
    assert "unmask=ALL" in isolation.remedy
    assert "Delegate=yes" not in isolation.remedy
    both = judge(observation(shared_proc=True, changed={"processes": ""}, cgroup=0))
    assert both.level is IsolationLevel.MASKED_PROC
    assert "Delegate=yes" in both.remedy


def test_a_shared_process_table_excuses_nothing_else() -> None:
    """What a box could open of another process is a fault at every level."""
    for name in ("exposed", "scores"):
        seen = observation(shared_proc=True, changed={"processes": "", name: "yes"})
        assert judge(seen).level is IsolationLevel.NONE


def test_an_overlay_that_an_old_kernel_cannot_do_names_the_kernel() -> None:
    """A fault that is the kernel's is not to be reported as a bug."""
    isolation = judge(observation(changed={"overlay": ""}, release="6.1.0-25-amd64"))
    assert isolation.level is IsolationLevel.NONE
    assert "6.1.0-25-amd64" in isolation.reason
    assert "Linux 6.6" in isolation.remedy


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "other") for name in GOOD),
        ("system", "writable"),
        ("settings", "writable"),
        ("passwords", "visible"),
        ("host", "visible"),
        ("exposed", "yes"),
        ("scores", "writable"),
    ],
)
def test_any_fault_means_no_isolation(name: str, value: str) -> None:
    """One finding that is not as it must be, and no run is started."""
    isolation = judge(observation(changed={name: value}))
    assert isolation.level is IsolationLevel.NONE
    assert isolation.remedy


def test_root_on_the_host_means_no_isolation() -> None:
    """Whatever the box says of itself, the host knows who it is."""
    assert judge(observation(host_uid=0)).level is IsolationLevel.NONE


async def test_the_gate_lets_many_in_or_one_alone() -> None:
    """Who wants to be alone evicts the others and waits for them; others wait for who is alone."""
    gate = Gate()
    story: list[str] = []

    async def together(name: str, pauses: int) -> None:
        async with gate.together():
            story.append(f"{name} in")
            for _ in range(pauses):
                await asyncio.sleep(0)
            story.append(f"{name} out")

    async def evict() -> None:
        story.append("evicted")

    async def alone() -> None:
        async with gate.alone(evict):
            story.append("alone in")
            await asyncio.sleep(0)
            story.append("alone out")

    first = [asyncio.create_task(together(name, 5)) for name in "ab"]
    await asyncio.sleep(0)
    single = asyncio.create_task(alone())
    await asyncio.sleep(0)
    late = asyncio.create_task(together("c", 0))
    await asyncio.gather(*first, single, late)
    assert story[:3] == ["a in", "b in", "evicted"]
    assert story[5:] == ["alone in", "alone out", "c in", "c out"]


@pytest.mark.parametrize("name", ["", "a/b", "..", "a,b", "a:b", "x" * 65])
def test_an_id_that_is_no_name_is_a_mistake(name: str) -> None:
    """It becomes part of paths and of mount options."""
    with pytest.raises(ValueError, match="letters, digits"):
        plan_box(SandboxSpec(id=name), Tools(), Origin())


@pytest.mark.parametrize(
    "data", [b"{", b"[" * 100_000, b"1", b'["a"]', b'["a", "door", 1, 1, null]']
)
def test_nonsense_about_files_means_that_the_sandbox_is_lost(data: bytes) -> None:
    """What a box says of its files is checked field by field."""
    for listing in (data, data + b"\n"):
        with pytest.raises(SandboxLost):
            parse_entries(listing, "/")
    with pytest.raises(SandboxLost):
        parse_entry(data)
    with pytest.raises(SandboxLost):
        parse_path(data)


def test_an_interpreter_that_is_no_place_of_its_own_is_not_lent(tmp_path: Path) -> None:
    """Neither the whole tree nor a home nor what holds the server's data; nor what all see."""
    data = tmp_path / "app" / "data"
    python = tmp_path / "app" / "python"
    assert may_be_lent(python, data)
    assert may_be_lent(Path.home() / "python", data)
    for prefix in ("/", "/usr", "/usr/local", Path.home(), Path.home().parent, data, data.parent):
        assert not may_be_lent(Path(prefix), data)


def test_a_listing_is_bounded() -> None:
    """What no honest box would send makes it lost, however little of it there is."""
    entry = b'["a", "file", 1, 1, null]\n'
    assert parse_entries(b"", "/") == []
    assert len(parse_entries(entry * 10_000, "/")) == 10_000
    for listing in (entry * 10_001, entry[:-1], b"[" + b" " * 100_000 + entry[1:]):
        with pytest.raises(SandboxLost):
            parse_entries(listing, "/")


def test_the_lent_packages_run_a_suite_alone(tmp_path: Path) -> None:
    """They are complete, readable by all, and made once."""
    before = os.umask(0o077)
    try:
        directory = build_toolchain(tmp_path / "toolchain")
    finally:
        os.umask(before)
    assert build_toolchain(tmp_path / "toolchain") == directory
    assert [path.name for path in (tmp_path / "toolchain").iterdir()] == [directory.name]
    modes = {path.stat().st_mode & 0o777 for path in directory.rglob("*")}
    assert modes == {0o755, 0o644}
    assert not list(directory.rglob("*.so"))
    done = subprocess.run(
        [sys.executable, "-S", "-m", "pytest", "--version"],
        env={"PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout.startswith("pytest ")


def test_the_zygote_loads_little() -> None:
    """It starts bare and stays small: no event loop, no packages, nothing that it does not use."""
    program = (
        "import json, sys; sys.path.append(sys.argv[1]); "
        "import patchkiln.sandboxes.local.zygote.main; print(json.dumps(sorted(sys.modules)))"
    )
    source = str(Path(zygote_process.__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, source],
        env={},
        capture_output=True,
        check=True,
        text=True,
    )
    loaded = set(json.loads(done.stdout))
    heavy = {"asyncio", "dataclasses", "inspect", "pathlib", "subprocess", "threading", "logging"}
    assert not loaded & heavy
    assert not {name for name in loaded if name.startswith("patchkiln.ports")}


def test_both_sides_agree_on_places() -> None:
    """The zygote does without the port's module, and says the same."""
    assert (layout.WORKSPACE, layout.HOME) == (port.WORKSPACE, port.HOME)
