"""The tools that read and change files."""

from collections.abc import Sequence

from pydantic_ai import RunContext
from pydantic_ai.exceptions import ToolFailed

from patchkiln.agent.builtin.clipping import MAX_LINE_CHARS, MAX_RESULT_CHARS, clip, one_line
from patchkiln.agent.builtin.editing import edit
from patchkiln.agent.builtin.workbench import Workbench
from patchkiln.ports.agent import AgentUpdate
from patchkiln.ports.sandbox import WORKSPACE

MAX_READ_LINES = 2000


async def read_file(
    ctx: RunContext[Workbench], path: str, offset: int = 1, limit: int = MAX_READ_LINES
) -> str:
    """Read a text file. Lines come with their numbers, which are not part of the file.

    Args:
        ctx: The run.
        path: Relative to the project's root, or absolute.
        offset: The first line to read, from 1.
        limit: The most lines to read.
    """
    data = _checked(path, await ctx.workspace.read_bytes(path))
    lines = data.decode(errors="replace").replace("\r\n", "\n").split("\n")
    if lines[-1] == "":
        lines.pop()
    first = max(1, offset)
    if first > len(lines):
        return f"{path} has {len(lines)} lines."
    shown = _numbered(lines[first - 1 : first - 1 + max(1, limit)], first)
    last = first + len(shown) - 1
    note = f"\n[Continue with offset={last + 1}.]" if last < len(lines) else ""
    return f"{path}, lines {first} to {last} of {len(lines)}\n" + "\n".join(shown) + note


async def write_file(ctx: RunContext[Workbench], path: str, content: str) -> str:
    """Make a file, or replace the whole of one. To change a part of a file use edit_file.

    Args:
        ctx: The run.
        path: Relative to the project's root, or absolute.
        content: The whole new content.
    """
    existed = await ctx.workspace.exists(path)
    await ctx.workspace.write_bytes(path, content.encode())
    await _note_edit(ctx, path, created=not existed)
    return f"{'Replaced' if existed else 'Made'} {path}, {len(content.splitlines())} lines."


async def edit_file(
    ctx: RunContext[Workbench],
    path: str,
    old_text: str,
    new_text: str,
    replace_all: bool = False,  # noqa: FBT001, FBT002 - the model calls it by name
) -> str:
    """Replace a piece of a file. old_text must stand in it exactly once, white space included.

    Args:
        ctx: The run.
        path: Relative to the project's root, or absolute.
        old_text: The piece as it is, without line numbers.
        new_text: What takes its place.
        replace_all: Replace every occurrence.
    """
    data = _checked(path, await ctx.workspace.read_bytes(path))
    changed = edit(data.decode(), old_text, new_text, replace_all=replace_all)
    await ctx.workspace.write_bytes(path, changed.encode())
    await _note_edit(ctx, path, created=False)
    return f"Edited {path}."


async def _note_edit(ctx: RunContext[Workbench], path: str, *, created: bool) -> None:
    shown = (await ctx.workspace.resolve(path)).removeprefix(WORKSPACE + "/")
    verb = "Made" if created else "Edited"
    update = AgentUpdate(
        event="agent.file_edited",
        message=f"{verb} {one_line(shown)}",
        data={"path": shown[:MAX_LINE_CHARS], "created": created},
    )
    ctx.deps.notes.add(ctx.tool_call_id, update)


def _checked(path: str, data: bytes) -> bytes:
    if b"\0" in data:
        raise ToolFailed(f"{path} is no text file.")
    return data


def _numbered(lines: Sequence[str], first: int) -> list[str]:
    """Put numbers before lines until the answer is full; the first always finds room."""
    shown: list[str] = []
    room = MAX_RESULT_CHARS
    for number, line in enumerate(lines, first):
        text = f"{number}\t{clip(line, MAX_LINE_CHARS)}"
        room -= len(text) + 1
        if room < 0 and shown:
            break
        shown.append(text)
    return shown
