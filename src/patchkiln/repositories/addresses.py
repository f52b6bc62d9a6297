"""How a repository's address is spelled to git, to the sandbox's network and to the cache."""

import hashlib
import ipaddress
from pathlib import Path
from urllib.parse import unquote

from patchkiln.domain.network import NetworkPolicy, NetworkRule
from patchkiln.domain.repository import DEFAULT_PORTS, RepositoryUrl
from patchkiln.errors import RepositoryNotFound
from patchkiln.ports.sandbox import HostMount

REMOTE_DIRECTORY = "/remote"
_KEY_CHARS = 32


def git_url(url: RepositoryUrl) -> str:
    """Return the URL for git, rebuilt from what was checked; a local one names its mount."""
    if url.scheme == "file":
        return f"file://{REMOTE_DIRECTORY}"
    host = f"[{url.host}]" if ":" in url.host else url.host
    port = "" if url.port == DEFAULT_PORTS.get(url.scheme) else f":{url.port}"
    return f"{url.scheme}://{host}{port}{url.path}"


def cache_key(url: RepositoryUrl) -> str:
    """Return the name of a repository's cache entry; ``.git`` and a last ``/`` do not count."""
    path = url.path.rstrip("/").removesuffix(".git").rstrip("/")
    address = f"{url.scheme}://{url.host.lower()}:{url.port}{path}"
    return hashlib.sha256(address.encode()).hexdigest()[:_KEY_CHARS]


def shown(url: RepositoryUrl) -> str:
    """Return the repository as messages name it; never a path of the host."""
    return url.name if url.scheme == "file" else f"{url.host}{url.path}"


def network(url: RepositoryUrl) -> NetworkPolicy:
    """Return what the fetch box may reach: the one host and port of the repository."""
    if url.scheme == "file":
        return NetworkPolicy()
    rule = NetworkRule(host=_rule_host(url.host), port=url.port, trusted=url.trusted)
    return NetworkPolicy(rules=(rule,))


def _rule_host(host: str) -> str:
    """Return a host in the form of the rules, which know an address by one spelling alone."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def mounts(url: RepositoryUrl) -> tuple[HostMount, ...]:
    """Return the mount of a local repository. Raises `RepositoryNotFound`."""
    if url.scheme != "file":
        return ()
    directory = Path(unquote(url.path))
    if not (directory / ".git").exists() and not (directory / "HEAD").is_file():
        raise RepositoryNotFound(
            f"There is no git repository '{url.name}' at this path of the server.",
            remedy="Name the directory of a bare repository, or one that holds '.git'.",
        )
    return (HostMount(source=directory, target=REMOTE_DIRECTORY),)
