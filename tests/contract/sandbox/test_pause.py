"""The contract of pausing, measuring and finding again."""

import asyncio
import signal

import pytest

from patchkiln.errors import SandboxLost, SandboxNotFound, SandboxPaused
from patchkiln.ports.execution import ExitReason
from patchkiln.ports.sandbox import Capability, Sandbox, SandboxLimits, SandboxProvider
from patchkiln.sandboxes.local.commands import execution
from tests.contract.sandbox.making import lacks, make, sh, text
from tests.contract.sandbox.test_lifetime import CALLS

pytestmark = pytest.mark.asyncio(loop_scope="package")

COUNT = "i=0; while :; do i=$((i+1)); echo $i >/tmp/count; done"


async def test_nothing_moves_in_a_paused_sandbox(provider: SandboxProvider, box: Sandbox) -> None:
    """Its processes take no processor time, whatever they do, and go on where they stood."""
    if await lacks(provider, Capability.PAUSE, box.pause):
        return
    busy = await box.exec(["sh", "-c", f"trap '' TSTP TTIN TTOU; {COUNT}"])
    await box.exec(["sh", "-c", "while :; do sh -c : & wait; done"])
    await text(box, "until [ -e /tmp/count ]; do sleep 0.01; done")
    await box.pause()
    await box.pause()
    first = await box.metrics()
    await asyncio.sleep(0.3)
    assert (await box.metrics()).cpu_ms == first.cpu_ms
    await box.resume()
    await box.resume()
    count = "cat /tmp/count"
    earlier = await text(box, count)
    await text(box, f"until [ $({count}) != {earlier} ]; do sleep 0.01; done")
    await busy.kill()


PAUSED_TOO = {"pause", "resume", "metrics"}


async def test_a_paused_sandbox_refuses_every_call(provider: SandboxProvider, box: Sandbox) -> None:
    """All but resuming, measuring and destroying; afterwards it answers as before."""
    if await lacks(provider, Capability.PAUSE, box.pause):
        return
    await text(box, "echo kept >f")
    await box.pause()
    for call in (call for name, call in CALLS.items() if name not in PAUSED_TOO):
        with pytest.raises(SandboxPaused):
            await call(box)
    await box.resume()
    assert await text(box, "cat f") == "kept"


async def test_the_time_limit_of_a_command_stands_still_too(
    provider: SandboxProvider, box: Sandbox
) -> None:
    """A pause longer than the limit costs the command nothing, and its limit holds afterwards."""
    if await lacks(provider, Capability.PAUSE, box.pause):
        return
    quick = await box.exec(["sh", "-c", "until [ -e go ]; do sleep 0.01; done"], timeout_s=2)
    slow = await box.exec(["sleep", "1111"], timeout_s=0.5)
    await box.pause()
    await asyncio.sleep(2.2)
    await box.resume()
    await text(box, "touch go")
    assert (await quick.wait()).reason is ExitReason.EXITED
    assert (await slow.wait()).reason is ExitReason.TIMED_OUT


async def test_who_asks_for_a_number_waits_for_the_end_of_a_pause(
    provider: SandboxProvider, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it is, the sandbox is not taken for one that answers no more."""
    if await lacks(provider, Capability.PAUSE, box.pause):
        return
    monkeypatch.setattr(execution, "KILL_GRACE_S", 0.5)
    command = await box.exec(["sh", "-c", "echo $$; exec sleep 1111"], timeout_s=60)
    number = int((await anext(aiter(command))).data)
    await box.pause()
    asking = asyncio.create_task(command.pid())
    await asyncio.sleep(0.8)
    await box.resume()
    assert await asking == number
    await command.kill()


async def test_no_signal_ends_a_pause(provider: SandboxProvider, box: Sandbox) -> None:
    """A command that is told to go on does so when the sandbox does, not before."""
    if not {Capability.PAUSE, Capability.SIGNAL} <= provider.capabilities:
        return
    command = await box.exec(["sh", "-c", COUNT], timeout_s=60)
    await text(box, "until [ -e /tmp/count ]; do sleep 0.01; done")
    await command.signal(signal.SIGSTOP)
    await text(box, f"until grep -q 'T (stop' /proc/{await command.pid()}/status; do :; done")
    await box.pause()
    await command.signal(signal.SIGCONT)
    await asyncio.sleep(0.1)
    first = await box.metrics()
    await asyncio.sleep(0.3)
    assert (await box.metrics()).cpu_ms == first.cpu_ms
    await box.resume()
    await text(box, "a=$(cat /tmp/count); until [ $(cat /tmp/count) != $a ]; do sleep 0.01; done")
    await command.kill()


VFORK = """
#include <unistd.h>
int main(void) {
    if (!vfork()) { while (access("go", F_OK)) usleep(1000); _exit(0); }
    return 0;
}
"""


async def test_who_waits_for_its_child_is_paused_too(
    provider: SandboxProvider, box: Sandbox
) -> None:
    """Between vfork and exec the parent cannot be stopped, and cannot run either."""
    if await lacks(provider, Capability.PAUSE, box.pause):
        return
    await box.write("parent.c", VFORK.encode())
    await text(box, "gcc -w -o parent parent.c")
    parent = await box.exec(["./parent"], timeout_s=60)
    await text(box, "until grep -q '^State:.D' /proc/[0-9]*/status; do sleep 0.01; done")
    await box.pause()
    await box.resume()
    await text(box, "touch go")
    assert (await parent.wait()).exit_code == 0


async def test_what_was_stopped_before_a_pause_stays_so(
    provider: SandboxProvider, box: Sandbox
) -> None:
    """Resuming continues what the pause stopped, and nothing that the sandbox stopped itself."""
    if await lacks(provider, Capability.PAUSE, box.pause):
        return
    script = (
        "sleep 1111 & kill -STOP $!; until grep -q 'T (stop' /proc/$!/status; do :; done; echo $!"
    )
    stopped = await text(box, f"exec 2>&1; ({script}) >pid & sleep 0.1; cat pid")
    await box.pause()
    await box.resume()
    assert await text(box, f"cut -d' ' -f3 /proc/{stopped}/stat") == "T"


async def test_a_paused_sandbox_can_be_destroyed(provider: SandboxProvider) -> None:
    """Whoever reads its commands learns it, and then it is lost to every call."""
    box = await make(provider)
    if await lacks(provider, Capability.PAUSE, box.pause):
        return
    reading = asyncio.create_task((await box.exec(["sleep", "1111"])).wait())
    await asyncio.sleep(0)
    await box.pause()
    await box.destroy()
    with pytest.raises(SandboxLost):
        await reading
    for call in (box.metrics, box.resume, box.pause, lambda: box.exec(["true"])):
        with pytest.raises(SandboxLost):
            await call()


async def test_metrics_tell_use_and_limits(provider: SandboxProvider) -> None:
    """Work, memory, processes and files each show; what cannot be told is None, never a guess."""
    limits = SandboxLimits(memory_bytes=512 << 20, disk_bytes=64 << 20)
    box = await make(provider, limits=limits)
    try:
        before = await box.metrics()
        await sh(box, "head -c 8M /dev/zero >f; for i in 1 2 3 4; do sleep 1111 & done; exit 0")
        await text(box, "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
        after = await box.metrics()
        assert before.disk_limit_bytes in {None, 64 << 20}
        assert before.memory_limit_bytes in {None, 512 << 20}
        least = {"cpu_ms": 20, "memory_bytes": 1, "processes": 4, "disk_bytes": 8 << 20}
        for name, growth in least.items():
            was, now = getattr(before, name), getattr(after, name)
            assert (was is None) == (now is None), name
            assert was is None or now >= was + growth, name
    finally:
        await box.destroy()


async def test_a_living_sandbox_is_found_by_its_id(provider: SandboxProvider) -> None:
    """What is found is the same one; one that has ended, or never was, is not found."""
    box = await make(provider)
    if await lacks(provider, Capability.ATTACH, lambda: provider.attach(box.id)):
        return
    await text(box, "echo kept >f")
    found = await provider.attach(box.id)
    assert (found.id, await text(found, "cat f")) == (box.id, "kept")
    await box.destroy()
    for name in (box.id, "sbx_unknown"):
        with pytest.raises(SandboxNotFound):
            await provider.attach(name)
