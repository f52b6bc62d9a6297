"""Files through the rules of the error-handling recipe, as text."""

from textwrap import dedent

from patchkiln.agent.recipes.error_handling import RECIPE
from patchkiln.agent.recipes.recipe import Rule
from patchkiln.agent.recipes.rewrite import Rewritten, rewrite

RULES = {rule.id: rule for rule in RECIPE.rules}
BARE = RULES["bare-except"]
CAUSE = RULES["raise-from"]
TIMEOUT = RULES["http-timeout"]
SWALLOWED = RULES["swallowed-exception"]


def after(text: str, *rules: Rule, path: str = "app/module.py") -> str:
    """Return what some rules (all without any) make of a text, its common margin removed."""
    return rewrite_text(dedent(text).lstrip("\n"), *rules, path=path).data.decode()


def rewrite_text(text: str, *rules: Rule, path: str = "app/module.py") -> Rewritten:
    """Return what some rules (all without any) make of a text."""
    return rewrite(text.encode(), rules or RECIPE.rules, path=path)


def unchanged(text: str, *rules: Rule, path: str = "app/module.py") -> bool:
    """Tell whether some rules (all without any) leave a text alone, and say so."""
    source = dedent(text).lstrip("\n")
    result = rewrite_text(source, *rules, path=path)
    return result.data.decode() == source and result.applied == ()
