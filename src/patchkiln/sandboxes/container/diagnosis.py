"""Why no container can be had, and the exact fix."""

import http.client
import re
from typing import Any, cast

from patchkiln.errors import SandboxUnavailable
from patchkiln.sandboxes.container.engine import EngineError
from patchkiln.sandboxes.container.lines import NoAnswer

_PATH = re.compile(r"(?<!\w)/[^\s\"'`,:;]*")
_OLDEST_API = (1, 41)
_REPORT = "Run 'patchkiln doctor' on the server."


def check_version(version: Any) -> None:
    """Raise `SandboxUnavailable` for an engine that is too old. ``version``: what it says."""
    document = cast("dict[str, Any]", version) if isinstance(version, dict) else {}
    spoken = re.findall(r"\d+", str(document.get("ApiVersion", "")))[:2]
    if tuple(map(int, spoken)) < _OLDEST_API:
        raise SandboxUnavailable(
            "The container engine is too old: it does not speak version 1.41 of Docker's "
            "interface.",
            remedy="Use Podman 4.0 or newer, or Docker 20.10 or newer.",
        )


def explain(error: EngineError, image: str | None) -> SandboxUnavailable:
    """Say what an engine's refusal means. ``image``: the operator's own, None for the host's."""
    said = without_paths(error.message)
    if not error.status:
        return SandboxUnavailable(
            f"The container engine does not answer ({said}).",
            remedy="Start its service again, and look at its log.",
        )
    if error.status == http.client.NOT_FOUND and image is not None:
        return SandboxUnavailable(
            "The container engine does not have the image that PATCHKILN_CONTAINER_IMAGE names.",
            remedy="Pull it with 'podman pull' or 'docker pull', as the user whose engine this is, "
            "or leave the setting empty to use the host's own programs.",
        )
    return SandboxUnavailable(
        f"The container engine refused to start a container: {said}.",
        remedy="See whether 'podman run --rm --network none IMAGE true' (or 'docker run') works "
        "for the engine's user; its message says what is missing.",
    )


def explain_silence(silence: NoAnswer) -> SandboxUnavailable:
    """Say what it means that a container started and its PID 1 does not serve."""
    if silence.reply is not None:
        return SandboxUnavailable(
            f"The container's kernel refused a step of hardening: {silence.reply.step}.",
            remedy=_REPORT,
        )
    return SandboxUnavailable(
        "A container was started, and nothing in it answers over the server's socket.",
        remedy="The engine has to run on this machine and not in a virtual one; the image needs "
        "python3 (3.9 or newer), tar and a shell; and gVisor needs '--host-uds=open' among the "
        "arguments of its runtime.",
    )


def without_paths(text: str) -> str:
    """Take the host's paths out of what an engine says."""
    return _PATH.sub("[path]", text).rstrip(".")
