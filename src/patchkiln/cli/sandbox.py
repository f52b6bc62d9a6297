"""``patchkiln sandbox run``: one command in a fresh sandbox, its streams and exit code as ours."""

import asyncio
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from patchkiln.bootstrap.services import open_sandboxes
from patchkiln.cli import print_error
from patchkiln.cli.exit_codes import ExitCode
from patchkiln.cli.standard_input import standard_input
from patchkiln.cli.workspace import copy_in
from patchkiln.domain.network import NetworkPolicy
from patchkiln.errors import InvalidRequest, SandboxError, SandboxUnavailable
from patchkiln.ports.execution import ExitReason
from patchkiln.ports.sandbox import (
    IsolationLevel,
    Sandbox,
    SandboxLimits,
    SandboxProvider,
    SandboxSpec,
    new_sandbox_id,
)
from patchkiln.settings import load_settings

UNLIMITED_BYTES = sys.maxsize
STREAMS = {"stdout": 1, "stderr": 2}


def execute(arguments: Namespace) -> int:
    """Run the command; return its exit code, or 124 or 125 as the contract says."""
    command = _command(arguments.command)
    workspace = _workspace(arguments.workspace)
    try:
        return asyncio.run(_run(arguments, command, workspace))
    except SandboxError as error:
        print_error(error)
        return ExitCode.NO_SANDBOX


def _command(words: list[str]) -> list[str]:
    command = words[1:] if words[:1] == ["--"] else words
    if not command:
        raise InvalidRequest(
            "No command is given.",
            field="COMMAND",
            remedy="Write it after '--', for example: patchkiln sandbox run -- python3 --version",
        )
    return command


def _workspace(name: str | None) -> Path | None:
    if name is None:
        return None
    directory = Path(name).absolute()
    if not directory.is_dir():
        raise InvalidRequest(
            f"There is no directory {name}.",
            field="--workspace",
            remedy="Name one, or leave the option out for an empty work directory.",
        )
    return directory


async def _run(arguments: Namespace, command: Sequence[str], workspace: Path | None) -> int:
    if arguments.provider != "local":
        raise SandboxUnavailable(
            f"This version does not serve the provider '{arguments.provider}'.",
            remedy="Leave --provider out: the local sandbox needs no account and no daemon.",
        )
    async with open_sandboxes(load_settings()) as provider:
        sandbox = await _made(provider, arguments)
        try:
            if workspace is not None:
                await copy_in(sandbox, workspace)
            return await _pass_through(sandbox, command, arguments.timeout)
        finally:
            await sandbox.destroy()


async def _made(provider: SandboxProvider, arguments: Namespace) -> Sandbox:
    isolation = await provider.isolation()
    if isolation.level is IsolationLevel.NONE:
        raise SandboxUnavailable(isolation.reason, remedy=isolation.remedy)
    memory = arguments.memory
    limits = SandboxLimits() if memory is None else SandboxLimits(memory_bytes=memory)
    # Named by the person at this terminal, so a private address is meant.
    rules = tuple(replace(rule, trusted=True) for rule in arguments.network)
    network = NetworkPolicy(rules=rules)
    return await provider.create(SandboxSpec(id=new_sandbox_id(), limits=limits, network=network))


async def _pass_through(sandbox: Sandbox, command: Sequence[str], timeout_s: float | None) -> int:
    execution = await sandbox.exec(
        command,
        stdin=standard_input(),
        timeout_s=timeout_s,
        max_output_bytes=UNLIMITED_BYTES,
    )
    async for chunk in execution:
        # In a thread: a reader that stalls must not hold up the time limit.
        await asyncio.to_thread(_write, STREAMS[chunk.stream], chunk.data)
    status = await execution.wait()
    if status.reason is ExitReason.TIMED_OUT:
        print(f"patchkiln: the time limit of {timeout_s:g} s was reached", file=sys.stderr)
        return ExitCode.TIMED_OUT
    return status.exit_code


def _write(stream: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(stream, view) :]
