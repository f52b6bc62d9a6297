"""What a client may ask for: the body of ``POST /code`` and ``POST /runs``.

Names are taken as camelCase and as snake_case. What the contract knows and this server does not
serve yet is refused by name, never ignored.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from patchkiln.api.config import ApiConfig
from patchkiln.domain.network import parse_network_rule
from patchkiln.domain.repository import check_ref, parse_repository_url
from patchkiln.domain.run import RunRequest
from patchkiln.errors import InvalidRequest, NotSupported

MAX_PROMPT_BYTES = 64 << 10
MAX_COMMANDS = 20
MAX_COMMAND_BYTES = 4 << 10
MAX_METADATA_ENTRIES = 32
MAX_METADATA_BYTES = 1 << 10
MAX_NAME_CHARS = 256
MAX_LISTED = 100
MAX_COUNT = 1 << 31
BUILTIN_AGENT = "builtin"


def _sendable(text: str) -> str:
    """Refuse what no argument, file or database can hold: NUL, and half a surrogate pair."""
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not contain half a surrogate pair")
    return text


def _prompt(text: str) -> str:
    if not text.strip():
        raise ValueError("must say what to do")
    if len(text.encode()) > MAX_PROMPT_BYTES:
        raise ValueError(f"must be at most {MAX_PROMPT_BYTES >> 10} KiB of UTF-8")
    return text


def _command(text: str) -> str:
    if not text.strip() or len(text.encode()) > MAX_COMMAND_BYTES:
        raise ValueError(f"must be a command of at most {MAX_COMMAND_BYTES >> 10} KiB")
    return text


def _metadata(entries: Mapping[str, str]) -> Mapping[str, str]:
    if any(len((name + value).encode()) > MAX_METADATA_BYTES for name, value in entries.items()):
        raise ValueError(f"must be at most {MAX_METADATA_BYTES >> 10} KiB an entry")
    return entries


Text: TypeAlias = Annotated[str, AfterValidator(_sendable)]
Name: TypeAlias = Annotated[Text, Field(max_length=MAX_NAME_CHARS)]
Command: TypeAlias = Annotated[Text, AfterValidator(_command)]
Commands: TypeAlias = Annotated[list[Command], Field(max_length=MAX_COMMANDS)]
Listed: TypeAlias = Annotated[list[Name], Field(max_length=MAX_LISTED)]
Count: TypeAlias = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Amount: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Body(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        frozen=True,
        strict=True,
    )


class LimitsRequest(_Body):
    """Upper bounds of the run; each can only lower the server's own."""

    usd: Amount | None = Field(default=None, description="Cost of the model, in US dollars.")
    tokens: Count | None = Field(default=None, description="Tokens in and out, together.")
    turns: Count | None = Field(default=None, description="Turns of the model.")
    minutes: Amount | None = Field(default=None, description="Duration of the run.")


class CloneOptions(_Body):
    """How the repository is cloned."""

    depth: int = Field(
        default=1, ge=0, le=MAX_COUNT, description="Commits of history; 0 is the whole."
    )
    filter: Name | None = Field(default=None, description="Not served yet.")
    sparse: Listed = Field(default_factory=list[str], description="Not served yet.")
    submodules: bool = Field(default=False, description="Not served yet.")
    lfs: bool = Field(default=False, description="Not served yet.")


class CodeRequest(_Body):
    """A repository and what to do with it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "repoUrl": "https://github.com/owner/name.git",
                    "prompt": "Add better error handling",
                }
            ]
        }
    )

    repo_url: Text = Field(description="Where the repository is, with or without `.git`.")
    prompt: Annotated[Text, AfterValidator(_prompt)] = Field(
        description="What to do, in plain words; at most 64 KiB."
    )
    ref: Text | None = Field(
        default=None, description="Branch, tag or commit; unset: the remote's HEAD."
    )
    model: Annotated[Name, Field(pattern=r"^[\w-]+:\S+$")] | None = Field(
        default=None, description="`provider:name`; unset: the server's own."
    )
    agent: Name | None = Field(
        default=None,
        description="`builtin` or `recipes`; unset: `builtin` where there is a model.",
    )
    sandbox: Name | None = Field(
        default=None, description="`local` or `container`; unset: the first of the server's own."
    )
    checks: Literal["auto", "off"] | Commands = Field(
        default="auto",
        description="What judges the change: `auto` detects it, `off`, or a list of commands.",
    )
    limits: LimitsRequest = Field(default_factory=LimitsRequest)
    clone: CloneOptions = Field(default_factory=CloneOptions)
    metadata: Annotated[
        dict[Text, Text], Field(max_length=MAX_METADATA_ENTRIES), AfterValidator(_metadata)
    ] = Field(default_factory=dict[str, str], description="Given back with the run, as it is.")
    setup: Commands = Field(default_factory=list[str], description="Not served yet.")
    network: Literal["off"] | Listed = Field(
        default="off",
        description="`off`, or the hosts that commands may reach: `HOST[:PORT]`, `*.DOMAIN`, `*`.",
    )
    candidates: int = Field(
        default=1, ge=1, le=8, description="1; more attempts side by side are not served yet."
    )
    require_approval: bool = Field(default=False, description="Not served yet.")
    deliver: Literal["patch", "branch", "pull_request"] = Field(
        default="patch", description="`patch`; the others are not served yet."
    )
    paths: Listed = Field(default_factory=list[str], description="Not served yet.")

    def fingerprint(self) -> str:
        """Return a digest that two bodies share when they ask for the same."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def run_request(self, config: ApiConfig, caller: str) -> RunRequest:
        """Hold the body against the server's policy, and fill in the server's defaults.

        Raises `InvalidRequest` and its kin: `ForbiddenUrl` and `NotSupported`.
        """
        self._refuse_what_is_not_served()
        url = parse_repository_url(self.repo_url, allow=config.git_allow)
        limits = self.limits
        return RunRequest(
            repo_url=url.url,
            repository=url.name,
            prompt=self.prompt,
            ref=None if self.ref is None else check_ref(self.ref),
            model=self.model,
            agent=self._agent(config),
            sandbox=self._sandbox(config),
            checks=self._checks(),
            network=self._network(),
            limits=config.limits.lowered_by(
                usd=limits.usd, tokens=limits.tokens, turns=limits.turns, minutes=limits.minutes
            ),
            clone_depth=self.clone.depth,
            metadata=self.metadata,
            caller=caller,
        )

    def _refuse_what_is_not_served(self) -> None:
        clone = self.clone
        asked = {
            "setup": self.setup,
            "candidates": self.candidates > 1,
            "requireApproval": self.require_approval,
            "deliver": self.deliver != "patch",
            "paths": self.paths,
            "clone.filter": clone.filter,
            "clone.sparse": clone.sparse,
            "clone.submodules": clone.submodules,
            "clone.lfs": clone.lfs,
        }
        names = [name for name, value in asked.items() if value]
        if names:
            raise NotSupported(
                f"This server does not serve this yet: {', '.join(names)}.", field=names[0]
            )

    def _agent(self, config: ApiConfig) -> str:
        """Choose the agent; a request that names a model means the one that uses it."""
        if self.agent is None:
            wants_model = self.model is not None and BUILTIN_AGENT in config.agents
            return BUILTIN_AGENT if wants_model else config.default_agent
        return _one_of(self.agent, config.agents, "agent")

    def _sandbox(self, config: ApiConfig) -> str:
        if self.sandbox is None:
            return config.sandboxes[0]
        return _one_of(self.sandbox, config.sandboxes, "sandbox")

    def _network(self) -> tuple[str, ...]:
        if isinstance(self.network, list):
            return tuple(dict.fromkeys(str(parse_network_rule(text)) for text in self.network))
        return ()

    def _checks(self) -> tuple[str, ...] | None:
        if isinstance(self.checks, list):
            return tuple(self.checks)
        return None if self.checks == "auto" else ()


def _one_of(name: str, known: tuple[str, ...], field: str) -> str:
    if name not in known:
        raise InvalidRequest(
            f"This server has no such {field}; it has {', '.join(known)}.", field=field
        )
    return name
