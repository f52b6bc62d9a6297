"""The image of containers that see the host's own /usr: settings and empty directories, no program.

It is made on the spot, so that no registry has to be reached; its name is that of its content.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from patchkiln.sandboxes.local.box.layout import HOME, HOST_GID, HOST_UID, USER
from patchkiln.sandboxes.local.zygote.template import ETC_DIRECTORIES, ETC_FILES, ETC_TEXTS, SYSTEM

_REPOSITORY = "localhost/patchkiln"
_KEY_CHARS = 16
_DIRECTORIES = ("base", "dev", "etc", "home", "home/user", "opt", "proc", "run", "sys", "tmp")
_MORE_DIRECTORIES = ("var", "var/tmp", "workspace")
_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o644
# Engines write these themselves.
_ENGINES_OWN = frozenset({"hosts", "hostname"})
_IDENTITY = {
    "passwd": f"root:x:0:0:root:/:/usr/sbin/nologin\n"
    f"{USER}:x:{HOST_UID}:{HOST_GID}::{HOME}:/bin/bash\n",
    "group": f"root:x:0:\n{USER}:x:{HOST_GID}:\n",
}


def build_image() -> tuple[str, bytes]:
    """Return an image's name and its files as a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for entry, content in _entries():
            archive.addfile(entry, io.BytesIO(content))
    data = buffer.getvalue()
    key = hashlib.sha256(data).hexdigest()[:_KEY_CHARS]
    return f"{_REPOSITORY}:{key}", data


def system_mounts() -> dict[str, Path]:
    """Return the host's directories that such a container sees, by where it sees them."""
    places = [f"/{name}" for name in SYSTEM if _is_own_directory(f"/{name}")]
    places += [f"/etc/{name}" for name in ETC_DIRECTORIES if os.path.isdir(f"/etc/{name}")]
    return {place: Path(os.path.realpath(place)) for place in places}


def _entries() -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    for name in (*_DIRECTORIES, *_MORE_DIRECTORIES):
        yield _directory(name), b""
    for name in SYSTEM:
        if os.path.islink(f"/{name}"):
            yield _link(name, os.readlink(f"/{name}")), b""
        elif os.path.isdir(f"/{name}"):
            yield _directory(name), b""
    yield from _etc()


def _etc() -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    texts = {**ETC_TEXTS, **_IDENTITY}
    for name in (*ETC_DIRECTORIES, "pki/tls", "ssl"):
        if os.path.isdir(f"/etc/{name}"):
            yield _directory(f"etc/{name}"), b""
    for name in ETC_FILES:
        if os.path.islink(f"/etc/{name}"):
            yield _link(f"etc/{name}", os.readlink(f"/etc/{name}")), b""
        elif os.path.isfile(f"/etc/{name}"):
            with open(f"/etc/{name}", "rb") as file:
                yield _file(f"etc/{name}", content := file.read()), content
    for name, text in texts.items():
        if name not in _ENGINES_OWN:
            yield _file(f"etc/{name}", text.encode()), text.encode()


def _directory(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, _DIRECTORY_MODE
    return entry


def _link(name: str, target: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry


def _file(name: str, content: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = _FILE_MODE, len(content)
    return entry


def _is_own_directory(place: str) -> bool:
    return os.path.isdir(place) and not os.path.islink(place)
