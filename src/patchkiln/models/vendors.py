"""The vendors whose models can be used, one row each.

Every base URL is given, so that no SDK looks for one in the environment, and no SDK retries on its
own: the agent does, and tells it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from openai import AsyncOpenAI
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.models.openrouter import OpenRouterModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers import Provider
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.deepseek import DeepSeekProvider
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openrouter import OpenRouterProvider

ANTHROPIC_URL = "https://api.anthropic.com"
GOOGLE_URL = "https://generativelanguage.googleapis.com"
OLLAMA_URL = "http://127.0.0.1:11434/v1"
OPENAI_URL = "https://api.openai.com/v1"

# A stream that ends without a finish reason was cut, and half an answer must not pass for a whole.
_CHAT = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)

Build: TypeAlias = Callable[[str, str, str | None], Model]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """One provider. ``build`` takes the model's name, the key and a base URL or None.

    ``key_names`` are the variables that may hold its key, the usual one first; empty: no key.
    """

    build: Build
    key_names: tuple[str, ...] = ()
    takes_base_url: bool = False


def _anthropic(name: str, key: str, _base_url: str | None) -> Model:
    provider = AnthropicProvider(api_key=key, base_url=ANTHROPIC_URL)
    provider.client.max_retries = 0
    return AnthropicModel(name, provider=provider)


def _deepseek(name: str, key: str, _base_url: str | None) -> Model:
    return OpenAIChatModel(name, provider=_once(DeepSeekProvider(api_key=key)), profile=_CHAT)


def _google(name: str, key: str, _base_url: str | None) -> Model:
    return GoogleModel(name, provider=GoogleProvider(api_key=key, base_url=GOOGLE_URL))


def _ollama(name: str, key: str, base_url: str | None) -> Model:
    provider = _once(OllamaProvider(api_key=key, base_url=base_url or OLLAMA_URL))
    return OllamaModel(name, provider=provider, profile=_CHAT)


def _openai(name: str, key: str, base_url: str | None) -> Model:
    provider = _once(OpenAIProvider(api_key=key, base_url=base_url or OPENAI_URL))
    if base_url is None:
        return OpenAIResponsesModel(name, provider=provider)
    return OpenAIChatModel(name, provider=provider, profile=_CHAT)


def _openrouter(name: str, key: str, _base_url: str | None) -> Model:
    provider = _once(OpenRouterProvider(api_key=key))
    return OpenRouterModel(name, provider=provider, profile=_CHAT)


def _once(provider: Provider[AsyncOpenAI]) -> Provider[AsyncOpenAI]:
    provider.client.max_retries = 0
    return provider


VENDORS = {
    "anthropic": Vendor(build=_anthropic, key_names=("ANTHROPIC_API_KEY",)),
    "deepseek": Vendor(build=_deepseek, key_names=("DEEPSEEK_API_KEY",)),
    "google": Vendor(build=_google, key_names=("GOOGLE_API_KEY", "GEMINI_API_KEY")),
    "ollama": Vendor(build=_ollama, takes_base_url=True),
    "openai": Vendor(build=_openai, key_names=("OPENAI_API_KEY",), takes_base_url=True),
    "openrouter": Vendor(build=_openrouter, key_names=("OPENROUTER_API_KEY",)),
}
