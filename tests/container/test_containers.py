"""What containers keep in beyond the contract: who they run as, and what they leave behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from patchkiln.domain.repository import Checkout
from patchkiln.errors import SandboxUnavailable
from patchkiln.ports.sandbox import IsolationLevel, SandboxLimits
from patchkiln.sandboxes.container.engine import Engine
from patchkiln.sandboxes.container.provider import ContainerSandboxes
from tests.contract.sandbox.making import checkout_at, make, sh, text

_END_S = 30.0


async def test_a_container_is_nobody_and_reaches_nothing(engine: Path, tmp_path: Path) -> None:
    """No root, capability, engine, host file or network inside; nothing of the system is written.

    PID 1 itself has given everything up, and no other process may look into it.
    """
    provider = ContainerSandboxes(tmp_path, socket=str(engine))
    try:
        box = await make(provider)
        look = """
        grep -hE '^(Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t '
        id -u; id -G
        cat /proc/1/environ 2>/dev/null || echo closed
        for f in /usr/x /etc/x /base/x /opt/x /run/x /var/tmp/x /dev/x /sys/x; do
            (: >$f) 2>/dev/null && echo "wrote $f"
        done
        find / -xdev -type s 2>/dev/null; ls -A /opt/patchkiln/line
        ls /sys/class/net; cat /etc/shadow 2>/dev/null; unshare -Ur true 2>/dev/null && echo nested
        exit 0
        """
        seen = (await text(box, look)).split()
        none = "0" * 16
        assert seen == [
            *(f"{name}:{none}" for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")),
            "NoNewPrivs:1",
            *[line for line in seen if line.startswith("Seccomp:")],
            "65533",
            "65533",
            "closed",
            "lo",
        ]
    finally:
        await provider.close()


async def test_the_first_process_withstands_its_container(engine: Path, tmp_path: Path) -> None:
    """It can be neither killed nor stopped from inside, by any signal."""
    provider = ContainerSandboxes(tmp_path, socket=str(engine))
    try:
        box = await make(provider)
        await sh(box, "n=1; while [ $n -le 64 ]; do kill -$n 1; n=$((n + 1)); done; kill -9 -1")
        assert await text(box, "echo alive") == "alive"
    finally:
        await provider.close()


async def test_the_engine_is_asked_for_bounds(engine: Path, tmp_path: Path) -> None:
    """Memory, processes and a read-only root are the engine's to keep, and no log grows."""
    provider = ContainerSandboxes(tmp_path, socket=str(engine))
    try:
        limits = SandboxLimits(memory_bytes=256 << 20, processes=50)
        box = await make(provider, limits=limits)
        host = (await Engine(str(engine)).get(f"/containers/patchkiln-{box.id}/json"))["HostConfig"]
        assert (host["Memory"], host["MemorySwap"]) == (256 << 20, 256 << 20)
        assert 50 < host["PidsLimit"] < 60
        assert host["ReadonlyRootfs"]
        assert host["NetworkMode"] == "none"
        assert host["LogConfig"]["Type"] == "none"
    finally:
        await provider.close()


async def test_a_diff_holds_what_the_container_did(engine: Path, tmp_path: Path) -> None:
    """Changes, deletions and new files show; what was locked against reading is told, not lost."""
    base = _repository(tmp_path / "checkout")
    provider = ContainerSandboxes(tmp_path / "data", socket=str(engine))
    try:
        box = await make(provider, base=base)
        await text(box, "echo two >a; rm gone; echo new >n; chmod 0 locked; mkdir -m 0 d")
        patch = await box.diff()
        names = [line for line in patch.diff.decode().splitlines() if line.startswith("diff ")]
        assert names == [f"diff --git a/{name} b/{name}" for name in ("a", "gone", "n")]
        assert any("locked" in note for note in patch.notes)
        assert await text(box, "stat -c %a locked d; cat a") == "0\n0\ntwo"
    finally:
        await provider.close()


async def test_a_link_in_the_place_of_a_checkout_leads_nowhere(
    engine: Path, tmp_path: Path
) -> None:
    """The engine would follow it with its own rights, so it is never asked to."""
    (tmp_path / "checkout").symlink_to("/etc")
    provider = ContainerSandboxes(tmp_path / "data", socket=str(engine))
    try:
        with pytest.raises(SandboxUnavailable) as caught:
            await make(provider, base=checkout_at(tmp_path / "checkout"))
        assert "symbolic link" in caught.value.message
    finally:
        await provider.close()


async def test_a_killed_server_leaves_nothing(engine: Path, tmp_path: Path) -> None:
    """Its containers end with it, a paused one at the next server's start."""
    program = f"""
import asyncio, sys
from pathlib import Path
from patchkiln.sandboxes.container.provider import ContainerSandboxes
from tests.contract.sandbox.making import make
async def main():
    provider = ContainerSandboxes(Path({str(tmp_path)!r}), socket={str(engine)!r})
    running, paused = await make(provider), await make(provider)
    await paused.pause()
    print(running.id, paused.id, flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""
    running, paused = await asyncio.to_thread(_serve_until_killed, program)
    asked = Engine(str(engine))
    until = time.monotonic() + _END_S
    while f"/patchkiln-{running}" in await _names(asked):
        assert time.monotonic() < until
    assert f"/patchkiln-{paused}" in await _names(asked)
    other = ContainerSandboxes(tmp_path / "other", socket=str(engine))
    await other.isolation()
    assert f"/patchkiln-{paused}" in await _names(asked), "it is another data directory's"
    following = ContainerSandboxes(tmp_path, socket=str(engine))
    await following.isolation()
    assert await _names(asked) == []


async def test_podman_is_not_believed_to_heed_a_runtime(engine: Path, tmp_path: Path) -> None:
    """It would silently take its own: that is refused, with the setting that helps."""
    provider = ContainerSandboxes(tmp_path, socket=str(engine), runtime="runsc")
    isolation = await provider.isolation()
    assert isolation.level is IsolationLevel.NONE
    assert "not with runsc" in isolation.reason
    assert "containers.conf" in isolation.remedy


async def test_a_data_directory_that_fails_is_told_without_its_name(
    engine: Path, tmp_path: Path
) -> None:
    """What the server cannot write on its own disk is a sandbox that cannot be had, with a fix."""
    provider = ContainerSandboxes(tmp_path / "data", socket=str(engine))
    try:
        await provider.isolation()
        lines = tmp_path / "data" / "sandboxes" / "container" / "lines"
        lines.rmdir()
        lines.write_bytes(b"")
        with pytest.raises(SandboxUnavailable) as caught:
            await make(provider)
        assert str(tmp_path) not in f"{caught.value.message} {caught.value.remedy}"
        assert caught.value.remedy
        lines.unlink()
        await (await make(provider)).destroy()
    finally:
        await provider.close()


async def test_an_image_that_is_not_there_is_named_by_its_setting(
    engine: Path, tmp_path: Path
) -> None:
    """Nothing is pulled behind the operator's back."""
    provider = ContainerSandboxes(tmp_path, socket=str(engine), image="localhost/no-such:image")
    isolation = await provider.isolation()
    assert isolation.level is IsolationLevel.NONE
    assert "PATCHKILN_CONTAINER_IMAGE" in isolation.reason


async def test_odd_modes_and_names_survive_a_fork(engine: Path, tmp_path: Path) -> None:
    """What its owner may not read is copied too, and locked again on both sides."""
    provider = ContainerSandboxes(tmp_path, socket=str(engine))
    try:
        box = await make(provider)
        await sh(
            box,
            "mkdir -p a/b; echo x >a/b/f; ln -s /etc/passwd l; ln a/b/f hard; "
            "printf x >\"$(printf 'n\\377')\"; chmod 0 a/b/f a/b a; truncate -s 1G sparse",
        )
        (child,) = await box.fork()
        for each in (box, child):
            assert (await sh(each, "cat a/b/f")).status.exit_code != 0
            await text(each, "chmod 700 a; chmod 700 a/b; chmod 600 a/b/f")
            assert await text(each, "cat a/b/f; readlink l; stat -c %h hard; ls | wc -l") == (
                "x\n/etc/passwd\n2\n5"
            )
            assert int(await text(each, "du -k sparse | cut -f1")) < 1000
    finally:
        await provider.close()


async def _names(engine: Engine) -> list[str]:
    containers = await engine.get("/containers/json", all="1")
    return [name for container in containers for name in container["Names"]]


def _serve_until_killed(program: str) -> list[str]:
    """Run a server until it has told its sandboxes' ids, and kill it."""
    with subprocess.Popen((sys.executable, "-c", program), stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        names = server.stdout.readline().decode().split()
        server.send_signal(signal.SIGKILL)
    return names


def _repository(path: Path) -> Checkout:
    path.mkdir()
    for name in ("a", "gone", "locked"):
        (path / name).write_text("one\n", encoding="utf-8")
    who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    for arguments in (("init", "-q"), ("add", "-A"), (*who, "commit", "-qm", "one")):
        environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull}
        subprocess.run(("git", *arguments), cwd=path, check=True, env=environment)
    return checkout_at(path)
