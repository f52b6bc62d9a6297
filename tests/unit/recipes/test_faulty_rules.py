"""The nets under every rule: a faulty one changes nothing, and its file is told."""

from collections.abc import Iterator

import libcst as cst
import pytest

from patchkiln.agent.recipes.python_module import PythonModule
from patchkiln.agent.recipes.recipe import Edit, Finding, Insertion, Rule
from patchkiln.agent.recipes.rewrite import rewrite
from patchkiln.agent.recipes.source import Unfit

TEXT = b"if a:\n    b()\n    c()\n"


class Renaming(Edit):
    """Replaces a name."""

    def leave_Name(  # noqa: N802 - libcst's name
        self, original_node: cst.Name, updated_node: cst.Name
    ) -> cst.Name:
        """Write the wanted text."""
        text = self.wanted_at(original_node)
        return updated_node if text is None else updated_node.with_changes(value=text)

    def on_visit(self, node: cst.CSTNode) -> bool:
        """Go everywhere."""
        return True


def rule(find: Finding, *, insert: tuple[Insertion, ...] = (), once: bool = True) -> Rule:
    """Return a rule that finds one place, in the untouched text alone if ``once``."""

    def found(module: PythonModule) -> Iterator[Finding]:
        if not once or module.text.encode() == TEXT:
            yield find

    return Rule(
        id="faulty",
        title="Be faulty",
        risk="None.",
        find=found,
        edit=Renaming,
        insert=lambda _module: insert,
    )


def finding(place: tuple[int, int] = (2, 4), text: str = "d") -> Finding:
    """Return a finding in the block of the text."""
    return Finding(line=2, place=place, first_line=2, last_line=2, text=text)


def test_a_sound_rule_is_applied() -> None:
    """The rule that the others are made from works."""
    assert rewrite(TEXT, [rule(finding())]).data == TEXT.replace(b"b()", b"d()")


@pytest.mark.parametrize(
    ("faulty", "expected"),
    [
        (rule(finding(place=(2, 5))), "not found again"),
        (rule(finding(place=(9, 0))), "not found again"),
        (rule(finding(text="def")), "no valid Python"),
        (rule(finding(text="return 1; d")), "no valid Python"),
        (rule(finding(), once=False), "second pass"),
        (rule(finding(), insert=(Insertion(after_line=1, text="x = = 1\n"),)), "no valid Python"),
        (
            rule(
                Finding(line=1, place=(2, 4), first_line=1, last_line=3, text="d"),
                insert=(Insertion(after_line=2, text="    x\n"),),
            ),
            "overlap",
        ),
    ],
)
def test_a_faulty_rule_changes_nothing(faulty: Rule, expected: str) -> None:
    """Wrong places, broken results, endless passes and torn statements all end in a reason."""
    with pytest.raises(Unfit, match=expected):
        rewrite(TEXT, [faulty])
