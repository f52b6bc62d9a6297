"""The git commands of one fetch, as they run in its box. Failures are raised as `CloneError`."""

from dataclasses import dataclass, replace

from patchkiln.domain.repository import RepositoryUrl
from patchkiln.errors import RepositoryTooLarge
from patchkiln.ports.sandbox import Sandbox
from patchkiln.repositories.addresses import git_url, shown
from patchkiln.repositories.box import Command, Tell, script
from patchkiln.repositories.cache import Record
from patchkiln.repositories.failures import Failure, clone_error, ref_not_found, too_large
from patchkiln.repositories.refs import Advertised, Wanted, parse_advertised

_ULIMIT_BLOCK_BYTES = 512
_SHA1_CHARS = 40
_LFS_NOTE = "Files kept in Git LFS are present as pointers only."


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLimits:
    """The most that a repository may take: bytes of a pack and of a tree, files, seconds.

    ``stall_s``: how long a remote may send nothing at all.
    """

    max_bytes: int
    max_files: int
    timeout_s: float
    stall_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one fetch was asked for."""

    url: RepositoryUrl
    ref: str | None
    depth: int
    limits: FetchLimits

    def checkout_name(self, commit: str) -> str:
        """Return the name of the checkout: one commit at one depth."""
        return f"{commit}-{self.depth}"


async def list_remote(box: Sandbox, order: Order, *names: str) -> Advertised:
    """Ask the remote for its refs of these names, all without one."""
    argv = ("git", "ls-remote", "--quiet", "--symref", "--", git_url(order.url), *names)
    command = Command(box, argv)
    await command.run()
    _check(order, command)
    return parse_advertised(command.stdout)


async def receive(box: Sandbox, order: Order, wanted: Wanted, tell: Tell, *, anew: bool) -> str:
    """Bring the objects in, ``anew`` into an empty store, and return the commit's id."""
    command = _script(
        box,
        "fetch",
        git_url(order.url),
        wanted.object_id,
        str(order.depth),
        _format_of(wanted.object_id),
        str(max(order.limits.max_bytes // _ULIMIT_BLOCK_BYTES, 1)),
        "anew" if anew else "",
    )
    await command.run(tell)
    _check(order, command)
    commit = command.stdout.strip()
    if not commit:
        raise ref_not_found(shown(order.url), order.ref)
    return commit


async def measure(box: Sandbox, order: Order, commit: str, branch: str) -> Record:
    """Count a tree before it is written. Raises `RepositoryTooLarge`."""
    limits = order.limits
    command = _script(box, "measure", commit, str(limits.max_files))
    await command.run()
    _check(order, command)
    *modules, tree = command.stdout.splitlines()
    file_count, directory_count, size_bytes, extra_bytes = map(int, tree.split()[1:])
    if file_count + directory_count > limits.max_files:
        raise RepositoryTooLarge(
            f"{shown(order.url)} has more than {limits.max_files} files and directories.",
            remedy="Use a smaller repository; the server's limit on files is fixed.",
        )
    if size_bytes + extra_bytes > limits.max_bytes:
        raise too_large(shown(order.url), limits.max_bytes)
    return Record(
        commit=commit,
        branch=branch,
        file_count=file_count,
        size_bytes=size_bytes,
        extra_bytes=extra_bytes,
        notes=_submodule_note(modules),
    )


async def check_out(box: Sandbox, order: Order, record: Record) -> Record:
    """Write a working tree into the new checkout; return its record with what was noticed."""
    arguments = (record.commit, record.branch, _format_of(record.commit))
    command = _script(box, "checkout", *arguments)
    await command.run()
    _check(order, command)
    packs, *lfs = command.stdout.split()
    notes = (_LFS_NOTE,) if lfs else ()
    extra_bytes = record.extra_bytes + int(packs)
    return replace(record, notes=(*record.notes, *notes), extra_bytes=extra_bytes)


def _script(box: Sandbox, name: str, *arguments: str) -> Command:
    return Command(box, ("/bin/sh", "-c", script(name), name, *arguments))


def _check(order: Order, command: Command) -> None:
    if not command.failed:
        return
    raise clone_error(
        Failure(
            repository=shown(order.url),
            ref=order.ref,
            exit_code=command.exit_code,
            stderr=command.stderr_tail,
            max_bytes=order.limits.max_bytes,
        )
    )


def _format_of(object_id: str) -> str:
    return "sha1" if len(object_id) == _SHA1_CHARS else "sha256"


def _submodule_note(lines: list[str]) -> tuple[str, ...]:
    names = [line.removeprefix("submodule ") for line in lines]
    printed = ["".join(c if c.isprintable() else "?" for c in name) for name in names]
    return (f"Submodules are not fetched: {', '.join(printed)}.",) if printed else ()
