"""Every error that Patchkiln raises on purpose.

    PatchkilnError
    ├── InvalidRequest          the caller must change the request
    │   ├── ForbiddenUrl        the server's policy forbids the repository URL
    │   └── NotSupported        asked for by the contract, not served by this server
    ├── Unauthorized            no key, or an unknown one
    ├── NotFound                no such run, or nothing there yet
    ├── Conflict                the state of the run does not allow it
    ├── TooManyRuns             the caller's queue is full (retryable)
    ├── RunTakenOver            another process carries the run out since
    ├── SettingsError           the server refuses to start
    ├── StoreError              the database failed (retryable)
    ├── SandboxError            what the isolated machine could not do
    │   ├── SandboxUnavailable  this machine cannot isolate, or the provider is missing
    │   ├── SandboxLost         the sandbox died under a command (retryable)
    │   ├── SandboxNotFound     no living sandbox, or no snapshot, has this id
    │   ├── SandboxPaused       it has to be resumed first
    │   ├── SandboxUnsupported  the provider's sandboxes have no such capability
    │   └── SandboxFileError    a file operation inside the sandbox failed; carries an errno
    ├── CommandError            a command of the server's own failed: exit code and stderr
    │   ├── CloneError          the repository could not be brought in
    │   │   ├── RepositoryNotFound
    │   │   ├── RepositoryPrivate
    │   │   ├── RefNotFound
    │   │   ├── RepositoryEmpty
    │   │   ├── RepositoryTooLarge
    │   │   ├── CloneTimeout        (retryable)
    │   │   └── RemoteUnreachable   (retryable)
    │   └── PatchError          the change could not be turned into a patch
    └── AgentError              the agent could not go on
        ├── ModelNotConfigured
        ├── ModelError          the model's server failed (retryable)
        │   └── ModelRejected   it refused the request: key, model name or size (not retryable)
        └── BudgetExhausted     a limit of the run was reached

Each class has a stable ``code`` for programs, ``retryable`` for schedulers and a ``remedy``, one
sentence that says what a person can do. Messages hold no credential, host path or stack trace.
"""

from typing import ClassVar


class PatchkilnError(Exception):
    """The root: ``str(error)`` is one sentence for a person."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False
    default_remedy: ClassVar[str] = "Look at the server's log and report it as a bug."

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        """Take the sentence, and a remedy where the class's own does not fit."""
        super().__init__(message)
        self.message = message
        self.remedy = remedy or self.default_remedy


class InvalidRequest(PatchkilnError):
    """A field of a request is wrong. ``field`` is its name as the caller wrote it."""

    code = "invalid_request"
    default_remedy = "Correct the named field and send the request again."

    def __init__(self, message: str, *, field: str = "body", remedy: str | None = None) -> None:
        """Take the sentence and the name of the field."""
        super().__init__(message, remedy=remedy)
        self.field = field


class ForbiddenUrl(InvalidRequest):
    """The server's policy forbids a repository URL; the message names the rule."""

    code = "forbidden_url"
    default_remedy = (
        "Use an https URL of a public host, or ask the operator to add its prefix to "
        "PATCHKILN_GIT_ALLOW."
    )


class NotSupported(InvalidRequest):
    """The contract knows it, this server does not serve it."""

    code = "not_supported"
    default_remedy = "Leave the field out."


class Unauthorized(PatchkilnError):
    """No API key, or one that the server does not know."""

    code = "unauthorized"
    default_remedy = "Send the header 'Authorization: Bearer KEY' with a key of PATCHKILN_API_KEYS."


class NotFound(PatchkilnError):
    """No such run, or no such thing of it."""

    code = "not_found"
    default_remedy = "Check the id; GET /runs lists what there is."


class Conflict(PatchkilnError):
    """The state of the run, or an earlier request with the same key, does not allow it."""

    code = "conflict"
    default_remedy = "Look at the run's status first."


class RunTakenOver(PatchkilnError):
    """Another process has claimed the run since; this one may tell nothing more of it."""

    code = "run_taken_over"
    default_remedy = "Follow the run's events: whoever took it over goes on with them."


class TooManyRuns(PatchkilnError):
    """The caller has too many runs waiting."""

    code = "too_many_runs"
    retryable = True
    default_remedy = "Wait for a run to finish, or cancel one."

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        """Take the sentence and the seconds after which another try makes sense."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SettingsError(PatchkilnError):
    """A setting is wrong or unsafe; the message holds the fix."""

    code = "settings_error"
    default_remedy = "Correct the setting and start again."


class StoreError(PatchkilnError):
    """The database could not read or write."""

    code = "store_error"
    retryable = True
    default_remedy = "Look at free disk space and permissions of the data directory, then retry."


class SandboxError(PatchkilnError):
    """The sandbox could not do what it was asked."""

    code = "sandbox_error"


class SandboxUnavailable(SandboxError):
    """No sandbox can be had; the message names the cause and the remedy the exact fix."""

    code = "sandbox_unavailable"
    default_remedy = "Run 'patchkiln doctor' on the server."


class SandboxLost(SandboxError):
    """The sandbox ended under a command, or answers no more."""

    code = "sandbox_lost"
    retryable = True
    default_remedy = "Start the run again."


class SandboxNotFound(SandboxError):
    """No living sandbox, or no snapshot, has this id."""

    code = "sandbox_not_found"
    default_remedy = "Create a new one."


class SandboxPaused(SandboxError):
    """The sandbox is paused."""

    code = "sandbox_paused"
    default_remedy = "Resume it first."


class SandboxUnsupported(SandboxError):
    """The provider's sandboxes cannot do this; the message names the missing capability."""

    code = "sandbox_unsupported"
    default_remedy = "Choose a provider that can: 'patchkiln doctor' lists what each one does."


class SandboxFileError(SandboxError):
    """A file operation inside the sandbox failed; ``errno`` as in the standard library."""

    code = "sandbox_file_error"
    default_remedy = "Check the path inside the sandbox."

    def __init__(self, message: str, *, errno: int) -> None:
        """Take the sentence and the error number."""
        super().__init__(message)
        self.errno = errno


class CommandError(PatchkilnError):
    """A command of the server's own failed, or might have.

    ``exit_code`` is None where none did; ``stderr_tail`` is the end of what it said.
    """

    def __init__(
        self,
        message: str,
        *,
        remedy: str | None = None,
        exit_code: int | None = None,
        stderr_tail: str = "",
    ) -> None:
        """Take the sentence and, where a command failed, its exit code and last output."""
        super().__init__(message, remedy=remedy)
        self.exit_code = exit_code
        self.stderr_tail = stderr_tail


class CloneError(CommandError):
    """Git could not bring the repository in."""

    code = "clone_failed"
    default_remedy = "Try 'git ls-remote URL' on the server's machine."


class RepositoryNotFound(CloneError):
    """The host answers, but has no such repository."""

    code = "repository_not_found"
    default_remedy = "Check owner and name in the URL."


class RepositoryPrivate(CloneError):
    """The host wants credentials."""

    code = "repository_private"
    default_remedy = "Use a public repository, or a URL prefix that the operator has allowed."


class RefNotFound(CloneError):
    """The repository has no such branch, tag or commit."""

    code = "ref_not_found"
    default_remedy = "Name an existing branch or tag, or a commit by its full 40-digit id."


class RepositoryEmpty(CloneError):
    """The repository has no commit to start from."""

    code = "repository_empty"
    default_remedy = "Push a first commit."


class RepositoryTooLarge(CloneError):
    """The repository is larger than the server accepts."""

    code = "repository_too_large"
    default_remedy = "Ask the operator to raise PATCHKILN_MAX_REPOSITORY_BYTES."


class CloneTimeout(CloneError):
    """The clone took longer than the server allows."""

    code = "clone_timeout"
    retryable = True
    default_remedy = "Try again; a large repository may need a higher PATCHKILN_CLONE_TIMEOUT_S."


class RemoteUnreachable(CloneError):
    """The git host could not be reached."""

    code = "remote_unreachable"
    retryable = True
    default_remedy = "Check the host's name and the server's network, then try again."


class PatchError(CommandError):
    """The change could not be turned into a patch within its limits."""

    code = "patch_failed"
    default_remedy = "Narrow the prompt so that the change becomes smaller."


class AgentError(PatchkilnError):
    """The agent could not go on."""

    code = "agent_failed"
    default_remedy = "Read the last events of the run, then try again."


class ModelNotConfigured(AgentError):
    """The chosen agent needs a model and the server has none."""

    code = "model_not_configured"
    default_remedy = (
        "Set PATCHKILN_MODEL to 'provider:name' and the provider's key, for example "
        "PATCHKILN_MODEL=anthropic:claude-sonnet-4-5 with ANTHROPIC_API_KEY."
    )


class ModelError(AgentError):
    """The model's server failed or answered nonsense."""

    code = "model_error"
    retryable = True
    default_remedy = "Check the model's name, key and quota, then try again."


class ModelRejected(ModelError):
    """The model's server refused the request: the key, the model's name, the quota or the size."""

    code = "model_rejected"
    retryable = False


class BudgetExhausted(AgentError):
    """A limit of the run was reached; what was done so far is kept."""

    code = "budget_exhausted"
    default_remedy = "Raise the run's limits, or narrow the prompt."
