"""Every recipe there is. A new one is a module (or a package) and its line here."""

from patchkiln.agent.recipes import error_handling
from patchkiln.agent.recipes.recipe import Recipe, Request

RECIPES: tuple[Recipe, ...] = (error_handling.RECIPE,)


def recognise(prompt: str) -> tuple[Recipe, Request] | None:
    """Return the first recipe that knows a prompt, and what the prompt asks of it."""
    for recipe in RECIPES:
        request = recipe.recognise(prompt)
        if request is not None:
            return recipe, request
    return None
