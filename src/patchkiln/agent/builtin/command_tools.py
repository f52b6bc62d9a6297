"""The tools that run commands: searches, and the shell."""

import posixpath
from collections.abc import Sequence
from fnmatch import fnmatch

from pydantic_ai import RunContext

from patchkiln.agent.builtin.clipping import (
    MAX_LINE_CHARS,
    MAX_RESULT_CHARS,
    clip,
    one_line,
    tail,
)
from patchkiln.agent.builtin.workbench import Workbench
from patchkiln.agent.builtin.workspace import run_in
from patchkiln.ports.agent import AgentUpdate
from patchkiln.ports.execution import CapturedOutput, ExitReason, ExitStatus

MAX_LISTED_FILES = 500
MAX_MATCHES = 200
MAX_MATCH_CHARS = 300
MAX_COMMAND_S = 600.0
MAX_SHELL_BYTES = 64 << 20
SEARCH_TIMEOUT_S = 60.0
MAX_SEARCH_BYTES = 8 << 20
SKIPPED_DIRECTORIES = (
    ".git", ".hg", ".mypy_cache", ".nox", ".pytest_cache", ".ruff_cache", ".tox", ".venv",
    "__pycache__", "node_modules", "venv",
)  # fmt: skip
# Models write bash; where the sandbox has none, the same words go to sh. Both streams are joined,
# because the order of what was printed says more than where it was printed.
SHELL = ("/bin/sh", "-c", 'exec "$(command -v bash || command -v sh)" -c "$1" 2>&1', "sh")


async def list_files(ctx: RunContext[Workbench], path: str = ".", glob: str | None = None) -> str:
    """List the files below a directory, without caches, dependencies and .git.

    Args:
        ctx: The run.
        path: The directory, relative to the project's root.
        glob: Only files whose name or path matches, such as *.py.
    """
    skipped = [part for name in SKIPPED_DIRECTORIES for part in ("-o", "-name", name)][1:]
    argv = ["find", _operand(path), "(", *skipped, ")", "-prune", "-o", "-type", "f", "-print"]
    output = await _search(ctx, argv)
    names = sorted(name.removeprefix("./") for name in _lines(output))
    if glob is not None:
        names = [
            name for name in names if fnmatch(posixpath.basename(name), glob) or fnmatch(name, glob)
        ]
    return _bounded(names, MAX_LISTED_FILES, "files") or _nothing(output, "No files.")


async def grep(
    ctx: RunContext[Workbench], pattern: str, path: str = ".", glob: str | None = None
) -> str:
    """Search file contents. Gives path:line:text.

    Args:
        ctx: The run.
        pattern: An extended regular expression (POSIX, so [0-9] and not backslash d).
        path: A directory or file, relative to the project's root.
        glob: Only files whose name matches, such as *.py.
    """
    skipped = [f"--exclude-dir={name}" for name in SKIPPED_DIRECTORIES]
    included = [] if glob is None else [f"--include={glob}"]
    argv = ["grep", "-rnIE", *skipped, *included, "-e", pattern, "--", _operand(path)]
    output = await _search(ctx, argv)
    matches = [one_line(line.removeprefix("./"), MAX_MATCH_CHARS) for line in _lines(output)]
    return _bounded(matches, MAX_MATCHES, "matches") or _nothing(output, "No matches.")


async def shell(ctx: RunContext[Workbench], command: str, timeout_s: float = 120.0) -> str:
    """Run a shell command in the project's root, and wait for its end. There is no network.

    Args:
        ctx: The run.
        command: For bash.
        timeout_s: Seconds after which it is killed, at most 600.
    """
    limit_s = min(max(1.0, timeout_s), MAX_COMMAND_S)
    output = await run_in(
        ctx.deps.sandbox,
        [*SHELL, command],
        timeout_s=limit_s,
        kept_bytes=MAX_RESULT_CHARS,
        max_output_bytes=MAX_SHELL_BYTES,
    )
    printed = output.stdout.decode(errors="replace")
    ctx.deps.notes.add(ctx.tool_call_id, _command_finished(command, output.status, printed))
    return f"{_ending(output.status, limit_s)}\n{clip(printed)}"


async def _search(ctx: RunContext[Workbench], argv: Sequence[str]) -> CapturedOutput:
    return await run_in(
        ctx.deps.sandbox,
        argv,
        timeout_s=SEARCH_TIMEOUT_S,
        kept_bytes=MAX_SEARCH_BYTES,
        max_output_bytes=MAX_SEARCH_BYTES,
    )


def _operand(path: str) -> str:
    """Return a path that no program takes for an option."""
    return path if path.startswith(("/", ".")) else f"./{path}"


def _lines(output: CapturedOutput) -> list[str]:
    return output.stdout.decode(errors="backslashreplace").splitlines()


def _bounded(lines: Sequence[str], limit: int, noun: str) -> str:
    rest = len(lines) - limit
    more = f"\n[{rest} more {noun}; narrow the search.]" if rest > 0 else ""
    return "\n".join(lines[:limit]) + more


def _nothing(output: CapturedOutput, answer: str) -> str:
    return clip(output.stderr.decode(errors="replace").strip(), MAX_LINE_CHARS) or answer


def _command_finished(command: str, status: ExitStatus, printed: str) -> AgentUpdate:
    seconds = status.duration_ms / 1000
    return AgentUpdate(
        event="agent.command_finished",
        message=f"Ran {one_line(command, 80)} (exit code {status.exit_code}, {seconds:.1f} s)",
        data={
            "command": clip(command, MAX_LINE_CHARS),
            "exit_code": status.exit_code,
            "reason": status.reason.value,
            "duration_ms": status.duration_ms,
            "tail": tail(printed, MAX_LINE_CHARS),
        },
    )


def _ending(status: ExitStatus, limit_s: float) -> str:
    if status.reason is ExitReason.TIMED_OUT:
        return f"Killed after {limit_s:.0f} s. What it had printed:"
    if status.reason is ExitReason.OUTPUT_LIMIT:
        return "Killed because it printed without end. What is kept of it:"
    return f"Exit code {status.exit_code}."
