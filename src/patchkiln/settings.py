"""The server's settings: one frozen object, read from the environment once."""

import difflib
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from patchkiln.domain.network import AllowedAddress, parse_allowed_address
from patchkiln.domain.usage import Limits
from patchkiln.errors import InvalidRequest, SettingsError

PREFIX = "PATCHKILN_"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# Read by the command line when it speaks to a server; here so that no start is refused for them.
CLIENT_NAMES = ("PATCHKILN_SERVER", "PATCHKILN_KEY")
SQLITE = "sqlite:///"
POSTGRES = ("postgresql://", "postgres://")
SERVED_SANDBOXES = ("local", "container")


class Settings(BaseSettings):
    """Every setting with its default. Names in the environment are ``PATCHKILN_`` + upper case."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", populate_by_name=True
    )

    host: str = Field(default="127.0.0.1", description="Address to serve on.")
    port: int = Field(
        default=8000, ge=0, le=65535, description="Port to serve on; 0 takes a free one."
    )
    data_dir: Path = Field(
        default=Path("~/.local/share/patchkiln"),
        description="Everything the server keeps: database, clone cache, toolchain.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="`sqlite:///PATH`, or `postgresql://USER:PASSWORD@HOST/DATABASE` (version 15 "
        "or newer), which one server at a time uses; unset: a file in the data directory.",
    )
    model: str | None = Field(default=None, description="`provider:name` for the builtin agent.")
    model_base_url: str | None = Field(
        default=None, description="An OpenAI-compatible server for `openai:` models."
    )
    sandbox: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("local",), description="Sandbox providers in order of preference."
    )
    container_socket: str | None = Field(
        default=None,
        description="Socket of Podman or Docker; unset: the first of the usual ones that is there.",
    )
    container_image: str | None = Field(
        default=None,
        description="Image of the containers; unset: none, they see this machine's own /usr.",
    )
    container_runtime: str | None = Field(
        default=None, description="The engine's runtime, such as `runsc`; unset: the engine's own."
    )
    git_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="URL prefixes allowed beyond https to public hosts."
    )
    network_allow: Annotated[tuple[AllowedAddress, ...], NoDecode] = Field(
        default=(),
        description="Private addresses, as `10.1.2.3` or `10.1.2.3:5000`, that a host which a "
        "request may reach may resolve to.",
    )
    api_keys: Annotated[Mapping[str, SecretStr], NoDecode] = Field(
        default_factory=dict[str, SecretStr],
        description="`name:key` pairs; unset: open on loopback.",
    )
    open: bool = Field(
        default=False, description="Serve without keys on an address that is not loopback."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("*",), description="Origins that browsers may call from."
    )
    max_running: int = Field(default=4, ge=1, description="Runs at once; the others wait.")
    max_unfinished: int = Field(
        default=100, ge=1, description="Runs of one caller that wait or run before `429`."
    )
    max_usd: float = Field(default=5.0, gt=0, description="Highest cost of one run, in US dollars.")
    max_tokens: int = Field(default=2_000_000, ge=1, description="Most tokens of one run.")
    max_turns: int = Field(default=80, ge=1, description="Most model turns of one run.")
    max_minutes: float = Field(
        default=60.0, gt=0, description="Longest duration of one run, in minutes."
    )
    check_timeout_s: float = Field(
        default=600.0, gt=0, description="Time limit of one check, in seconds."
    )
    clone_timeout_s: float = Field(
        default=600.0, gt=0, description="Time limit of a clone, in seconds."
    )
    max_repository_bytes: int = Field(
        default=5 << 30, ge=1, description="Largest repository, as git keeps it on disk."
    )
    retention_days: int = Field(
        default=90,
        ge=0,
        description="Days for which the events and the patch of a finished run are kept; 0 keeps "
        "them for ever.",
    )
    cache_bytes: int = Field(
        default=20 << 30, ge=0, description="Size that the clone cache is kept below."
    )
    log_level: str = Field(
        default="INFO", validation_alias="LOG_LEVEL", description="Logging level."
    )
    anthropic_api_key: SecretStr | None = Field(default=None, validation_alias="ANTHROPIC_API_KEY")
    deepseek_api_key: SecretStr | None = Field(default=None, validation_alias="DEEPSEEK_API_KEY")
    gemini_api_key: SecretStr | None = Field(default=None, validation_alias="GEMINI_API_KEY")
    google_api_key: SecretStr | None = Field(default=None, validation_alias="GOOGLE_API_KEY")
    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    openrouter_api_key: SecretStr | None = Field(
        default=None, validation_alias="OPENROUTER_API_KEY"
    )
    e2b_api_key: SecretStr | None = Field(
        default=None,
        validation_alias="E2B_API_KEY",
        description="Selects the E2B provider, which this version does not serve yet: it warns.",
    )

    @field_validator("sandbox", "git_allow", "cors_origins", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        """Split a comma-separated text."""
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("network_allow", mode="before")
    @classmethod
    def _addresses(cls, value: object) -> object:
        """Read a comma-separated list of addresses."""
        if not isinstance(value, str):
            return value
        try:
            return tuple(parse_allowed_address(part) for part in value.split(",") if part.strip())
        except InvalidRequest as error:
            raise ValueError(f"{error.message} {error.remedy}") from error

    @field_validator("api_keys", mode="before")
    @classmethod
    def _pairs(cls, value: object) -> object:
        """Split ``name:key,name:key``; the message of a bad one never shows it."""
        if not isinstance(value, str):
            return value
        pairs = [part.strip().partition(":") for part in value.split(",") if part.strip()]
        if not all(name and key for name, _, key in pairs):
            raise ValueError("write comma-separated name:key pairs")
        if len({name for name, _, _ in pairs}) != len(pairs):
            raise ValueError("a name stands twice")
        return {name: key for name, _, key in pairs}

    @field_validator("log_level", mode="after")
    @classmethod
    def _level(cls, value: str) -> str:
        """Take the standard names alone."""
        if value.upper() not in LOG_LEVELS:
            raise ValueError(f"write one of {', '.join(LOG_LEVELS)}")
        return value.upper()

    @field_validator("model", mode="after")
    @classmethod
    def _model(cls, value: str | None) -> str | None:
        """Take the form alone; which providers there are, their adapter knows."""
        if value is not None and not all(value.partition(":")):
            raise ValueError("write it as provider:name, for example anthropic:claude-sonnet-4-5")
        return value

    @field_validator("data_dir", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        """Expand the home directory."""
        return value.expanduser().absolute()

    @model_validator(mode="after")
    def _safe(self) -> Self:
        """Refuse what would be unsafe or is not served."""
        if not self.api_keys and not self.open and self.public:
            raise ValueError(
                f"without API keys the server would be open to everyone who reaches {self.host}: "
                "set PATCHKILN_API_KEYS=name:key, or PATCHKILN_OPEN=1 if that is meant"
            )
        unknown = [name for name in self.sandbox if name not in SERVED_SANDBOXES]
        if unknown or not self.sandbox:
            raise ValueError(
                f"PATCHKILN_SANDBOX names {', '.join(unknown) or 'nothing'}; "
                f"this version serves {', '.join(SERVED_SANDBOXES)}"
            )
        if not self._database_url.startswith((SQLITE, *POSTGRES)):
            raise ValueError("PATCHKILN_DATABASE_URL must be sqlite:///PATH or postgresql://...")
        return self

    @property
    def public(self) -> bool:
        """Tell whether the server can be reached from other machines."""
        return not _is_loopback(self.host)

    @property
    def database_path(self) -> Path:
        """Return where the SQLite file lies, where there is no Postgres."""
        if self.database_url is None or self.postgres_url is not None:
            return self.data_dir / "patchkiln.db"
        return Path(self._database_url.removeprefix(SQLITE)).absolute()

    @property
    def postgres_url(self) -> str | None:
        """Return the URL of the Postgres database, with its password; None for SQLite."""
        return self._database_url if self._database_url.startswith(POSTGRES) else None

    @property
    def _database_url(self) -> str:
        return SQLITE if self.database_url is None else self.database_url.get_secret_value()

    @property
    def limits(self) -> Limits:
        """Return the server's own limits of one run."""
        return Limits(
            usd=self.max_usd,
            tokens=self.max_tokens,
            turns=self.max_turns,
            minutes=self.max_minutes,
        )

    @property
    def model_keys(self) -> dict[str, str]:
        """Return the model vendors' keys by the vendor's own name for the variable."""
        keys = {
            "ANTHROPIC_API_KEY": self.anthropic_api_key,
            "DEEPSEEK_API_KEY": self.deepseek_api_key,
            "GEMINI_API_KEY": self.gemini_api_key,
            "GOOGLE_API_KEY": self.google_api_key,
            "OPENAI_API_KEY": self.openai_api_key,
            "OPENROUTER_API_KEY": self.openrouter_api_key,
        }
        return {name: key.get_secret_value() for name, key in keys.items() if key is not None}


def load_settings() -> Settings:
    """Read the environment. Raises `SettingsError` with what to change."""
    _refuse_unknown(os.environ)
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(
            "; ".join(
                _told(entry["loc"], entry["msg"])
                for entry in error.errors(
                    include_url=False, include_input=False, include_context=False
                )
            )
        ) from None


def setting_names() -> list[str]:
    """Return every ``PATCHKILN_*`` name that may stand in the environment."""
    fields = Settings.model_fields.items()
    names = [PREFIX + name.upper() for name, field in fields if field.validation_alias is None]
    return sorted([*names, *CLIENT_NAMES])


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    known = setting_names()
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise SettingsError(f"There is no setting {name}. Did you mean {near[0]}?")


def _told(location: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    if not location:
        return message
    name = str(location[0])
    return f"{name if name.isupper() else PREFIX + name.upper()}: {message}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
