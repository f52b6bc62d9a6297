"""What an engine says of itself: kind, version, runtime, and what its control groups can bound."""

from dataclasses import dataclass, replace
from typing import Any, cast

from patchkiln.errors import SandboxUnavailable
from patchkiln.sandboxes.container.diagnosis import check_version
from patchkiln.sandboxes.container.engine import Engine

_PODMAN = "Podman"
_GVISOR = "runsc"
_MAX_WORD_CHARS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """An engine and the machine it runs on. ``image`` is the operator's own, None for none."""

    name: str
    version: str
    runtime: str
    rootless: bool
    cgroups: str
    image: str | None
    bounds_memory: bool
    bounds_processes: bool

    @property
    def own_kernel(self) -> bool:
        """Tell whether its runtime is gVisor, whose kernel stands before the machine's."""
        return self.runtime.startswith(_GVISOR)

    @property
    def asks_for_runtime(self) -> bool:
        """Tell whether the engine takes a container's word for its runtime; Podman does not."""
        return self.name != _PODMAN


async def look(engine: Engine, *, image: str | None, runtime: str | None) -> Host:
    """Ask an engine who it is. Raises `SandboxUnavailable` and `EngineError`."""
    version = _document(await engine.get("/version"))
    check_version(version)
    info = _document(await engine.get("/info"))
    parts = str(version.get("Components"))
    name = _PODMAN if _PODMAN in parts else "Docker"
    host = Host(
        name=name,
        version=_word(version.get("Version")),
        runtime=_word(info.get("DefaultRuntime")).rpartition("/")[2],
        rootless=_is_rootless(info),
        cgroups=_word(info.get("CgroupVersion")),
        image=image,
        bounds_memory=_may_bound(info, "MemoryLimit"),
        bounds_processes=_may_bound(info, "PidsLimit"),
    )
    return host if runtime is None else _with_runtime(host, runtime, info)


def _with_runtime(host: Host, runtime: str, info: dict[str, Any]) -> Host:
    """Return the host with the runtime that containers will have. Raises `SandboxUnavailable`."""
    if host.name == _PODMAN and host.runtime != runtime:
        raise SandboxUnavailable(
            f"Podman runs containers with {host.runtime or 'another runtime'}, not with {runtime}: "
            "it has one runtime for all that come over its socket.",
            remedy=f"Write 'runtime = \"{runtime}\"' under [engine] in containers.conf and start "
            "Podman's service again, or leave PATCHKILN_CONTAINER_RUNTIME empty.",
        )
    if host.name != _PODMAN and runtime not in _document(info.get("Runtimes")):
        raise SandboxUnavailable(
            f"Docker knows no runtime {runtime}.",
            remedy="Install it and name it under 'runtimes' in /etc/docker/daemon.json (for "
            "gVisor: 'sudo runsc install -- --host-uds=open'), then restart Docker.",
        )
    return replace(host, runtime=runtime)


def _may_bound(info: dict[str, Any], name: str) -> bool:
    """Tell whether limits are more than words; rootless engines have none in version 1."""
    powerless = _is_rootless(info) and str(info.get("CgroupVersion")) == "1"
    return info.get(name) is True and not powerless


def _is_rootless(info: dict[str, Any]) -> bool:
    return "rootless" in str(info.get("SecurityOptions")) or info.get("Rootless") is True


def _document(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _word(value: Any) -> str:
    return str(value or "")[:_MAX_WORD_CHARS]
