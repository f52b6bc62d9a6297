"""Repository URLs and refs: what may be cloned at all. Pure; names are resolved elsewhere.

The rules follow git's own traps: a URL or ref that begins with ``-`` becomes an option, ``ext::``
runs commands, ``file://`` reads the host, user information leaks into logs and ``.git/config``.
"""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from patchkiln.domain.addresses import IPAddress, forbidden_address
from patchkiln.errors import ForbiddenUrl, InvalidRequest

MAX_URL_CHARS = 2048
DEFAULT_PORTS = {"https": 443, "http": 80, "git": 9418}
LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})
LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".home.arpa")
_HOST = re.compile(
    r"(?!-)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*\.?", re.IGNORECASE
)
_REF = re.compile(r"[A-Za-z0-9_][\w./+-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryUrl:
    """A URL that the policy allows. ``host`` is empty for ``file``; ``port`` is always set else.

    ``trusted``: the operator allowed this prefix, so that private addresses are meant.
    """

    url: str
    scheme: str
    host: str
    port: int
    path: str
    trusted: bool

    @property
    def name(self) -> str:
        """Return the short name, as the summary's ``repository``."""
        last = unquote(self.path).rstrip("/").rsplit("/", 1)[-1].removesuffix(".git")
        return last or self.host or "repository"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """An immutable working tree at a commit, in the server's cache.

    ``path`` is a place on the host for the sandbox provider alone; it never leaves the server.
    ``branch`` is the name that the workspace's HEAD carries. ``cached``: nothing had to be
    checked out anew.
    """

    repository: str
    commit: str
    branch: str
    path: Path
    file_count: int
    size_bytes: int
    cached: bool
    notes: tuple[str, ...] = ()


def parse_repository_url(text: str, *, allow: tuple[str, ...] = ()) -> RepositoryUrl:
    """Check a repository URL against the policy.

    ``allow`` holds the operator's prefixes (`PATCHKILN_GIT_ALLOW`). Raises `ForbiddenUrl` with the
    rule in its message, and `InvalidRequest` where the text is no repository URL at all.
    """
    if len(text) > MAX_URL_CHARS or not text.isprintable() or " " in text or not text:
        raise InvalidRequest("This is no repository URL.", field="repoUrl")
    if text.startswith("-"):
        raise ForbiddenUrl("A repository URL must not begin with '-'.", field="repoUrl")
    parts, port = _split(text)
    url = RepositoryUrl(
        url=text,
        scheme=parts.scheme,
        host=(parts.hostname or "").rstrip("."),
        port=port or DEFAULT_PORTS.get(parts.scheme, 0),
        path=parts.path,
        trusted=_allowed(text, allow),
    )
    _check_shape(url, parts)
    if not url.trusted:
        _check_policy(url, port)
    return url


def check_ref(ref: str) -> str:
    """Return a branch, tag or commit name that git can not take for anything else.

    Raises `InvalidRequest`. The rules are the strict part of git-check-ref-format(1).
    """
    bad = (
        len(ref) > 255  # noqa: PLR2004 - the limit of a file name, which a loose ref is
        or not _REF.fullmatch(ref)
        or ".." in ref
        or "//" in ref
        or "/." in ref
        or ref.endswith(("/", ".", ".lock"))
    )
    if bad:
        raise InvalidRequest("This is no valid branch, tag or commit name.", field="ref")
    return ref


def is_commit_id(ref: str) -> bool:
    """Tell whether a ref is a full commit id (SHA-1 or SHA-256)."""
    return _COMMIT.fullmatch(ref) is not None


def _split(text: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidRequest("This is no repository URL.", field="repoUrl") from error
    return parts, port


def _allowed(text: str, allow: tuple[str, ...]) -> bool:
    """Match whole path segments, and never across a ``..``."""
    segments = unquote(urlsplit(text).path).split("/")
    if ".." in segments:
        return False
    return any(text == prefix or text.startswith(prefix.rstrip("/") + "/") for prefix in allow)


def _check_shape(url: RepositoryUrl, parts: SplitResult) -> None:
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise ForbiddenUrl("Credentials in a repository URL are forbidden.", field="repoUrl")
    if not url.scheme or "::" in url.url.split("/", 1)[0]:
        raise InvalidRequest(
            "This is no repository URL: it needs a scheme such as https://.", field="repoUrl"
        )
    if url.scheme in DEFAULT_PORTS and not _HOST.fullmatch(url.host) and not _literal(url.host):
        raise InvalidRequest("The repository URL's host is no valid name.", field="repoUrl")
    _check_path(url.path, parts)


def _check_path(path: str, parts: SplitResult) -> None:
    if parts.query or parts.fragment:
        raise InvalidRequest(
            "A query or a fragment ('?' or '#') has no place in a repository URL.", field="repoUrl"
        )
    if not path.strip("/"):
        raise InvalidRequest("The URL names a host but no repository.", field="repoUrl")
    # Its last part is shown in messages, logs and terminals.
    if not unquote(path).isprintable():
        raise InvalidRequest(
            "The repository URL's path hides characters that cannot be printed.", field="repoUrl"
        )


def _check_policy(url: RepositoryUrl, port: int | None) -> None:
    if url.scheme != "https":
        raise ForbiddenUrl(
            f"The scheme '{url.scheme}' is forbidden; only https is allowed.", field="repoUrl"
        )
    if port not in {None, DEFAULT_PORTS["https"]}:
        raise ForbiddenUrl("Ports other than 443 are forbidden.", field="repoUrl")
    literal = _literal(url.host)
    if literal is not None:
        rule = forbidden_address(literal) or "address instead of a name"
        raise ForbiddenUrl(f"The host is a {rule}, which is forbidden.", field="repoUrl")
    host = url.host.lower()
    if host in LOCAL_NAMES or host.endswith(LOCAL_SUFFIXES) or "." not in host:
        raise ForbiddenUrl("The host is a local name, which is forbidden.", field="repoUrl")
    if host.rsplit(".", 1)[-1].isdigit() or host.rsplit(".", 1)[-1].startswith("0x"):
        raise ForbiddenUrl(
            "The host is an address in disguise, which is forbidden.", field="repoUrl"
        )


def _literal(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
