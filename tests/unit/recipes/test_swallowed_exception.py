"""The rule swallowed-exception: which clauses get a voice, and through which logger."""

import pytest

from patchkiln.agent.recipes.rewrite import rewrite
from tests.unit.recipes.rewriting import BARE, SWALLOWED, TIMEOUT, after, rewrite_text, unchanged

HEAD = "import logging\n\nlogger = logging.getLogger(__name__)\n"
WARNING = 'logger.warning("Ignored an exception in f", exc_info=True)'
FUNCTION = "\n\ndef f():\n    for x in y:\n        try:\n            {body}\n        {clause}\n"


def with_clause(clause: str, *, body: str = "g()", head: str = HEAD) -> str:
    """Return a file with one function and one ``try``."""
    return head + FUNCTION.format(body=body, clause=clause)


@pytest.mark.parametrize("silent", ["pass", "..."])
@pytest.mark.parametrize("name", ["", " as error"])
def test_a_clause_that_does_nothing_logs_instead(silent: str, name: str) -> None:
    """The statement that stands for nothing is replaced."""
    clause = f"except Exception{name}:\n            "
    before = with_clause(clause + silent)
    assert after(before, SWALLOWED) == with_clause(clause + WARNING)


def test_a_clause_that_continues_logs_first() -> None:
    """The loop still goes on."""
    clause = "except Exception:\n            "
    before = with_clause(clause + "continue")
    assert after(before, SWALLOWED) == with_clause(f"{clause}{WARNING}\n            continue")


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("pass", WARNING),
        ("continue", f"{WARNING}\n            continue"),
        ("pass;", WARNING),
    ],
)
def test_a_clause_on_one_line_is_spread_over_several(before: str, expected: str) -> None:
    """The body moves to lines of its own, in the file's indent."""
    text = with_clause(f"except Exception: {before}")
    assert after(text, SWALLOWED) == with_clause(f"except Exception:\n            {expected}")


@pytest.mark.parametrize(
    "clause",
    [
        "except KeyError:\n            pass",
        "except (KeyError, Exception):\n            pass",
        "except BaseException:\n            pass",
        "except errors.Exception:\n            pass",
        "except:\n            pass",
        "except Exception:\n            return",
        "except Exception:\n            count += 1",
        "except Exception:\n            print('x')\n            pass",
        "except Exception:\n            'best effort'",
        "except Exception:  # best effort\n            pass",
        "except Exception:\n            pass  # nobody cares",
        "except Exception:\n            # nobody cares\n            pass",
        "except Exception:\n            pass\n            # nobody cares",
        "# nobody cares\n        except Exception:\n            pass",
        "except Exception: pass  # noqa: S110",
        "except* Exception:\n            pass",
    ],
)
def test_narrow_speaking_and_explained_clauses_are_left_alone(clause: str) -> None:
    """Only a broad clause that does nothing and says nothing is changed."""
    assert unchanged(with_clause(clause), SWALLOWED)


def test_a_comment_of_the_next_statement_explains_nothing() -> None:
    """A comment at the margin of the clause belongs to what follows."""
    before = with_clause("except Exception:\n            pass\n        # next\n        g()")
    assert WARNING in after(before, SWALLOWED)


@pytest.mark.parametrize(
    "body",
    ["import numpy", "from x import y\n            import z", "logger.info(x)", "logging.info(x)"],
)
def test_optional_imports_and_logging_itself_stay_silent(body: str) -> None:
    """A missing module is no failure, and logging may be what failed."""
    assert unchanged(with_clause("except Exception:\n            pass", body=body), SWALLOWED)


@pytest.mark.parametrize(
    ("body", "end"),
    [
        ("size = x.size", ""),
        ("value = x['key']", ""),
        ("del x.cache", ""),
        ("value = g(x)", "\n        else:\n            return value"),
    ],
)
def test_probing_stays_silent(body: str, end: str) -> None:
    """Where an exception is one of two ordinary answers, a warning would be noise."""
    clause = f"except Exception:\n            pass{end}"
    assert unchanged(with_clause(clause, body=body), SWALLOWED)


def test_contextlib_suppress_stays() -> None:
    """It says what it means."""
    assert unchanged(
        "import contextlib\nwith contextlib.suppress(Exception):\n    f()\n", SWALLOWED
    )


@pytest.mark.parametrize("name", ["__del__", "emit", "handleError"])
def test_functions_in_which_logging_is_unsafe_are_left_alone(name: str) -> None:
    """While the interpreter ends, or inside of logging itself, nothing may be logged."""
    text = with_clause("except Exception:\n            pass").replace("def f", f"def {name}")
    assert unchanged(text, SWALLOWED)


@pytest.mark.parametrize(
    "path", ["app/logging.py", "log.py", "app/log_setup.py", "app/json_logger.py"]
)
def test_modules_that_set_logging_up_are_left_alone(path: str) -> None:
    """Their loggers may not be ready."""
    assert unchanged(with_clause("except Exception:\n            pass"), SWALLOWED, path=path)


@pytest.mark.parametrize("path", ["app/login.py", "blog.py", "app/catalog.py"])
def test_other_modules_with_the_letters_in_their_name_are_not(path: str) -> None:
    """The word is looked for, not its letters."""
    assert not unchanged(with_clause("except Exception:\n            pass"), SWALLOWED, path=path)


@pytest.mark.parametrize("base", ["logging.Handler", "logging.Formatter", "logging.Logger"])
def test_parts_of_a_logging_system_are_left_alone(base: str) -> None:
    """A handler that logs its own failure may never end."""
    text = (
        with_clause("except Exception:\n            pass") + f"\n\nclass Own({base}):\n    x = 1\n"
    )
    assert unchanged(text, SWALLOWED)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        ("import logging\n\nlog = logging.getLogger('app')\n", "log"),
        ("from logging import getLogger\n_LOGGER = getLogger()\n", "_LOGGER"),
        ("import logging as l\nlogger = l.getLogger(__name__)\n", "logger"),
        ("import logging\nspeaker = logging.getLogger(__name__)\n", "speaker"),
        ("import logging\nlogger: logging.Logger = logging.getLogger(__name__)\n", "logger"),
    ],
)
def test_the_files_own_logger_is_used(head: str, name: str) -> None:
    """Whatever it is called, nothing is added beside it."""
    clause = "except Exception:\n            "
    before = with_clause(clause + "pass", head=head)
    expected = with_clause(clause + WARNING.replace("logger", name), head=head)
    assert after(before, SWALLOWED) == expected


@pytest.mark.parametrize(
    "head",
    [
        "from app import logger\n",
        "import structlog\n\nlog = structlog.get_logger()\n",
        "from loguru import logger\n",
        "import logging\nlogger = logging.getLogger(__name__)\nlogger = None\n",
        "import logging\nif x:\n    logger = logging.getLogger(__name__)\n",
        "def logger(): pass\n",
        "def g(logger): pass\n",
        "import logger\n",
        "from app import logging\n",
        "logging = None\n",
        "def g():\n    import logging\n",
        "from app import *\nlogging.info('x')\n",
        "import logging\nlogger = logging.getLogger(__name__)\nException = g()\n",
        "def g(logging): pass\n",
        "import logging\nlogging = g()\n",
    ],
)
def test_a_name_that_means_something_else_is_in_the_way(head: str) -> None:
    """Nothing is shadowed, and an unknown way of logging is not used."""
    assert unchanged(with_clause("except Exception:\n            pass", head=head), SWALLOWED)


def test_a_logger_for_another_purpose_is_not_used() -> None:
    """An audit log is not for failures; the file gets a logger of its own beside it."""
    head = "import logging\n\naudit = logging.getLogger('audit')\n"
    result = after(with_clause("except Exception:\n            pass", head=head), SWALLOWED)
    assert "logger = logging.getLogger(__name__)\n" in result
    assert WARNING in result


def test_a_clause_that_runs_before_the_logger_exists_is_left_alone() -> None:
    """At import time names come into being from top to bottom."""
    early = "try:\n    f()\nexcept Exception:\n    pass\n"
    assert unchanged(f"import logging\n{early}\nlogger = logging.getLogger(__name__)\n", SWALLOWED)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        # Nothing at the top: the import comes first.
        ("", "import logging\n\n{logger}\n\n"),
        (
            '"""Doc."""\n\n\n',
            '"""Doc."""\n\nimport logging\n\n{logger}\n\n',
        ),
        (
            '"""Doc."""\n',
            '"""Doc."""\n\nimport logging\n\n{logger}\n\n',
        ),
        (
            "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n\n",
            ("#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n\nimport logging\n\n{logger}\n\n"),
        ),
        (
            "# licence\n\n# about f\n",
            "# licence\n\nimport logging\n\n{logger}\n\n# about f\n",
        ),
        ("# licence\n", "# licence\n\nimport logging\n\n{logger}\n\n"),
        (
            "# licence\nimport attr\n\n\n",
            "# licence\nimport logging\n\nimport attr\n\n{logger}\n\n",
        ),
        # Among imports: sorted into the standard library's.
        (
            "import json\nimport os\n\n\n",
            "import json\nimport logging\nimport os\n\n{logger}\n\n",
        ),
        (
            "import json\nfrom os import path\n\nimport attr\n\n\n",
            ("import json\nimport logging\nfrom os import path\n\nimport attr\n\n{logger}\n\n"),
        ),
        (
            "import json\n\n\n",
            "import json\nimport logging\n\n{logger}\n\n",
        ),
        (
            "import json\nimport requests\n\n\n",
            "import json\nimport logging\nimport requests\n\n{logger}\n\n",
        ),
        (
            "import attr\nfrom . import x\n\n\n",
            "import logging\n\nimport attr\nfrom . import x\n\n{logger}\n\n",
        ),
        # After what must come first.
        (
            '"""Doc."""\nfrom __future__ import annotations\n\n__all__ = []\n\nimport sys\n\n\n',
            (
                '"""Doc."""\nfrom __future__ import annotations\n\n__all__ = []\n\n'
                "import logging\nimport sys\n\n{logger}\n\n"
            ),
        ),
        (
            "from __future__ import annotations\n\n\n",
            ("from __future__ import annotations\n\nimport logging\n\n{logger}\n\n"),
        ),
        # After imports with a fallback or under a condition.
        (
            "import sys\n\ntry:\n    import attr\nexcept ImportError:\n    attr = None\n\n\n",
            (
                "import logging\nimport sys\n\n"
                "try:\n    import attr\nexcept ImportError:\n    attr = None\n\n"
                "{logger}\n\n"
            ),
        ),
        (
            "import sys\nif TYPE_CHECKING:\n    import attr\n\n\n",
            ("import logging\nimport sys\nif TYPE_CHECKING:\n    import attr\n\n{logger}\n\n"),
        ),
        # Where logging is imported already.
        (
            "import logging.config\nimport sys\n\n\n",
            "import logging.config\nimport sys\n\n{logger}\n\n",
        ),
        (
            "X = 1\nimport logging\nY = 2\n\n\n",
            "X = 1\nimport logging\n\n{logger}\nY = 2\n\n\n",
        ),
        # Statements that share lines are not torn apart.
        (
            'import sys; X = """\n"""\n\n\n',
            'import logging\nimport sys; X = """\n"""\n\n{logger}\n\n',
        ),
        (
            "import sys\nX = 1\n\n\n",
            "import logging\nimport sys\n\n{logger}\nX = 1\n\n\n",
        ),
    ],
)
def test_a_new_logger_comes_where_a_person_would_put_it(before: str, expected: str) -> None:
    """The import is sorted in, and the logger follows the block of imports."""
    function = "def f():\n    try:\n        g()\n    except Exception:\n        {body}\n"
    head = expected.replace("{logger}", "logger = logging.getLogger(__name__)\n")
    result = after(before + function.format(body="pass"), SWALLOWED)
    assert result == head + function.format(body=WARNING)


@pytest.mark.parametrize(
    ("before", "where"),
    [
        ("class A:\n    async def m(self):\n        {t}", " in A.m"),
        ("def f():\n    def g():\n        {t}", " in f.g"),
        ("if x:\n        {t}", ""),
        ("class A:\n        {t}", " in A"),
    ],
)
def test_the_message_names_the_function(before: str, where: str) -> None:
    """A reader of the log finds the place."""
    clause = "try:\n            h()\n        except Exception:\n            pass\n"
    result = after(f"{HEAD}\n\n{before.format(t=clause)}", SWALLOWED)
    assert f'logger.warning("Ignored an exception{where}", exc_info=True)' in result


def test_one_logger_serves_all_clauses_of_a_file() -> None:
    """Two swallowed exceptions add one logger, and their lines are told as they were."""
    text = "".join(
        f"def f{n}():\n    try:\n        g()\n    except Exception:\n        pass\n" for n in (1, 2)
    )
    result = rewrite_text(text, SWALLOWED)
    assert result.data.decode().count("getLogger") == 1
    assert result.applied[0].lines == (4, 9)


def test_lines_that_another_rule_has_added_are_not_counted() -> None:
    """Every rule tells the lines of the file as it was before the first."""
    text = "import requests\nrequests.get(\n    url,\n)\n\n\n" + with_clause(
        "except Exception:\n            pass", head=""
    )
    result = rewrite_text(text, TIMEOUT, SWALLOWED)
    assert [applied.lines for applied in result.applied] == [(2,), (13,)]


def test_a_narrowed_bare_clause_is_heard() -> None:
    """The rules work together: ``except: pass`` ends as a logged ``except Exception``."""
    before = with_clause("except:\n            pass")
    expected = with_clause(f"except Exception:\n            {WARNING}")
    assert after(before, BARE, SWALLOWED) == expected


def test_a_directory_that_hides_logging_gets_no_logger() -> None:
    """A script beside a logging.py would import that instead of the standard library's."""
    text = FUNCTION.format(body="g()", clause="except Exception:\n            pass").encode()
    hidden = rewrite(text, [SWALLOWED], shadowed=frozenset({"logging"}))
    assert hidden.data == text
    assert rewrite(text, [SWALLOWED]).data != text
