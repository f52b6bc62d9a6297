"""What the agent says: plans, refusals, updates and the last word."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from patchkiln.agent.recipes.files import is_named
from patchkiln.agent.recipes.recipe import Recipe, Request
from patchkiln.agent.recipes.registry import RECIPES
from patchkiln.agent.recipes.survey import FileEdit, LeftAlone, Survey, count_rules
from patchkiln.domain.event import EventType
from patchkiln.domain.patch import printable
from patchkiln.domain.plan import Plan, Refusal
from patchkiln.domain.project import Project
from patchkiln.errors import ModelNotConfigured
from patchkiln.ports.agent import AgentUpdate

NO_MODEL = "no language model was used"
MAX_TOLD_FILES = 50
_SET_A_MODEL = ModelNotConfigured.default_remedy


def plan_of(recipe: Recipe, survey: Survey) -> Plan:
    """Return a survey as a plan."""
    counts = count_rules(survey.edits)
    files = Counter(applied.rule for edit in survey.edits for applied in edit.applied)
    steps = [
        f"{rule.title} ({rule.id}): {_places(counts[rule.id])} in {_files(files[rule.id])}"
        for rule in recipe.rules
        if counts[rule.id]
    ]
    risks = [rule.risk for rule in recipe.rules if counts[rule.id]]
    return Plan(
        intent=f"{recipe.intent}; {NO_MODEL}",
        steps=tuple(steps) or (f"Change nothing: {_nothing_found(survey)}",),
        files=tuple(edit.path for edit in survey.edits),
        risks=(*risks, *survey.limits, *_left_alone(survey)),
    )


def refused(refusal: Refusal) -> Plan:
    """Return a plan that does nothing."""
    return Plan(intent=refusal.reason, refusal=refusal)


def prompt_not_recognised() -> Refusal:
    """Refuse a prompt that no recipe knows, and say what would help."""
    examples = ", ".join(f'"{recipe.example}"' for recipe in RECIPES)
    return Refusal(
        code="prompt_not_recognised",
        reason=f"No recipe knows this prompt, and the agent 'recipes' has no language model. "
        f"Known: {examples} (Python).",
        remedy=f"Send a known prompt, or use the agent 'builtin'. {_SET_A_MODEL}",
    )


def nowhere_to_look(project: Project, request: Request, survey: Survey) -> Refusal | None:
    """Refuse where there is no file that the recipe could ever change."""
    if survey.looked_at or survey.left_alone:
        return None
    meant = [path for path in project.paths if not request.paths or is_named(path, request.paths)]
    if request.paths and not meant:
        return Refusal(
            code="path_not_found",
            reason=f"The prompt names '{request.paths[0]}', and the repository has no such file.",
            remedy="Name a path relative to the repository's root, or none at all.",
        )
    if any(path.endswith(".py") for path in meant):
        return None
    return Refusal(
        code="language_not_supported",
        reason="The recipe rewrites Python, and there is no Python file.",
        remedy=f"Use the agent 'builtin'. {_SET_A_MODEL}",
    )


def caveats(survey: Survey) -> Iterator[AgentUpdate]:
    """Tell what was not looked at, a bounded number of files by name."""
    for limit in survey.limits:
        yield AgentUpdate(
            event="agent.search_limited",
            message=limit,
            type=EventType.WARNING,
            data={"looked_at": survey.looked_at},
        )
    yield from map(skipped, survey.left_alone[:MAX_TOLD_FILES])


def skipped(item: LeftAlone) -> AgentUpdate:
    """Tell of a file that stays as it is."""
    path = printable(item.path)
    return AgentUpdate(
        event="agent.file_skipped",
        message=f"Left {path} alone: {item.reason}",
        type=EventType.WARNING,
        data={"path": path, "reason": item.reason},
    )


def edited(edit: FileEdit) -> AgentUpdate:
    """Tell of a file that was written."""
    counts = Counter({applied.rule: len(applied.lines) for applied in edit.applied})
    return AgentUpdate(
        event="agent.file_edited",
        message=f"Edited {edit.path}: {_rules(counts)}",
        data={
            "path": edit.path,
            "created": False,
            "rules": [
                {"rule": applied.rule, "count": len(applied.lines), "lines": list(applied.lines)}
                for applied in edit.applied
            ],
        },
    )


def last_word(survey: Survey, edits: Sequence[FileEdit]) -> str:
    """Return what was done, in one sentence or two."""
    counts = count_rules(edits)
    if not edits:
        return f"{_nothing_found(survey).capitalize()}; {NO_MODEL}."
    alone = len(survey.left_alone)
    kept = f" {_files(alone)} left alone." if alone else ""
    return f"{_files(len(edits))} changed by rules {_rules(counts)}; {NO_MODEL}.{kept}"


def _nothing_found(survey: Survey) -> str:
    return (
        f"the rules found nothing to change in {_files(survey.looked_at)} with error handling or "
        "requests; tests and third-party code are left alone"
    )


def _rules(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{rule} ({count})" for rule, count in counts.items())


def _left_alone(survey: Survey) -> Iterator[str]:
    if survey.left_alone:
        first = survey.left_alone[0]
        yield (
            f"{_files(len(survey.left_alone))} left alone, first {printable(first.path)}: "
            f"{first.reason}."
        )


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _places(count: int) -> str:
    return "1 place" if count == 1 else f"{count} places"
