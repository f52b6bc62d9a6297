"""Which commit a ref means, read from what ``git ls-remote --symref`` printed."""

import re
from dataclasses import dataclass

from patchkiln.domain.repository import check_ref, is_commit_id
from patchkiln.errors import InvalidRequest

DEFAULT_BRANCH = "main"
_LINE = re.compile(r"(ref: (?P<target>\S+)|(?P<id>[0-9a-f]{40}|[0-9a-f]{64}))\t(?P<name>\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertised:
    """What a remote has: object ids by ref name, and the branch that its HEAD names."""

    ids: dict[str, str]
    default_branch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to fetch: ``object_id`` may be a tag, ``commit`` is None until it was peeled."""

    object_id: str
    commit: str | None
    branch: str


def patterns(ref: str | None) -> tuple[str, ...]:
    """Return the arguments of ls-remote that cover a branch, a tag or a full ref name."""
    if ref is None or ref == "HEAD" or is_commit_id(ref):
        return ("HEAD",)
    names = [f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}"]
    if ref.startswith("refs/"):
        names += [ref, f"{ref}^{{}}"]
    return (*names, "HEAD")


def parse_advertised(output: str) -> Advertised:
    """Read ls-remote's output; lines that are none of its own are passed over."""
    ids: dict[str, str] = {}
    default = ""
    for line in output.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        if match["id"]:
            ids[match["name"]] = match["id"]
        elif match["name"] == "HEAD":
            default = match["target"].removeprefix("refs/heads/")
    return Advertised(ids=ids, default_branch=_safe(default))


def choose(advertised: Advertised, ref: str | None) -> Wanted | None:
    """Return what the ref means, branches before tags as ``git clone --branch`` has it."""
    if ref is None or ref == "HEAD":
        return _of(advertised, "HEAD", advertised.default_branch)
    if is_commit_id(ref):
        return Wanted(object_id=ref, commit=None, branch=advertised.default_branch)
    names = [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    names += [ref] if ref.startswith("refs/") else []
    found = [name for name in names if name in advertised.ids]
    return _of(advertised, found[0], ref.removeprefix("refs/")) if found else None


def _of(advertised: Advertised, name: str, branch: str) -> Wanted | None:
    object_id = advertised.ids.get(name)
    if object_id is None:
        return None
    peeled = advertised.ids.get(f"{name}^{{}}")
    # Only branches and peeled tags are surely commits: a plain tag may name a tree.
    known = object_id if name == "HEAD" or name.startswith("refs/heads/") else None
    return Wanted(object_id=object_id, commit=peeled or known, branch=_safe(branch))


def _safe(branch: str) -> str:
    """Keep a remote's odd branch name out of file names and terminals."""
    try:
        return check_ref(branch)
    except InvalidRequest:
        return DEFAULT_BRANCH
