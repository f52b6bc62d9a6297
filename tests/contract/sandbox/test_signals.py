"""The contract of signals, and of a command's number."""

import contextlib
import signal

import pytest

from patchkiln.errors import SandboxError, SandboxUnsupported
from patchkiln.ports.execution import Execution, ExitReason, capture
from patchkiln.ports.sandbox import Capability, Sandbox, SandboxProvider
from tests.contract.sandbox.making import text

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.one_provider]


async def when_up(box: Sandbox, script: str) -> Execution:
    """Start a script that makes the file ``up``, and wait for that."""
    execution = await box.exec(["bash", "-c", script], timeout_s=60)
    await text(box, "while [ ! -e up ]; do sleep 0.01; done; rm up")
    return execution


def able(provider: SandboxProvider) -> bool:
    """Tell whether the provider declares signals."""
    return Capability.SIGNAL in provider.capabilities


@pytest.mark.every_provider
async def test_what_is_not_declared_is_refused(box: Sandbox, provider: SandboxProvider) -> None:
    """Where the provider declares none, only SIGKILL is taken."""
    execution = await box.exec(["sleep", "1111"], timeout_s=60)
    with contextlib.nullcontext() if able(provider) else pytest.raises(SandboxUnsupported):
        await execution.signal(signal.SIGCONT)
    await execution.signal(signal.SIGKILL)
    status = await execution.wait()
    assert (status.exit_code, status.reason) == (137, ExitReason.KILLED)


@pytest.mark.every_provider
async def test_a_trap_decides(box: Sandbox, provider: SandboxProvider) -> None:
    """The command handles what it handles; nobody calls that killed."""
    if not able(provider):
        return
    script = "trap 'echo got; exit 4' TERM; touch up; while :; do sleep 0.02; done"
    execution = await when_up(box, script)
    await execution.signal(signal.SIGTERM)
    output = await capture(execution)
    assert (output.stdout, output.status.exit_code) == (b"got\n", 4)
    assert output.status.reason is ExitReason.EXITED


async def test_the_whole_group_is_told(box: Sandbox, provider: SandboxProvider) -> None:
    """Children in the command's process group get the signal, those of another do not."""
    if not able(provider):
        return
    script = (
        "setsid sh -c 'trap \"\" TERM; while [ ! -e end ]; do sleep 0.02; done; touch other' & "
        "sh -c 'trap \"touch child; exit\" TERM; touch up; while :; do sleep 0.02; done' & wait"
    )
    execution = await when_up(box, script)
    await execution.signal(signal.SIGTERM)
    assert (await execution.wait()).exit_code == 128 + signal.SIGTERM
    await text(box, "while [ ! -e child ]; do sleep 0.02; done; touch end")
    await text(box, "while [ ! -e other ]; do sleep 0.02; done")


async def test_a_command_is_stopped_and_goes_on(box: Sandbox, provider: SandboxProvider) -> None:
    """SIGSTOP and SIGCONT are signals like others; the command's number shows its state."""
    if not able(provider):
        return
    execution = await when_up(box, "touch up; sleep 0.3; echo done")
    number = await execution.pid()
    state = f"cut -d' ' -f3 /proc/{number}/stat"
    await execution.signal(signal.SIGSTOP)
    assert await text(box, f"sleep 0.5; {state}") == "T"
    await execution.signal(signal.SIGCONT)
    assert (await capture(execution)).stdout == b"done\n"


async def test_what_has_ended_takes_no_signal(box: Sandbox, provider: SandboxProvider) -> None:
    """Not even when its group lives on: that is not the command any more."""
    if not able(provider):
        return
    execution = await box.exec(["sh", "-c", "sleep 1111 & echo $!"], timeout_s=60)
    output = await capture(execution)
    await execution.signal(signal.SIGKILL)
    state = f"cut -d' ' -f3 /proc/{int(output.stdout)}/stat"
    assert await text(box, state) == "S"


@pytest.mark.every_provider
async def test_the_number_is_the_one_inside(box: Sandbox) -> None:
    """A command knows itself by the number that is told; one that has ended, or never ran, none."""
    execution = await box.exec(["sh", "-c", "echo $$; exec sleep 1111"], timeout_s=60)
    assert (await anext(aiter(execution))).data == b"%d\n" % await execution.pid()
    await execution.kill()
    missing = await box.exec(["no-such-program"])
    await missing.wait()
    for gone in (execution, missing):
        with pytest.raises(SandboxError):
            await gone.pid()


async def test_numbers_that_are_no_signal_are_mistakes(
    box: Sandbox, provider: SandboxProvider
) -> None:
    """They are told at once."""
    if not able(provider):
        return
    execution = await box.exec(["sleep", "1111"], timeout_s=60)
    for number in (0, -9, 1000):
        with pytest.raises(ValueError, match="signal"):
            await execution.signal(number)
    await execution.kill()
