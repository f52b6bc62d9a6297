"""What ``patchkiln run`` asks for, as the body that the API takes: one set of rules for both."""

from argparse import Namespace

from patchkiln.cli.local_clone import LocalClone
from patchkiln.domain.event import JsonValue
from patchkiln.domain.network import NetworkRule


def body_of(arguments: Namespace, clone: LocalClone | None) -> dict[str, JsonValue]:
    """Return the body of ``POST /code`` for the options; what was not given is left out."""
    fields: dict[str, JsonValue] = {
        "repoUrl": arguments.repo if clone is None else clone.url,
        "prompt": arguments.prompt,
        "ref": arguments.ref,
        "agent": arguments.agent,
        "model": arguments.model,
        "checks": _checks(arguments.checks),
        "network": _network(arguments.network),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _network(rules: tuple[NetworkRule, ...]) -> JsonValue:
    return [str(rule) for rule in rules] or None


def _checks(values: list[str] | None) -> JsonValue:
    """Return ``auto`` or ``off`` where one of them stands alone, else the commands."""
    if values is not None and len(values) == 1 and values[0] in {"auto", "off"}:
        return values[0]
    return values
