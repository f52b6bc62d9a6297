"""What git's words on stderr become: one error each, with a remedy."""

import pytest

from patchkiln.errors import (
    CloneError,
    CloneTimeout,
    RefNotFound,
    RemoteUnreachable,
    RepositoryNotFound,
    RepositoryPrivate,
    RepositoryTooLarge,
)
from patchkiln.repositories.failures import Failure, clone_error, ref_not_found, size

URL = "https://example.org/o/n/"
NO_PROMPT = f"fatal: could not read Username for '{URL}': terminal prompts disabled"


def error_for(stderr: str, *, ref: str | None = None, exit_code: int = 128) -> CloneError:
    """Classify what a git command said."""
    return clone_error(
        Failure(
            repository="example.org/o/n",
            ref=ref,
            exit_code=exit_code,
            stderr=stderr,
            max_bytes=5 << 30,
        )
    )


@pytest.mark.parametrize(
    ("stderr", "kind", "says"),
    [
        (NO_PROMPT, RepositoryPrivate, "private or does not exist"),
        (f"fatal: Authentication failed for '{URL}'", RepositoryPrivate, "private"),
        (f"fatal: unable to access '{URL}': ... returned error: 403", RepositoryPrivate, "private"),
        (f"fatal: repository '{URL}' not found", RepositoryNotFound, "no git repository"),
        ("fatal: '/remote' does not appear to be a git repository", RepositoryNotFound, "no git"),
        ("fatal: remote error: repository not exported: /x", RepositoryNotFound, "no git"),
        (f"fatal: {URL}info/refs: is this a git repository?", RepositoryNotFound, "no git"),
        (f"fatal: unable to access '{URL}': ... returned error: 302", CloneError, "redirects"),
        ("fatal: unable to update url base from redirection:", CloneError, "redirects"),
        (f"fatal: unable to access '{URL}': ... returned error: 503", RemoteUnreachable, "now"),
        ("error: RPC failed; HTTP 429 curl 22 ... returned error: 429", RemoteUnreachable, "now"),
        ("fatal: unable to access: Could not resolve host: x", RemoteUnreachable, "reached"),
        ("fatal: unable to access: Failed to connect to x port 1", RemoteUnreachable, "reached"),
        ("fatal: unable to access: Empty reply from server", RemoteUnreachable, "reached"),
        ("fetch-pack: unexpected disconnect while reading", RemoteUnreachable, "reached"),
        ("curl 28 Operation too slow. Less than 1 bytes/sec", CloneTimeout, "stopped"),
        ("server certificate verification failed. CAfile: none", CloneError, "certificate"),
        ("fatal: remote error: upload-pack: not our ref " + "a" * 40, RefNotFound, "no branch"),
        ("fatal: couldn't find remote ref refs/heads/x", RefNotFound, "no branch"),
        ("error: index-pack died of signal 25", RepositoryTooLarge, "5 GiB"),
        ("fatal: write error: No space left on device", CloneError, "disk is full"),
        ("error: object abc: hasDotgit: contains '.git'\nfatal: fsck error", CloneError, "damaged"),
        ("fatal: dumb http transport does not support shallow cap", CloneError, "part of the"),
        ("error: index-pack died of signal 9", CloneError, "memory"),
        ("fatal: something that no git has said before", CloneError, "could not clone"),
    ],
)
def test_words_of_git_become_an_error(stderr: str, kind: type[CloneError], says: str) -> None:
    """Each failure has its own class, a sentence with the repository, a remedy and git's output."""
    error = error_for(stderr, ref="x")
    assert type(error) is kind
    assert says in error.message
    assert "example.org/o/n" in error.message
    assert error.remedy.endswith(".")
    assert (error.exit_code, error.stderr_tail) == (128, stderr)


def test_only_passing_failures_are_retried() -> None:
    """A host that cannot be reached is tried again, a repository that does not exist is not."""
    assert error_for("Could not resolve host: x").retryable
    assert error_for("curl 28 Operation too slow").retryable
    assert not error_for(NO_PROMPT).retryable
    assert not error_for(f"fatal: repository '{URL}' not found").retryable


def test_missing_ref_is_named_as_the_caller_wrote_it() -> None:
    """The error tells which ref is missing; without one, that HEAD leads nowhere."""
    assert "'v9'" in ref_not_found("x", "v9").message
    assert "commit" in ref_not_found("x", "a" * 40).message
    dangling = ref_not_found("x", None)
    assert "HEAD" in dangling.message
    assert "'ref'" in dangling.remedy


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1 << 10, "1 KiB"), (5 << 30, "5 GiB")],
)
def test_sizes_read_well(count: int, text: str) -> None:
    """Sizes are told in the largest unit that fits."""
    assert size(count) == text
