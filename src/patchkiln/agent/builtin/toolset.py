"""The six tools of the agent, timed, bounded, and none of them able to end a run by failing.

What a tool did beyond its answer (a file edited, a command finished) it notes on the `Workbench`
under the id of its call, where the narration picks it up.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability, RawToolArgs
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, FunctionToolset, ToolsetTool, WrapperToolset
from pydantic_ai.workspaces import WorkspaceError, WorkspaceUnavailableError
from typing_extensions import override

from patchkiln.agent.builtin.clipping import MAX_LINE_CHARS, MAX_RESULT_CHARS, clip
from patchkiln.agent.builtin.command_tools import grep, list_files, shell
from patchkiln.agent.builtin.file_tools import edit_file, read_file, write_file
from patchkiln.agent.builtin.workbench import Workbench
from patchkiln.errors import SandboxError, SandboxLost

MAX_ARGUMENTS_CHARS = 200_000
# A little above what the tools bound themselves to, for their own first and last lines.
MAX_ANSWER_CHARS = MAX_RESULT_CHARS + 1000


class BoundedTools(WrapperToolset[Workbench]):
    """Times every call, bounds its answer, and gives a failure to the model, not to the run."""

    @override
    async def call_tool(
        self,
        name: str,
        tool_args: dict[str, Any],
        ctx: RunContext[Workbench],
        tool: ToolsetTool[Workbench],
    ) -> Any:
        """Call a tool. A lost sandbox alone ends the run."""
        started_s = time.monotonic()
        try:
            return clip(str(await super().call_tool(name, tool_args, ctx, tool)), MAX_ANSWER_CHARS)
        except (WorkspaceUnavailableError, SandboxLost):
            raise
        except (OSError, ValueError, WorkspaceError, SandboxError) as error:
            raise ToolFailed(_reason(error)) from error
        finally:
            elapsed_ms = int((time.monotonic() - started_s) * 1000)
            ctx.deps.notes.durations_ms[ctx.tool_call_id or ""] = elapsed_ms


class BoundedArguments(AbstractCapability[Workbench]):
    """Sends overlong arguments back unread: an error about them would repeat them whole."""

    @override
    async def before_tool_validate(
        self,
        ctx: RunContext[Workbench],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: RawToolArgs,
    ) -> RawToolArgs:
        """Let arguments of a bearable length pass."""
        length = len(args) if isinstance(args, str) else len(str(args))
        if length > MAX_ARGUMENTS_CHARS:
            raise ModelRetry(
                f"The arguments are {length} characters long, and {MAX_ARGUMENTS_CHARS} is the "
                "most. Work in smaller pieces."
            )
        return args


def toolset() -> AbstractToolset[Workbench]:
    """Return the tools, which run one after the other so that edits of a turn keep their order."""
    tools: list[Callable[..., Awaitable[str]]] = [
        read_file,
        write_file,
        edit_file,
        list_files,
        grep,
        shell,
    ]
    return BoundedTools(FunctionToolset[Workbench](tools, id="patchkiln", sequential=True))


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "The file is not UTF-8 text."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return clip(str(error), MAX_LINE_CHARS)
