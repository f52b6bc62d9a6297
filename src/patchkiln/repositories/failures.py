"""Why git failed, read from its exit and its words. Pure.

The words are git's own in the C locale (builtin/fetch.c, http.c, remote-curl.c, connect.c) and
curl's; they have been stable for years, and what is not recognised stays a plain `CloneError`.
"""

import re
from dataclasses import dataclass

from patchkiln.domain.repository import is_commit_id
from patchkiln.errors import (
    CloneError,
    CloneTimeout,
    RefNotFound,
    RemoteUnreachable,
    RepositoryNotFound,
    RepositoryPrivate,
    RepositoryTooLarge,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a command of a fetch failed. ``stderr`` is bounded and printable."""

    repository: str
    ref: str | None
    exit_code: int
    stderr: str
    max_bytes: int


def clone_error(failure: Failure) -> CloneError:
    """Return the error that tells a person what went wrong and what to do about it."""
    error = _recognised(failure)
    error.exit_code, error.stderr_tail = failure.exit_code, failure.stderr
    return error


def ref_not_found(repository: str, ref: str | None) -> CloneError:
    """Return the error for a branch, tag or commit that the remote does not have."""
    if ref is None:
        return RefNotFound(
            f"The HEAD of {repository} names a branch that does not exist.",
            remedy="Name an existing branch with the field 'ref'.",
        )
    kind = "commit" if is_commit_id(ref) else "branch, tag or commit"
    return RefNotFound(f"{repository} has no {kind} '{ref}'.")


def too_large(repository: str, max_bytes: int) -> CloneError:
    """Return the error for a repository over the limit of bytes."""
    return RepositoryTooLarge(f"{repository} is larger than {size(max_bytes)}.")


def timed_out(repository: str, timeout_s: float) -> CloneError:
    """Return the error for a clone that took longer than allowed."""
    return CloneTimeout(f"{repository} was not cloned within {timeout_s:g} s.")


def size(count: int) -> str:
    """Return a number of bytes for a person."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):.3g} {unit}"
    return f"{count} bytes"


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a pattern in git's stderr means. ``message`` may name ``{repository}``."""

    pattern: str
    kind: type[CloneError]
    message: str
    remedy: str | None = None


_TOO_LARGE = r"died of signal 25|File too large|exceeds maximum allowed size"
_NO_REF = r"couldn't find remote ref|not our ref|unadvertised object"
_NOT_CONNECTED = (
    r"Could not resolve host|[Ff]ailed to connect|Couldn't connect|Connection re(fused|set)"
    r"|Empty reply|Recv failure|Send failure|SSL_|gnutls|TLS|RPC failed|early EOF"
    r"|unexpected disconnect|hung up|unable to connect|unable to look up"
)
# The first that matches counts: what is certain stands before what only hints.
_RULES: tuple[_Rule, ...] = (
    _Rule(
        r"No space left on device|Disk quota exceeded",
        CloneError,
        "The server's disk is full; {repository} was not cloned.",
        "Free disk space in the server's data directory, then try again.",
    ),
    _Rule(
        r"error: 30[12378]\b|unable to update url base from redirection",
        CloneError,
        "{repository} redirects to another address, and redirects are not followed.",
        "Use the repository's present URL.",
    ),
    # GitHub and GitLab answer 401 for what does not exist, so that names cannot be probed.
    _Rule(
        r"could not read (Username|Password)|Authentication failed|error: 40[13]\b",
        RepositoryPrivate,
        "{repository} is private or does not exist: its host asks for credentials.",
        "Check owner and name in the URL; only public repositories can be cloned.",
    ),
    _Rule(
        r"dumb http transport does not support shallow",
        CloneError,
        "The host of {repository} cannot serve a part of the history.",
        "Ask for the whole history: set 'depth' of the field 'clone' to 0.",
    ),
    _Rule(
        r"repository '[^']*' not found|error: 4(04|10)\b|not exported|is this a git",
        RepositoryNotFound,
        "There is no git repository at {repository}.",
    ),
    _Rule(
        r"Permission denied",
        CloneError,
        "The files of {repository} are not readable inside the sandbox.",
        "Make the repository readable for everyone: chmod -R a+rX on its directory.",
    ),
    _Rule(
        r"does not appear to be a git repository|not a git repository",
        RepositoryNotFound,
        "There is no git repository at {repository}.",
    ),
    _Rule(
        r"Operation too slow|Operation timed out|Connection timed out|Timeout was",
        CloneTimeout,
        "The host of {repository} stopped answering.",
        "Try again later.",
    ),
    _Rule(
        r"certificate",
        CloneError,
        "The certificate of the host of {repository} could not be verified.",
        "Install the certificate authority on the server's machine, or use another URL.",
    ),
    _Rule(
        r"error: (429|5\d\d)\b",
        RemoteUnreachable,
        "The host of {repository} answers, but cannot serve it now.",
        "Try again later.",
    ),
    _Rule(
        r"fsck error|fsck failed|invalid object|bad object|unresolved deltas|inflate",
        CloneError,
        "{repository} holds a damaged or dangerous object, which git refuses.",
        "Run 'git fsck' on the repository and repair what it names.",
    ),
    _Rule(
        r"[Oo]ut of memory|died of signal 9",
        CloneError,
        "Git ran out of memory on {repository}.",
        "Use a repository with smaller files, or a smaller depth.",
    ),
    _Rule(_NOT_CONNECTED, RemoteUnreachable, "The host of {repository} could not be reached."),
)


def _recognised(failure: Failure) -> CloneError:
    if re.search(_TOO_LARGE, failure.stderr):
        return too_large(failure.repository, failure.max_bytes)
    if re.search(_NO_REF, failure.stderr):
        return ref_not_found(failure.repository, failure.ref)
    for rule in _RULES:
        if re.search(rule.pattern, failure.stderr):
            return rule.kind(rule.message.format(repository=failure.repository), remedy=rule.remedy)
    return CloneError(f"Git could not clone {failure.repository}.")
