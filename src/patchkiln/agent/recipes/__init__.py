"""The ``recipes`` agent: deterministic rewrites for a few prompts, without a language model.

A recipe (`registry`) knows its prompts and its rules; `RecipesAgent.plan` works out every edit and
`RecipesAgent.implement` writes them. What it yields as `AgentUpdate`:

======================== ==========================================================================
``agent.file_edited``    ``path`` (relative to the root), ``created`` (always false), ``rules``: a
                         list of ``rule``, ``count`` and ``lines`` (before the change, from 1)
``agent.file_skipped``   a warning: ``path``, ``reason``; at most 50 of a survey
``agent.search_limited`` a warning: a bound was reached; ``looked_at`` counts files
======================== ==========================================================================

The same repository and prompt give the same result, byte for byte. Refusals have the codes
``prompt_not_recognised``, ``path_not_found`` and ``language_not_supported``. Importing this package
loads libcst, which takes 0.3 s.
"""

from patchkiln.agent.recipes.agent import RecipesAgent

__all__ = ["RecipesAgent"]
