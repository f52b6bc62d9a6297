"""The rule bare-except: which clauses are narrowed, and which may have been meant."""

import pytest

from tests.unit.recipes.rewriting import BARE, after, unchanged

TRY = """
def f():
    for x in y:
        try:
            {body}
        except:
            {clause}
"""
NARROW = TRY.replace("except:", "except Exception:")


@pytest.mark.parametrize(
    "clause",
    ["pass", "return None", "continue", "print('failed')", "log.exception('x')", "ok = False"],
)
@pytest.mark.parametrize("body", ["g()", "import numpy", "value = int(', '.join(x))"])
def test_an_ordinary_bare_clause_is_narrowed(body: str, clause: str) -> None:
    """Only the missing class is written."""
    before = TRY.format(body=body, clause=clause)
    assert after(before, BARE) == NARROW.format(body=body, clause=clause)[1:]


@pytest.mark.parametrize(
    "clause",
    [
        "raise",
        "log('x')\n            raise",
        "if x:\n                raise",
        "sys.exit(1)",
        "os._exit(1)",
        "exit()",
        "quit()",
        "connection.rollback()",
        "handle.close()",
        "os.unlink(path)",
        "shutil.rmtree(path)",
        "process.kill()",
        "process.terminate()",
        "lock.release()",
        "self._cleanup()",
        "self.shutdown()",
        "self.tearDown()",
        "self.error = sys.exc_info()",
        "future.set_exception(x)",
    ],
)
def test_a_clause_that_cleans_up_or_leaves_stays_bare(clause: str) -> None:
    """It may have to run at Ctrl-C and program exit, too."""
    assert unchanged(TRY.format(body="g()", clause=clause), BARE)


@pytest.mark.parametrize(
    "body",
    [
        "yield x",
        "yield from x",
        "while True:\n                g()",
        "sys.exit(g())",
        "raise SystemExit",
        "raise KeyboardInterrupt",
        "options = parser.parse_args()",
        "parser.parse_known_args(x)",
        "main()",
        "unittest.main()",
        "app.run()",
        "server.serve_forever()",
        "loop.run_until_complete(g())",
        "time.sleep(1)",
        "answer = input()",
        "exec(code)",
        "__import__(name)",
        "importlib.import_module(name)",
        "runpy.run_path(path)",
        "spec.loader.exec_module(module)",
    ],
)
def test_statements_that_end_by_more_than_exceptions_stay_protected(body: str) -> None:
    """Program exit, Ctrl-C and closed generators may be part of their ordinary work."""
    assert unchanged(TRY.format(body=body, clause="pass"), BARE)


@pytest.mark.parametrize("body", ["await g()", "async with g(): pass", "async for x in g(): pass"])
def test_statements_that_can_be_cancelled_stay_protected(body: str) -> None:
    """A cancelled task ends with an exception that is no Exception."""
    text = f"async def f():\n    try:\n        {body}\n    except:\n        pass\n"
    assert unchanged(text, BARE)


@pytest.mark.parametrize(
    "earlier",
    [
        "Exception",
        "BaseException",
        "KeyboardInterrupt",
        "(KeyboardInterrupt, SystemExit)",
        "GeneratorExit",
        "asyncio.CancelledError",
    ],
)
def test_a_bare_clause_after_a_broad_one_is_meant(earlier: str) -> None:
    """Whoever named one of them before has thought of the others."""
    assert unchanged(f"try:\n    f()\nexcept {earlier}:\n    g()\nexcept:\n    pass\n", BARE)


def test_a_bare_clause_after_a_narrow_one_is_narrowed() -> None:
    """Other classes before it say nothing about exits."""
    before = "try:\n    f()\nexcept KeyError:\n    g()\nexcept:\n    pass\n"
    assert after(before, BARE) == before.replace("except:", "except Exception:")


@pytest.mark.parametrize("comment", ["# noqa", "# noqa: E722", "# NOQA:E722,B001", "# nosec"])
def test_a_silenced_clause_stays_bare(comment: str) -> None:
    """The author has told a linter that it is meant."""
    assert unchanged(f"try:\n    f()\nexcept:  {comment}\n    pass\n", BARE)


def test_another_rules_silence_does_not_count() -> None:
    """A comment for another rule says nothing about this one."""
    before = "try:\n    f()\nexcept:  # noqa: F401\n    pass\n"
    assert "except Exception:  # noqa: F401" in after(before, BARE)


@pytest.mark.parametrize("binding", ["Exception = g()", "class Exception: pass"])
def test_nothing_is_narrowed_where_exception_means_something_else(binding: str) -> None:
    """The class would not be the built-in one."""
    assert unchanged(f"{binding}\ntry:\n    f()\nexcept:\n    pass\n", BARE)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("except :", "except Exception:"),
        ("except: # why", "except Exception: # why"),
        ("except  :", "except Exception:"),
    ],
)
def test_the_rest_of_the_line_stays(before: str, expected: str) -> None:
    """Comments and what follows are kept."""
    text = f"try:\n    f()\n{before}\n    g()\n"
    assert after(text, BARE) == text.replace(before, expected)


def test_a_clause_on_one_line_is_narrowed() -> None:
    """The body may follow on the same line."""
    assert after("try: f()\nexcept: g()\n", BARE) == "try: f()\nexcept Exception: g()\n"


def test_every_clause_is_judged_for_itself() -> None:
    """An inner clause is narrowed while the outer one, which raises again, stays."""
    before = """
        try:
            try:
                f()
            except:
                g()
        except:
            raise
    """
    result = after(before, BARE)
    assert "    except Exception:\n        g()\nexcept:\n    raise\n" in result
