"""``patchkiln sandbox run``: one command in a fresh sandbox, its streams and exit code as ours."""

import asyncio
import ipaddress
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from patchkiln.bootstrap.services import open_sandboxes
from patchkiln.cli import print_error
from patchkiln.cli.exit_codes import ExitCode
from patchkiln.cli.standard_input import standard_input
from patchkiln.cli.terminal import check_terminal, lent_terminal, terminal_size
from patchkiln.cli.workspace import copy_in
from patchkiln.domain.network import (
    ANY_HOST,
    AllowedAddress,
    NetworkPolicy,
    NetworkRefusal,
    NetworkRule,
)
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
from patchkiln.settings import SERVED_SANDBOXES, load_settings

UNLIMITED_BYTES = sys.maxsize
STREAMS = {"stdout": 1, "stderr": 2}


def execute(arguments: Namespace) -> int:
    """Run the command; return its exit code, or 124 or 125 as the contract says."""
    command = _command(arguments.command)
    if arguments.tty:
        check_terminal()
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
    settings = load_settings()
    name = arguments.provider or settings.sandbox[0]
    if name not in SERVED_SANDBOXES:
        raise SandboxUnavailable(
            f"This version does not serve the provider '{name}'.",
            remedy=f"Choose --provider {' or '.join(SERVED_SANDBOXES)}.",
        )
    async with open_sandboxes(settings, (name,)) as providers:
        sandbox = await _made(providers[name], arguments, settings.network_allow)
        try:
            if workspace is not None:
                await copy_in(sandbox, workspace)
            return await _pass_through(sandbox, command, arguments)
        finally:
            await sandbox.destroy()


async def _made(
    provider: SandboxProvider, arguments: Namespace, addresses: tuple[AllowedAddress, ...]
) -> Sandbox:
    isolation = await provider.isolation()
    if isolation.level is IsolationLevel.NONE:
        raise SandboxUnavailable(isolation.reason, remedy=isolation.remedy)
    memory = arguments.memory
    limits = SandboxLimits() if memory is None else SandboxLimits(memory_bytes=memory)
    spec = SandboxSpec(
        id=new_sandbox_id(),
        env=dict(arguments.env),
        limits=limits,
        network=NetworkPolicy(rules=_rules(arguments), addresses=addresses),
        on_refused=_tell_refusal,
    )
    return await provider.create(spec)


def _rules(arguments: Namespace) -> tuple[NetworkRule, ...]:
    """Join the hosts with their credentials.

    Addresses, and this machine's own name, were written by the person at this terminal: a private
    one is meant. What another name leads to, its owner decides.
    """
    credentials = dict(arguments.credential)
    rules = tuple(
        replace(rule, trusted=_is_exact(rule.host), credential=credentials.get(rule.host))
        for rule in arguments.network
    )
    _check_owners(set(credentials), {rule.host for rule in rules})
    return rules


def _check_owners(owners: set[str], hosts: set[str]) -> None:
    """Raise `InvalidRequest` for credentials that nobody would get, and one that anybody would."""
    if owners - hosts:
        raise InvalidRequest(
            f"--credential names {', '.join(sorted(owners - hosts))}, which --network does not.",
            field="--credential",
            remedy="Name the host in --network as well, in the same spelling.",
        )
    if ANY_HOST in owners:
        raise InvalidRequest(
            "A credential for every host would be sent to whichever host the command chooses.",
            field="--credential",
            remedy="Name the one host that it is for, in --network and in --credential.",
        )


def _is_exact(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _tell_refusal(refusal: NetworkRefusal) -> None:
    place = f"{refusal.host}, port {refusal.port}"
    print(f"patchkiln: not reached: {place}: {refusal.rule}", file=sys.stderr)


async def _pass_through(sandbox: Sandbox, command: Sequence[str], arguments: Namespace) -> int:
    timeout_s: float | None = arguments.timeout
    terminal = terminal_size() if arguments.tty else None
    execution = await sandbox.exec(
        command,
        env={"TERM": os.environ.get("TERM", "xterm")} if terminal else None,
        stdin=b"" if terminal else standard_input(),
        timeout_s=timeout_s,
        max_output_bytes=UNLIMITED_BYTES,
        terminal=terminal,
    )
    async with lent_terminal(execution) if terminal else nullcontext():
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
