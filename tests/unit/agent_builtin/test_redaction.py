"""Known secrets are taken out of texts, whatever they look like."""

from patchkiln.agent.builtin.redaction import Redactor
from patchkiln.ports.agent import AgentUpdate


def test_an_update_is_cleaned_to_its_depth() -> None:
    """Message, names and values of the data, in lists and objects alike; the rest stays."""
    update = AgentUpdate(
        event="agent.tool_called",
        message="shell my-key",
        data={"turn": 1, "arguments": {"my-key": ["say my-key", True, None]}},
    )
    told = Redactor(["my-key"]).update(update)
    assert told.message == "shell [...]"
    assert told.data == {"turn": 1, "arguments": {"[...]": ["say [...]", True, None]}}


def test_a_secret_that_holds_another_goes_whole() -> None:
    """Nothing of the longer one is left."""
    assert Redactor(["token", "token-two"]).text("a token-two, a token") == "a [...], a [...]"


def test_a_placeholder_leaves_the_texts_alone() -> None:
    """A server without keys is given ``x`` or nothing, and no text may be torn by that."""
    assert Redactor(["x", ""]).text("an example") == "an example"
