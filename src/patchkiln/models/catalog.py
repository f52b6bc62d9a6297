"""Turns a model's name into a pydantic-ai model."""

from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model

from patchkiln.errors import InvalidRequest, ModelNotConfigured
from patchkiln.models.vendors import VENDORS, Vendor


class Models:
    """Makes models from names, with the keys that the operator gave.

    ``default`` is the server's own ``provider:name``. ``keys`` maps a vendor's variable, such as
    ``ANTHROPIC_API_KEY``, to its secret. ``base_url`` is where ``openai:`` and ``ollama:`` models
    are served, a local server for example; such a server may need no key.
    """

    def __init__(
        self, *, default: str | None, keys: Mapping[str, str], base_url: str | None
    ) -> None:
        """Take names and secrets; nothing is read from the environment, nothing is contacted."""
        self._default = default
        self._keys = keys
        self._base_url = base_url

    @property
    def secrets(self) -> frozenset[str]:
        """Return every key, and what the base URL holds of a user: its password, or its name."""
        return frozenset([*filter(None, self._keys.values()), *_credentials(self._base_url)])

    def model(self, name: str | None) -> Model:
        """Return the named model, None for the server's own.

        Raises `ModelNotConfigured` where there is none or its key is missing, and `InvalidRequest`
        for a name of no known provider.
        """
        chosen = name or self._default
        if chosen is None:
            raise ModelNotConfigured("No model is configured.")
        vendor, model_name = _vendor(chosen)
        base_url = self._base_url if vendor.takes_base_url else None
        key = self._key(chosen, vendor, base_url)
        try:
            return vendor.build(model_name, key, base_url)
        except UserError as error:
            raise InvalidRequest(error.message, field="model") from error

    def _key(self, name: str, vendor: Vendor, base_url: str | None) -> str:
        for variable in vendor.key_names:
            if self._keys.get(variable):
                return self._keys[variable]
        if base_url is not None or not vendor.key_names:
            return "no-key"
        variable = vendor.key_names[0]
        raise ModelNotConfigured(
            f"The model '{name}' needs a key, and the server has none.",
            remedy=f"Set {variable} in the server's environment and start it again.",
        )


def _credentials(url: str | None) -> Iterator[str]:
    """Yield the secret half of a URL's user information, as it is written and as it is sent."""
    user = urlsplit(url or "").netloc.rpartition("@")[0]
    name, _, password = user.partition(":")
    secret = password or name
    if secret:
        yield from (secret, unquote(secret))


def _vendor(name: str) -> tuple[Vendor, str]:
    provider, _, model_name = name.partition(":")
    vendor = VENDORS.get(provider)
    if vendor is None or not model_name:
        known = ", ".join(sorted(VENDORS))
        raise InvalidRequest(
            "This is no model that the server knows.",
            field="model",
            remedy=f"Write it as 'provider:name'; the providers are {known}.",
        )
    return vendor, model_name
