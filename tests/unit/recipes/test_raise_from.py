"""The rule raise-from: which exceptions get a cause, under which name, and which do not."""

import pytest

from tests.unit.recipes.rewriting import BARE, CAUSE, after, rewrite_text, unchanged

CLAUSE = "try:\n    f()\nexcept KeyError{name}:\n    {body}\n"


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        ("raise ValueError('x')", "raise ValueError('x') from error"),
        ("raise ValueError", "raise ValueError from error"),
        ("raise errors.NotFound('x')", "raise errors.NotFound('x') from error"),
        ("raise self.Missing(error)", "raise self.Missing(error) from error"),
        ("raise Http404()  # gone", "raise Http404() from error  # gone"),
        ("raise ValueError('x') ; g()", "raise ValueError('x') from error ; g()"),
        ("raise(ValueError('x'))", "raise(ValueError('x')) from error"),
        (
            "raise ValueError(\n        'x'\n    )",
            "raise ValueError(\n        'x'\n    ) from error",
        ),
    ],
)
def test_a_new_exception_names_the_caught_one_as_its_cause(raised: str, expected: str) -> None:
    """An exception made in a clause gets ``from`` and the name that the clause has."""
    before = CLAUSE.format(name=" as error", body=raised)
    assert after(before, CAUSE) == CLAUSE.format(name=" as error", body=expected)


@pytest.mark.parametrize(
    "raised",
    [
        "raise",
        "raise error",
        "raise saved",
        "raise self.error",
        "raise ValueError('x') from None",
        "raise ValueError('x') from other",
        "raise wrap(error)",
        "raise self.translate(error)",
        "raise ApiError.from_response(error)",
        "raise ValueError('x').with_traceback(None)",
        "raise type(error)('x')",
        "raise SystemExit(1)",
        "raise KeyboardInterrupt",
        "raise StopIteration",
        "raise StopAsyncIteration()",
        "raise errors.TIMEOUT",
        "raise Unknown",
        "raise kinds[0]('x')",
        "raise ValueError('x')  # noqa: B904",
        "raise ValueError('x')  # noqa",
        "raise ValueError('x')  # pylint: disable=raise-missing-from",
        "handler = lambda: fail(ValueError('x'))",
        "def later():\n        raise ValueError('x')",
        "class Later:\n        raise ValueError('x')",
        "error = g()\n    raise ValueError('x')",
        "del error\n    raise ValueError('x')",
        "for error in g():\n        pass\n    raise ValueError('x')",
        "with g() as error:\n        pass\n    raise ValueError('x')",
        "import error\n    raise ValueError('x')",
        "match g():\n        case error:\n            pass\n    raise ValueError('x')",
        "(error := g())\n    raise ValueError('x')",
    ],
)
def test_what_may_not_be_a_new_exception_or_its_cause_is_left_alone(raised: str) -> None:
    """Caught, kept, made by functions, steering, silenced, later and rebound ones stay."""
    assert unchanged(CLAUSE.format(name=" as error", body=raised), CAUSE)


@pytest.mark.parametrize(
    "text",
    [
        (
            "def Problem():\n    return made\n\n"
            "try:\n    f()\nexcept KeyError as e:\n    raise Problem()\n"
        ),
        "Problem = made\ntry:\n    f()\nexcept KeyError as e:\n    raise Problem\n",
        (
            "def f(ValueError):\n    try:\n        g()\n    except KeyError as e:\n"
            "        raise ValueError\n"
        ),
        (
            "from __future__ import print_function\ntry:\n    f()\nexcept KeyError as e:\n"
            "    raise ValueError('x')\n"
        ),
        "try:\n    f()\nexcept* KeyError as e:\n    raise ValueError('x')\n",
        "try:\n    f()\nexcept:\n    raise ValueError('x')\n",
        "try:\n    f()\nfinally:\n    raise ValueError('x')\n",
        "try:\n    f()\nexcept KeyError:\n    pass\nelse:\n    raise ValueError('x')\n",
        "try:\n    raise ValueError('x')\nexcept KeyError:\n    pass\n",
        "raise ValueError('x')\n",
        "import errors\ntry:\n    f()\nexcept KeyError as e:\n    raise errors.TIMEOUT\n",
    ],
)
def test_a_raise_that_has_no_sure_cause_is_left_alone(text: str) -> None:
    """Factories, variables, Python 2, groups, bare clauses and other blocks are not touched."""
    assert unchanged(text, CAUSE)


@pytest.mark.parametrize("binding", ["class Problem(Exception): pass", "from x import Problem"])
def test_a_class_of_the_file_can_be_raised_without_a_call(binding: str) -> None:
    """A bare name counts where nothing but a class or an import gives it its value."""
    before = f"{binding}\ntry:\n    f()\nexcept KeyError as e:\n    raise Problem\n"
    assert after(before, CAUSE) == before.replace("raise Problem", "raise Problem from e")


def test_a_clause_without_a_name_gets_one() -> None:
    """The name is the first customary one, and nothing else on the line changes."""
    before = CLAUSE.format(name="", body="raise ValueError('x')").replace(
        ":\n    r", ":  # hm\n    r"
    )
    assert after(before, CAUSE) == (
        "try:\n    f()\nexcept KeyError as exc:  # hm\n    raise ValueError('x') from exc\n"
    )


def test_the_name_follows_the_custom_of_the_file() -> None:
    """A clause is named as most of the file's named clauses are."""
    before = """
        def f():
            try:
                g()
            except KeyError as err:
                log(err)
        def h():
            try:
                g()
            except (KeyError, TypeError):
                raise ValueError("x")
    """
    assert 'except (KeyError, TypeError) as err:\n        raise ValueError("x") from err' in after(
        before, CAUSE
    )


def test_an_odd_name_of_one_clause_is_no_custom() -> None:
    """A name that is not customary anywhere is not taken over."""
    before = """
        try:
            g()
        except KeyError as group:
            log(group)
        try:
            g()
        except KeyError:
            raise ValueError("x")
    """
    assert 'except KeyError as exc:\n    raise ValueError("x") from exc' in after(before, CAUSE)


@pytest.mark.parametrize(
    "use",
    [
        "exc = 1",
        "print(exc)",
        "def g(exc): pass",
        "global exc",
        "import exc",
        "call(lambda exc: 1)",
        "[exc for exc in x]",
    ],
)
def test_a_name_that_is_in_use_around_the_clause_is_not_taken(use: str) -> None:
    """The clause would delete the name at its end, so that the next customary one is used."""
    before = f"""
        def f():
            {use}
            try:
                g()
            except KeyError:
                raise ValueError("x")
    """
    assert "except KeyError as err:" in after(before, CAUSE)


def test_a_name_in_use_in_another_function_is_free() -> None:
    """Each function has its own names."""
    before = """
        def f(exc):
            return exc
        def g():
            try:
                h()
            except KeyError:
                raise ValueError("x")
    """
    assert "except KeyError as exc:" in after(before, CAUSE)


def test_no_name_is_added_where_none_is_free() -> None:
    """With all customary names in use the clause stays as it is."""
    assert unchanged(
        """
        def f(exc, err, error):
            try:
                g()
            except KeyError:
                raise ValueError("x")
        """,
        CAUSE,
    )


@pytest.mark.parametrize("call", ["locals()", "vars()", "eval('x')", "exec('x')", "dir()"])
def test_no_name_is_added_where_the_program_looks_at_its_names(call: str) -> None:
    """A new local variable could be seen."""
    assert unchanged(
        f"""
        def f():
            try:
                g()
            except KeyError:
                raise ValueError({call})
        """,
        CAUSE,
    )


def test_names_in_the_module_are_free_only_if_the_whole_file_leaves_them() -> None:
    """A clause outside of functions binds a global name, which a function may read."""
    before = """
        def f():
            return exc
        try:
            g()
        except KeyError:
            raise ValueError("x")
    """
    assert "except KeyError as err:" in after(before, CAUSE)


def test_nested_clauses_get_different_names() -> None:
    """The inner clause deletes its name at its end, while the outer one still needs its own."""
    before = """
        try:
            f()
        except KeyError:
            try:
                g()
            except TypeError:
                raise RuntimeError("a")
            raise ValueError("b")
    """
    result = after(before, CAUSE)
    assert 'except TypeError as exc:\n        raise RuntimeError("a") from exc' in result
    assert "except KeyError as err:" in result
    assert 'raise ValueError("b") from err' in result


def test_a_name_that_an_inner_clause_deletes_is_no_cause() -> None:
    """``from error`` would fail with UnboundLocalError after the inner clause."""
    assert unchanged(
        """
        try:
            f()
        except KeyError as error:
            try:
                g()
            except TypeError as error:
                pass
            raise ValueError("b")
        """,
        CAUSE,
    )


@pytest.mark.parametrize("outer", ["", " as exc"])
def test_an_inner_clause_does_not_take_the_name_of_the_outer_one(outer: str) -> None:
    """Whether the outer clause had its name or has just been given it, it still needs it."""
    before = f"""
        try:
            f()
        except KeyError{outer}:
            if x:
                raise ValueError("a")
            try:
                g()
            except TypeError:
                raise RuntimeError("b")
            raise ValueError("c")
    """
    result = after(before, CAUSE)
    assert "except KeyError as exc:" in result
    assert "except TypeError as err:" in result
    assert result.count("from exc") == 2


def test_a_name_that_the_outer_clause_uses_later_is_not_taken() -> None:
    """The inner clause would delete it."""
    before = """
        try:
            f()
        except KeyError as exc:
            try:
                g()
            except TypeError:
                raise RuntimeError("b")
            log(exc)
    """
    assert "except TypeError as err:" in after(before, CAUSE)


def test_clauses_side_by_side_share_a_name() -> None:
    """The name of one clause is free again in the next."""
    before = """
        try:
            f()
        except KeyError:
            raise ValueError("a")
        except TypeError:
            raise ValueError("b")
    """
    assert after(before, CAUSE).count("as exc:") == 2


def test_a_raise_in_a_nested_block_belongs_to_the_innermost_clause() -> None:
    """Conditions, loops and ``with`` do not hide the clause; an inner ``try`` body does not."""
    before = """
        try:
            f()
        except KeyError as outer:
            with g():
                if h():
                    raise ValueError("a")
            try:
                raise TypeError("b")
            except TypeError as inner:
                raise RuntimeError("c")
    """
    result = after(before, CAUSE)
    for line in ('ValueError("a") from outer', 'TypeError("b") from outer'):
        assert f"raise {line}\n" in result
    assert 'raise RuntimeError("c") from inner\n' in result


def test_a_raise_in_a_function_in_a_clause_is_not_the_clauses() -> None:
    """A function that is defined in a clause runs later, but has clauses of its own."""
    before = """
        try:
            f()
        except KeyError:
            def later():
                try:
                    g()
                except TypeError:
                    raise ValueError("x")
    """
    result = after(before, CAUSE)
    assert "except KeyError:" in result
    assert 'except TypeError as exc:\n            raise ValueError("x") from exc\n' in result


def test_a_narrowed_bare_clause_can_name_its_cause() -> None:
    """The rules work together: ``except:`` becomes a clause that can have a name."""
    before = "try:\n    f()\nexcept:\n    raise ValueError('x')\n"
    expected = "try:\n    f()\nexcept Exception as exc:\n    raise ValueError('x') from exc\n"
    assert after(before, BARE, CAUSE) == expected


def test_the_lines_that_are_told_are_those_of_the_raises() -> None:
    """Naming a clause is not counted as a place of its own."""
    text = CLAUSE.format(name="", body="raise ValueError('x')")
    (applied,) = rewrite_text(text, CAUSE).applied
    assert (applied.rule, applied.lines) == ("raise-from", (4,))


def test_columns_are_counted_in_characters() -> None:
    """Letters of several bytes before a place do not hide it."""
    before = "try:\n    f()\nexcept KeyError as e:\n    'äöü€😀'; raise ValueError('ß')\n"
    assert after(before, CAUSE) == before.replace("('ß')", "('ß') from e")
