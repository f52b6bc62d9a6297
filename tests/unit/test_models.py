"""Names, keys and base URLs become models; nothing comes from the environment."""

import pytest

from patchkiln.errors import InvalidRequest, ModelNotConfigured
from patchkiln.models import Models

KEYS = {
    "ANTHROPIC_API_KEY": "key-a",
    "DEEPSEEK_API_KEY": "key-d",
    "GOOGLE_API_KEY": "key-g",
    "OPENAI_API_KEY": "key-o",
    "OPENROUTER_API_KEY": "key-r",
}


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("anthropic:claude-sonnet-4-5", "https://api.anthropic.com"),
        ("deepseek:deepseek-chat", "https://api.deepseek.com"),
        ("google:gemini-2.5-pro", "https://generativelanguage.googleapis.com"),
        ("ollama:qwen3", "http://127.0.0.1:11434/v1/"),
        ("openai:gpt-5", "https://api.openai.com/v1/"),
        ("openrouter:openai/gpt-5", "https://openrouter.ai/api/v1/"),
    ],
)
def test_a_name_gives_the_vendors_model(
    name: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each provider's model goes to its own address, whatever the environment says."""
    for variable in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "OLLAMA_BASE_URL"):
        monkeypatch.setenv(variable, "http://elsewhere.example/v1")
    model = Models(default=None, keys=KEYS, base_url=None).model(name)
    assert model.model_name == name.split(":", 1)[1]
    assert model.base_url == url


def test_no_name_gives_the_servers_own_model() -> None:
    """The default answers where a request names none."""
    models = Models(default="openai:gpt-5", keys=KEYS, base_url=None)
    assert models.model(None).model_name == "gpt-5"


def test_a_base_url_needs_no_key() -> None:
    """A local server takes any key; the vendor's own would not."""
    models = Models(default="openai:local", keys={}, base_url="http://127.0.0.1:1/v1")
    assert models.model(None).base_url == "http://127.0.0.1:1/v1/"


def test_a_base_url_is_not_for_other_vendors() -> None:
    """Anthropic's key is not sent to the OpenAI-compatible server."""
    models = Models(default=None, keys=KEYS, base_url="http://127.0.0.1:1/v1")
    assert models.model("anthropic:claude-sonnet-4-5").base_url == "https://api.anthropic.com"


def test_without_a_model_the_remedy_names_the_setting() -> None:
    """Nothing is configured: the error says what to set."""
    with pytest.raises(ModelNotConfigured) as caught:
        Models(default=None, keys={}, base_url=None).model(None)
    assert "PATCHKILN_MODEL" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("anthropic:claude-sonnet-4-5", "ANTHROPIC_API_KEY"),
        ("google:gemini-2.5-pro", "GOOGLE_API_KEY"),
        ("openai:gpt-5", "OPENAI_API_KEY"),
    ],
)
def test_a_missing_key_is_named_and_never_looked_up(
    name: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key in the process's environment is no key that the operator gave."""
    monkeypatch.setenv(variable, "from-the-environment")
    with pytest.raises(ModelNotConfigured) as caught:
        Models(default=None, keys={}, base_url=None).model(name)
    assert variable in caught.value.remedy


@pytest.mark.parametrize("name", ["gpt-5", "nobody:gpt-5", "openai:", ":x", "openrouter:gpt-5"])
def test_an_unknown_name_is_an_invalid_request(name: str) -> None:
    """The request's field is named, and the message or remedy says how to write it."""
    with pytest.raises(InvalidRequest) as caught:
        Models(default=None, keys=KEYS, base_url=None).model(name)
    assert caught.value.field == "model"


def test_no_vendors_client_retries_on_its_own() -> None:
    """The agent retries and tells it; a second, silent layer would multiply the tries."""
    models = Models(default=None, keys=KEYS, base_url=None)
    for name in ("anthropic:claude-sonnet-4-5", "deepseek:deepseek-chat", "openai:gpt-5"):
        assert getattr(models.model(name), "client").max_retries == 0  # noqa: B009 - not of the base


def test_the_secrets_are_all_keys_and_the_base_urls_password() -> None:
    """Whoever tells a server's text has to know them: keys, and a password in both spellings."""
    models = Models(default=None, keys=KEYS, base_url="http://user:pass%21word@127.0.0.1:1/v1")
    assert models.secrets == {*KEYS.values(), "pass%21word", "pass!word"}
    assert Models(default=None, keys={}, base_url="http://token@h/v1").secrets == {"token"}
    assert Models(default=None, keys={"OPENAI_API_KEY": ""}, base_url=None).secrets == set()
