"""The recipe behind "Add better error handling", for Python.

Four rules, each in a module of its own that says what it leaves alone. None changes what a program
does as long as nothing fails.
"""

from patchkiln.agent.recipes.error_handling import (
    bare_except,
    http_timeout,
    raise_from,
    swallowed_exception,
)
from patchkiln.agent.recipes.error_handling.prompt import recognise
from patchkiln.agent.recipes.recipe import Recipe

RECIPE = Recipe(
    id="error-handling",
    example="Add better error handling",
    intent="Improve the error handling of the Python code by fixed rules",
    needle=r"except|urlopen|requests",
    recognise=recognise,
    # A narrowed clause can name what it caught, and then be heard.
    rules=(bare_except.RULE, raise_from.RULE, http_timeout.RULE, swallowed_exception.RULE),
)
