"""Language models by name: what ``provider:name`` and the operator's keys make.

Providers: ``anthropic``, ``deepseek``, ``google``, ``ollama``, ``openai``, ``openrouter``. With a
base URL ``openai`` is any server that speaks chat-completions. Importing this package loads
pydantic-ai, which takes a second: import it where a model is needed, not before.
"""

from patchkiln.models.catalog import Models

__all__ = ["Models"]
