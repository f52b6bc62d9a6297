"""What a model's failure means: told without secrets, and whether another try makes sense."""

import re
from collections.abc import Mapping
from typing import cast

from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRequestRejectedError,
    ModelTimeoutError,
    UserError,
)

from patchkiln.agent.builtin.clipping import one_line
from patchkiln.agent.builtin.redaction import REDACTED, Redactor
from patchkiln.errors import ModelError, ModelRejected

MAX_EXCERPT_CHARS = 200
# A guess behind the known secrets: keys, URLs with their credentials and signed tokens are long
# words; so is nothing that explains.
_SECRET = re.compile(r"\S*(?:://|@|\*{3}|(?=\S*\d)[\w\-./+=]{16,})\S*")


def retryable(error: AgentRunError) -> bool:
    """Tell whether the same request may succeed in a moment.

    Connection errors, cut and silent streams, 408, 409, 425, 429 and 5xx may; what the server
    refused as such will not, and neither will an account without credit.
    """
    if not isinstance(error, ModelAPIError):
        return False
    return not isinstance(error, ModelRequestRejectedError | ModelQuotaExceededError)


def model_error(error: AgentRunError | UserError, *, system: str, redactor: Redactor) -> ModelError:
    """Return the error of the port; ``system`` is the provider's name, as in ``openai``."""
    if isinstance(error, UserError):
        return ModelRejected(
            f"The model cannot be used for this: {one_line(redactor.text(error.message))}"
        )
    if not isinstance(error, ModelAPIError):
        return ModelError(
            "The model's answers made no sense: empty, or broken tool calls, several in a row.",
            remedy="Try again, or choose a stronger model.",
        )
    if retryable(error):
        return ModelError(f"The model's server failed: {reason(error)}{_excerpt(error, redactor)}.")
    return ModelRejected(
        f"The model's server refused the request: {reason(error)}{_excerpt(error, redactor)}.",
        remedy=_remedy(error, system),
    )


def reason(error: AgentRunError) -> str:
    """Return what went wrong in a few words."""
    if isinstance(error, ModelHTTPError):
        return f"it answered {error.status_code}"
    if isinstance(error, ModelTimeoutError):
        return "it fell silent"
    if isinstance(error, ModelConnectionError):
        return "it cannot be reached" if error.phase == "connect" else "the connection broke off"
    return "its answer broke off"


def _remedy(error: ModelAPIError, system: str) -> str | None:
    if isinstance(error, ModelAuthenticationError):
        return f"Check {system.upper().replace('-', '_')}_API_KEY on the server."
    if isinstance(error, ModelContextWindowExceededError):
        return "Narrow the prompt, or choose a model with a larger context window."
    return None


def _excerpt(error: AgentRunError, redactor: Redactor) -> str:
    """Return the server's own explanation, without anything that could be a secret."""
    if not isinstance(error, ModelHTTPError):
        return ""
    said = redactor.text(_explanation(error.body))[: MAX_EXCERPT_CHARS * 4]
    said = one_line(_SECRET.sub(REDACTED, said), MAX_EXCERPT_CHARS).rstrip(".")
    return f" ({said})" if said else ""


def _explanation(body: object) -> str:
    if isinstance(body, Mapping):
        fields = cast("Mapping[str, object]", body)
        return _explanation(fields.get("message") or fields.get("error"))
    return body if isinstance(body, str) else ""
