"""The parts of a root that all boxes share, built once by the zygote in its staging directory."""

import os

from patchkiln.sandboxes.local.box import syscalls
from patchkiln.sandboxes.local.box.layout import BOX_GID, BOX_UID, HOME, HOSTNAME, USER

TEMPLATE = "template"
READ_ONLY = syscalls.ATTR_RDONLY | syscalls.ATTR_NOSUID | syscalls.ATTR_NODEV

SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
# Public by nature: the linker's cache, what Debian's /usr/bin points through, certificates, names
# of time zones, ports and media types, and settings of language runtimes.
ETC_DIRECTORIES = (
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "fonts",
    "ld.so.conf.d",
    "maven",
    "perl",
    "php",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "ssl/certs",
    "terminfo",
)
ETC_FILES = (
    "debian_version",
    "ld.so.cache",
    "ld.so.conf",
    "localtime",
    "magic",
    "mime.types",
    "os-release",
    "pki/tls/cert.pem",
    "pki/tls/openssl.cnf",
    "protocols",
    "services",
    "ssl/cert.pem",
    "ssl/openssl.cnf",
    "timezone",
)
_HOSTS = f"127.0.0.1 localhost {HOSTNAME}\n::1 localhost\n"
# An overlay shows other inode numbers and change times than the index of the checkout holds;
# without these two settings the first `git status` would hash every file again.
_GITCONFIG = """\
[safe]
\tdirectory = *
[core]
\tcheckStat = minimal
\ttrustctime = false
[user]
\tname = Patchkiln
\temail = patchkiln@localhost
[init]
\tdefaultBranch = main
"""
ETC_TEXTS = {
    "passwd": (
        "root:x:0:0:root:/:/usr/sbin/nologin\n"
        f"{USER}:x:{BOX_UID}:{BOX_GID}::{HOME}:/bin/bash\n"
        "nobody:x:65534:65534::/:/usr/sbin/nologin\n"
    ),
    "group": f"root:x:0:\n{USER}:x:{BOX_GID}:\nnogroup:x:65534:\n",
    "hosts": _HOSTS,
    "hostname": f"{HOSTNAME}\n",
    "host.conf": "multi on\n",
    # Where nothing listens unless the network is open: then a name fails at once.
    "resolv.conf": "nameserver 127.0.0.1\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n",
    "gitconfig": _GITCONFIG,
}


def build_template() -> None:
    """Build the shared parts below the working directory; nothing of it can be written later.

    Nor does it follow what is mounted on the host later: boxes are as they were at the start.
    """
    os.mkdir(TEMPLATE)
    syscalls.bind(TEMPLATE, TEMPLATE)
    for name in SYSTEM:
        _share_system(f"/{name}", f"{TEMPLATE}/{name}")
    _make_etc(f"{TEMPLATE}/etc")
    _make_dev(f"{TEMPLATE}/dev")
    syscalls.mount(None, TEMPLATE, None, syscalls.MS_REC | syscalls.MS_PRIVATE)


def _share_system(source: str, target: str) -> None:
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
    elif os.path.isdir(source):
        os.mkdir(target)
        syscalls.bind(source, target)
        syscalls.set_mount_attributes(target, READ_ONLY)


def _make_etc(etc: str) -> None:
    os.mkdir(etc)
    syscalls.mount("etc", etc, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755,size=8m")
    for name in ETC_DIRECTORIES:
        if os.path.isdir(f"/etc/{name}"):
            os.makedirs(f"{etc}/{name}", exist_ok=True)
            syscalls.bind(f"/etc/{name}", f"{etc}/{name}")
    for name in ETC_FILES:
        if os.path.lexists(f"/etc/{name}"):
            os.makedirs(os.path.dirname(f"{etc}/{name}"), exist_ok=True)
            _copy(f"/etc/{name}", f"{etc}/{name}")
    for name, text in ETC_TEXTS.items():
        with open(f"{etc}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    os.symlink("/proc/self/mounts", f"{etc}/mtab")
    syscalls.set_mount_attributes(etc, READ_ONLY)


def _copy(source: str, target: str) -> None:
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return
    with open(source, "rb") as original, open(target, "xb") as copy:
        copy.write(original.read())


def _make_dev(dev: str) -> None:
    os.mkdir(dev)
    flags = syscalls.MS_NOSUID | syscalls.MS_NOEXEC
    syscalls.mount("dev", dev, "tmpfs", flags, "mode=755,size=64k,nr_inodes=64")
    for name in DEVICES:
        with open(f"{dev}/{name}", "xb"):
            syscalls.bind(f"/dev/{name}", f"{dev}/{name}")
    for name, target in DEVICE_LINKS.items():
        os.symlink(target, f"{dev}/{name}")
    for name in ("pts", "shm"):
        os.mkdir(f"{dev}/{name}")
    syscalls.set_mount_attributes(dev, syscalls.ATTR_RDONLY, recursive=False)
