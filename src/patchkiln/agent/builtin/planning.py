"""Reads a plan out of whatever a model answered."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import cast

from patchkiln.agent.builtin.clipping import one_line
from patchkiln.domain.plan import Plan
from patchkiln.domain.usage import Usage

MAX_ENTRIES = 12
MAX_ENTRY_CHARS = 400
_LIST_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+(.*\S)")


def read_plan(answer: str, usage: Usage) -> Plan:
    """Return the plan of an answer: its JSON object, or else its first line and its lists."""
    found = _json_object(answer)
    if found is not None and isinstance(found.get("intent"), str):
        return Plan(
            intent=_entry(str(found["intent"])) or "Make the change",
            steps=_entries(found.get("steps")),
            files=_entries(found.get("files")),
            risks=_entries(found.get("risks")),
            usage=usage,
        )
    lines = [line for line in answer.splitlines() if line.strip(" #*`")]
    items = [match[1] for line in lines if (match := _LIST_ITEM.match(line))]
    plain = [line for line in lines if not _LIST_ITEM.match(line)]
    intent = _entry(plain[0].strip(" #*`:") if plain else "Make the change")
    return Plan(intent=intent, steps=_entries(items), usage=usage)


def _json_object(answer: str) -> Mapping[str, object] | None:
    """Return the first JSON object, whether alone, fenced or among words."""
    decoder = json.JSONDecoder()
    for start in [match.start() for match in re.finditer(r"\{", answer)][:MAX_ENTRIES]:
        try:
            value, _ = decoder.raw_decode(answer, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return cast("Mapping[str, object]", value)
    return None


def _entries(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return ()
    texts = [_entry(_text(item)) for item in cast("Sequence[object]", value)]
    return tuple(text for text in texts if text)[:MAX_ENTRIES]


def _text(item: object) -> str:
    """Return an entry's words; models like to make objects of them."""
    if isinstance(item, Mapping):
        return " ".join(str(value) for value in cast("Mapping[str, object]", item).values())
    return str(item)


def _entry(text: str) -> str:
    return one_line(text, MAX_ENTRY_CHARS)
