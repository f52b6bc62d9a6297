"""What a model's failure is told as: retryable or not, and never with a secret."""

import pytest
from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelServerError,
    ModelTimeoutError,
    UnexpectedModelBehavior,
    UserError,
)

from patchkiln.agent.builtin.failures import model_error, retryable
from patchkiln.agent.builtin.redaction import Redactor
from patchkiln.errors import ModelRejected


def _http(
    category: type[ModelRateLimitError | ModelQuotaExceededError | ModelServerError]
    | type[ModelAuthenticationError]
    | type[ModelContextWindowExceededError],
    status: int,
    message: str = "because",
) -> ModelHTTPError:
    body = {"error": {"message": message}}
    return ModelHTTPError.for_category(category, status_code=status, model_name="m", body=body)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (_http(ModelRateLimitError, 429), True),
        (_http(ModelServerError, 500), True),
        (ModelConnectionError("m", "x", phase="connect"), True),
        (ModelConnectionError("m", "x", phase="read"), True),
        (ModelTimeoutError("m", "x"), True),
        (ModelAPIError("m", "x"), True),
        (_http(ModelQuotaExceededError, 429), False),
        (_http(ModelAuthenticationError, 401), False),
        (_http(ModelContextWindowExceededError, 400), False),
        (UnexpectedModelBehavior("x"), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: AgentRunError, *, again: bool) -> None:
    """Busy, broken and unreachable servers are; refusals and nonsense are not."""
    assert retryable(error) is again


def test_a_refused_key_is_told_with_the_variable_to_check() -> None:
    """The remedy names the vendor's variable, and the engine does not try again."""
    told = model_error(_http(ModelAuthenticationError, 401), system="openai", redactor=Redactor())
    assert isinstance(told, ModelRejected)
    assert not told.retryable
    assert "OPENAI_API_KEY" in told.remedy


def test_a_full_context_is_told_as_such() -> None:
    """The way out is a narrower prompt or another model, not another try."""
    told = model_error(
        _http(ModelContextWindowExceededError, 400), system="openai", redactor=Redactor()
    )
    assert isinstance(told, ModelRejected)
    assert "context window" in told.remedy


def test_the_servers_own_words_are_kept() -> None:
    """What explains the failure reaches the user."""
    said = "The model `qwen3` does not support tools, pull another one."
    told = model_error(_http(ModelServerError, 500, said), system="ollama", redactor=Redactor())
    assert "does not support tools" in told.message


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abc123DEF456ghi789",
        "https://user:pass@host.example/v1?key=abc",
        "AIzaSyA1234567890abcdefgh",
        "sk-ant-************wxyz",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig",
    ],
)
def test_no_secret_of_an_error_body_is_told(secret: str) -> None:
    """Servers echo keys and URLs in their errors; the told message does not."""
    told = model_error(
        _http(ModelServerError, 500, f"wrong key {secret}."), system="openai", redactor=Redactor()
    )
    assert secret not in told.message
    assert "wrong key" in told.message


def test_a_connection_error_tells_no_address() -> None:
    """The library's own text may hold the server's URL; ours is written here."""
    error = ModelConnectionError("m", "http://user:pass@10.0.0.1:8000 refused", phase="connect")
    told = model_error(error, system="openai", redactor=Redactor())
    assert "cannot be reached" in told.message
    assert "10.0.0.1" not in told.message


def test_a_model_that_cannot_do_it_is_a_refusal() -> None:
    """A model without tools does not grow them on another try."""
    told = model_error(
        UserError("Tools are not supported by the model."), system="openai", redactor=Redactor()
    )
    assert isinstance(told, ModelRejected)
    assert "Tools are not supported" in told.message


def test_a_known_secret_is_hidden_even_where_the_text_is_cut() -> None:
    """It looks like a word, stands across the end of the excerpt, and no half of it is told."""
    error = _http(ModelServerError, 500, "so " * 65 + "my-vllm-token")
    told = model_error(error, system="openai", redactor=Redactor(["my-vllm-token"]))
    assert "so so" in told.message
    assert "my-" not in told.message
