"""The ``builtin`` agent: a tool-calling loop on pydantic-ai, outside the sandbox.

Its six tools act inside the sandbox alone: ``read_file``, ``write_file``, ``edit_file``,
``list_files``, ``grep``, ``shell``. What `BuiltinAgent.implement` yields as `AgentUpdate`:

========================== ========================================================================
``agent.message``          ``text`` (a piece of what the model says), ``turn``
``agent.tool_called``      ``tool``, ``call_id``, ``arguments`` (by name, long ones cut; ``raw``
                           holds what is no JSON object)
``agent.file_edited``      ``path`` (relative to the root where it lies in it), ``created``
``agent.command_finished`` ``command``, ``exit_code``, ``reason`` (`ExitReason`), ``duration_ms``,
                           ``tail``
``agent.tool_finished``    ``tool``, ``call_id``, ``ok``, ``duration_ms``, ``result_tail``
``agent.usage_updated``    ``usage`` (`Usage.as_json`: planning and so far), ``turn``
``agent.price_unknown``    a warning, once: the dollar limit cannot hold, the others do
``agent.model_retried``    a warning: ``attempt``, ``pause_s``, ``reason``
========================== ========================================================================

The updates of one tool call come in this order: called, edited or command finished, finished. A
turn's usage comes before its tool calls. Every text is bounded, and none holds a key or a URL of
the model's server. Importing this package loads pydantic-ai, which takes a second.
"""

from patchkiln.agent.builtin.agent import BuiltinAgent
from patchkiln.agent.builtin.conversation import Retries
from patchkiln.agent.builtin.workspace import SandboxWorkspace

__all__ = ["BuiltinAgent", "Retries", "SandboxWorkspace"]
