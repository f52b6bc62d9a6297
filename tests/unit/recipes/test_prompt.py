"""Which prompts the error-handling recipe takes, and which it leaves to a language model."""

import pytest

from patchkiln.agent.recipes.recipe import Recipe
from patchkiln.agent.recipes.registry import RECIPES, recognise

YES = """
Add better error handling
add better error handling
ADD BETTER ERROR HANDLING!
Improve error handling
Improve the error handling.
Please improve the error handling in this project
Add error handling to the API
Add error-handling
Better error handling
error handling
Error handling, please
Handle errors better
handle exceptions better
Handle errors/exceptions better
Handle all errors gracefully
handle exceptions properly in the client
Handle errors in the API
Make the error handling more robust
Make the code handle errors better
Can you add proper exception handling to the whole codebase?
I would like you to improve exception handling throughout the service
We need better error handling in the API endpoints.
Add missing error handling
Implement robust error handling
Improve error and exception handling
Add error handling and logging
Add better error handling with logging
Make sure all errors are handled properly
Strengthen error handling across the repository
Enhance the error handling of the http client. Thanks!
Hi, could you please add some better error handling to the inventory service
Fix the error handling
Error handling needs improvement
"""
NO = """
Remove error handling
Remove the error handling from client.py
Delete all exception handling
Simplify error handling
Explain the error handling
What does the error handling do?
Why is there no error handling?
Write tests for the error handling
Test error handling
Document the error handling
Review the error handling
Audit our exception handling
Add a health endpoint and error handling
Add error handling and a health endpoint
Add error handling, tests and docs
Add better error handling and write unit tests
Add better error handling. Also add a --verbose flag.
Add better error handling. Deploy it to production.
Improve error handling by retrying three times
Improve error handling if the server is down
Improve performance and error handling
Add retries and error handling
Add caching, error handling
Refactor error handling into a decorator
Replace error handling with a Result type
Move error handling to a middleware
Add custom exception classes for error handling
Add error handling for invalid input
Add error handling to the JavaScript frontend
Translate error handling to German
Disable exception handling in debug mode
Don't change the error handling
Do not add error handling
Skip error handling
Stop handling errors silently
The error handling is broken
Fix the bug in the error handler
Handle KeyError in parse()
Add better error messages
Add logging
Add type hints
Rename handle_error to on_error
Make it faster
"""


@pytest.mark.parametrize("prompt", YES.strip().splitlines())
def test_a_prompt_that_asks_for_better_error_handling_is_recognised(prompt: str) -> None:
    """Its many forms, polite or short, mean the whole repository."""
    known = recognise(prompt)
    assert known is not None
    assert known[0].id == "error-handling"
    assert known[1].paths == ()


@pytest.mark.parametrize("prompt", NO.strip().splitlines())
def test_a_prompt_that_asks_for_more_or_else_is_not_recognised(prompt: str) -> None:
    """Taking it away, talking about it, and other work beside it need a language model."""
    assert recognise(prompt) is None


@pytest.mark.parametrize(
    ("prompt", "paths"),
    [
        ("Add error handling to app/client.py", ("app/client.py",)),
        ("Improve client.py's error handling", ("client.py",)),
        ("Improve the error handling in ./src/inventory/", ("src/inventory/",)),
        ("Add better error handling in src/app and src/cli.", ("src/app", "src/cli")),
        ("Improve the error/exception handling of `a.py`, please", ("a.py",)),
    ],
)
def test_files_that_a_prompt_names_are_kept(prompt: str, paths: tuple[str, ...]) -> None:
    """A file or directory limits the request; a slash between two words does not."""
    known = recognise(prompt)
    assert known is not None
    assert known[1].paths == paths


@pytest.mark.parametrize("prompt", ["", " ", "?", "\n", "x" * 60_000, "error handling " * 4000])
def test_odd_prompts_are_not_recognised(prompt: str) -> None:
    """Empty, long and repeated texts end quickly."""
    assert recognise(prompt) is None


def test_a_long_prompt_is_not_recognised() -> None:
    """Many words ask for more than rules can do."""
    assert recognise("Add better error handling to " + "the thing of " * 20) is None


@pytest.mark.parametrize("recipe", RECIPES, ids=[recipe.id for recipe in RECIPES])
def test_every_recipe_knows_its_own_example(recipe: Recipe) -> None:
    """What the refusal of another prompt recommends must work."""
    known = recognise(recipe.example)
    assert known is not None
    assert known[0] is recipe
